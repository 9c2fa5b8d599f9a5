"""From a prepared film to a decision: exact evidence, honest scores, rules in their order."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from bench.attribution import Margin, captum_grids, grad_cam_grids, members
from models.architectures import FAMILIES, build
from models.cards import Member, PrecisionConstants
from models.ensemble import Ensemble
from models.errors import ModelError
from models.explain import explain
from models.registry import find_model, load_model
from models.weights import read_weights, write_weights
from worker.errors import ConfigError, DeviceLost
from worker.imaging.decode import decode
from worker.imaging.prepare import model_input
from worker.inference.decide import decide
from worker.inference.engine import Engine, choose_device
from worker.inference.guard import Guard, odds
from worker.records import Decision, Prediction, Reason, Refusal, Tags

SIZE = 96


@pytest.fixture(scope="module")
def films():
    """Five smooth random films, float32 (5, S, S) in [0, 1]."""
    coarse = np.random.default_rng(3).random((5, 6, 6)).astype(np.float32)
    return coarse.repeat(SIZE // 6, axis=1).repeat(SIZE // 6, axis=2)


@pytest.fixture(scope="module")
def engine(tiny_model):
    return Engine(load_model(tiny_model), "cpu", "float32")


@pytest.fixture(scope="module")
def predictions(engine, films):
    return engine.predict(films)


ORACLES = [grad_cam_grids, captum_grids]  # of two makes, both × cells


@pytest.mark.parametrize("oracle", ORACLES)
def test_evidence_is_grad_cam_times_slope_and_cells(oracle, engine, predictions, films, tiny_model):
    margin = Margin(members(load_model(tiny_model)))
    found = np.stack([prediction.evidence for prediction in predictions])
    scaled = engine.card.calibration.slope * oracle(margin, films)
    np.testing.assert_allclose(found, scaled, rtol=1e-4, atol=1e-3)  # folding: 3e-4 of 6
    assert found.std() > 0.01  # two maps of zeros would agree too


@pytest.mark.parametrize("oracle", ORACLES)
def test_so_it_is_with_the_shipped_weights_on_real_films(oracle, sample_films):
    model = load_model(find_model("default"))
    engine, constants = Engine(model, "cpu", "float32"), model.card.input
    low, high = constants.low_percentile, constants.high_percentile
    paths = [sorted((sample_films / label).iterdir())[0] for label in ("NORMAL", "PNEUMONIA")]
    films = np.stack(
        [model_input(decode(p.read_bytes()).pixels, constants.size_px, low, high) for p in paths]
    )
    found = np.stack([prediction.evidence for prediction in engine.predict(films)])
    scaled = model.card.calibration.slope * oracle(Margin(members(model)), films)
    np.testing.assert_allclose(found, scaled, atol=1e-3)  # log-odds; shown on a scale to 8
    assert np.ptp(found) > 1


@pytest.mark.parametrize("oracle", ORACLES)
def test_grad_cam_of_a_mean_margin_is_the_mean_of_the_members_maps(oracle, films):
    pair = [random_network("mobilenet_v2", seed) for seed in (1, 2)]
    alone = [oracle(Margin([member]), films[:1]) for member in pair]
    both = oracle(Margin(pair), films[:1])
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-4 * np.abs(both).max())
    assert np.abs(alone[0] - alone[1]).max() > 0.1 * np.abs(both).max()


def random_network(architecture, seed):
    """For films of 64 pixels and, where the architecture takes any size, others."""
    torch.manual_seed(seed)
    classifier = build(architecture, 64, 0.449, 0.226).eval()
    for layer in [m for m in classifier.modules() if isinstance(m, torch.nn.Linear)]:
        torch.nn.init.normal_(layer.weight, std=0.05)  # torchvision's ViT starts with zeros
    return classifier


def patches(tokens):
    """Tokens (N, 1 + h·w, C) of a vision transformer as maps, as pytorch-grad-cam wants them."""
    side = int((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_the_evidence_of_every_architecture_is_grad_cam_times_cells(architecture, oracle, films):
    if architecture.startswith("vit"):
        oracle = partial(grad_cam_grids, reshape=patches)  # Captum knows no tokens
    classifier, small = random_network(architecture, 1), films[:2, :64, :64]
    with torch.inference_mode():
        found = explain(classifier, torch.from_numpy(small)[:, None]).evidence.numpy()
    expected = oracle(Margin([classifier]), small)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert found.any()  # two maps of zeros would agree too


@pytest.mark.parametrize(
    "architecture", [name for name, family in FAMILIES.items() if family.top is None]
)
def test_evidence_in_closed_form_adds_up_to_the_margin(architecture, films):
    torch.manual_seed(1)
    classifier = build(architecture, SIZE, 0.449, 0.226).eval()
    with torch.inference_mode():
        found = explain(classifier, torch.from_numpy(films[:2])[:, None])
        bias = classifier.head.bias[1] - classifier.head.bias[0]
        torch.testing.assert_close(
            found.evidence.mean(dim=(1, 2)) + bias, found.margins, rtol=1e-3, atol=1e-3
        )


def test_an_ensemble_is_the_mean_of_its_members(films):
    """Two grids: a residual network of 3 × 3 cells, a transformer of 6 × 6."""
    torch.manual_seed(1)
    pair = [build(name, SIZE, 0.449, 0.226).eval() for name in ("resnet18", "vit_b_16")]
    torch.nn.init.normal_(pair[1].head.weight, std=0.05)
    inputs = torch.from_numpy(films)[:, None]
    with torch.inference_mode():
        found = Ensemble(pair)(inputs)
        first, second = (explain(member, inputs) for member in pair)
    torch.testing.assert_close(found.margins, (first.margins + second.margins) / 2)
    assert found.evidence.shape == (5, 6, 6)
    means = [one.evidence.mean(dim=(1, 2)) for one in (first, second)]
    torch.testing.assert_close(found.evidence.mean(dim=(1, 2)), sum(means) / 2)
    for depth, expected in zip(found.depths, first.depths, strict=True):
        assert torch.equal(depth, expected)  # what the guard looks at


def test_the_cells_of_the_heat_map_add_up_to_the_score(engine, predictions):
    calibration = engine.card.calibration
    normal, pneumonia = engine._network.members[0].head.bias.tolist()
    rest = calibration.slope * (pneumonia - normal) + calibration.offset
    for prediction in predictions:
        log_odds = np.log(prediction.probability / (1 - prediction.probability))
        assert prediction.evidence.mean() + rest == pytest.approx(log_odds, abs=1e-4)


def test_the_score_of_a_film_does_not_depend_on_its_batch(engine, predictions, films):
    for film, prediction in zip(films, predictions, strict=True):
        (alone,) = engine.predict(film[None])
        assert alone.probability == pytest.approx(prediction.probability, abs=1e-5)


def test_different_films_have_different_scores(predictions):
    """A model that ignores its input would pass all the other tests."""
    assert np.ptp([prediction.probability for prediction in predictions]) > 0.001


def test_no_films_give_no_predictions(engine):
    assert engine.predict(np.empty((0, SIZE, SIZE), np.float32)) == []


def test_reduced_precision_stays_close(tiny_model, predictions, films):
    """Loosely: random weights magnify rounding."""
    reduced = Engine(load_model(tiny_model), "cpu", "bfloat16").predict(films)
    for exact, rounded in zip(predictions, reduced, strict=True):
        assert rounded.probability == pytest.approx(exact.probability, abs=0.1)
        assert np.corrcoef(rounded.evidence.ravel(), exact.evidence.ravel())[0, 1] > 0.7


def test_precision_is_measured_unless_it_is_given(tiny_model):
    assert Engine(load_model(tiny_model), "cpu", "float32").precision == "float32"
    assert Engine(load_model(tiny_model), "cpu").precision in ("float32", "bfloat16")


def test_reduced_precision_is_not_chosen_where_it_changes_decisions(tiny_model):
    """On the shipped weights bfloat16 changed one decision in eighty, by the luck of a timing."""
    model = load_model(tiny_model)
    wary = PrecisionConstants(
        bfloat16_decisions_changed=0.01, bfloat16_mean_probability_change=0.01
    )
    careful = replace(model, card=model.card.model_copy(update={"precision": wary}))
    assert Engine(careful, "cpu").precision == "float32"
    assert Engine(careful, "cpu", "bfloat16").precision == "bfloat16"


def test_folding_changes_no_answer(tiny_model, films):
    network = load_model(tiny_model).network
    inputs = torch.from_numpy(films)[:, None]
    with torch.inference_mode():
        plain, folded = network(inputs), network.folded()(inputs)
    torch.testing.assert_close(folded.margins, plain.margins, rtol=1e-3, atol=1e-3)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.folded().modules())


@pytest.mark.parametrize("architecture", FAMILIES)
def test_what_is_folded_still_goes_where_the_whole_network_goes(architecture):
    """To a device, a layout, another type: a part left behind would not take the others' films."""
    folded = build(architecture, 64, 0.449, 0.226).folded().double()
    with torch.inference_mode():
        answer = folded(torch.rand(2, 1, 64, 64, dtype=torch.float64))
    assert {each.dtype for each in (answer.logits, answer.last, *answer.depths)} == {torch.float64}


@pytest.mark.parametrize("name", ["cuda:7", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error_of_the_configuration(name):
    with pytest.raises(ConfigError, match=rf"model\.device = '{name}'"):
        choose_device(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_answers_like_the_cpu(tiny_model, predictions, films):
    on_gpu = Engine(load_model(tiny_model), "cuda", "float32").predict(films)
    for cpu, gpu in zip(predictions, on_gpu, strict=True):
        assert gpu.probability == pytest.approx(cpu.probability, abs=0.005)
        assert gpu.guard_score == pytest.approx(cpu.guard_score, abs=0.005)
        np.testing.assert_allclose(gpu.evidence, cpu.evidence, atol=0.05)


# Deciding


FILM = Prediction(0.9, np.zeros((3, 3), np.float32), guard_score=0.2, not_chest_score=0.2)
UNKNOWN = replace(FILM, guard_score=0.8)
NO_CHEST = replace(UNKNOWN, not_chest_score=0.8)
ADULT, CHILD = Tags(patient_age_years=40), Tags(patient_age_years=3)
LATERAL = Refusal(Reason.LATERAL_VIEW, "a lateral view")


class Crowded(torch.nn.Module):
    """A network on a device that has room for `room` films; `None` for as many as you like."""

    def __init__(self, network, room, error=None):
        super().__init__()
        self.network, self.room, self.passes = network, room, []
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def forward(self, films):
        self.passes.append(len(films))
        if self.room is not None and len(films) > self.room:
            raise self.error
        return self.network(films)

    def to(self, *_, **__):
        """Moving to the CPU is what makes room."""
        self.room = None
        return self


def crowded(tiny_model, room, error=None):
    engine = Engine(load_model(tiny_model), "cpu", "float32")
    engine._network = Crowded(engine._network, room, error)
    return engine


def the_same(found, expected):
    assert [each.probability for each in found] == pytest.approx(
        [each.probability for each in expected], rel=1e-5
    )


@pytest.mark.parametrize(("room", "passes"), [(2, [4, 2, 2, 1]), (1, [4, 2, 1, 1, 1, 1, 1])])
def test_a_gpu_without_memory_gets_half_as_many_films_and_the_answers_stay(
    tiny_model, predictions, films, caplog, room, passes
):
    engine = crowded(tiny_model, room)
    the_same(engine.predict(films), predictions)
    assert engine._network.passes == passes
    assert engine.note == f"CUDA ran out of memory: {room} films at once since then"
    assert engine.note in caplog.text


def test_later_batches_stay_small(tiny_model, films):
    engine = crowded(tiny_model, 2)
    engine.predict(films)
    engine._network.passes.clear()
    engine.predict(films)
    assert engine._network.passes == [2, 2, 1]


def test_a_gpu_without_room_for_one_film_leaves_them_to_the_cpu(
    tiny_model, predictions, films, caplog
):
    engine = crowded(tiny_model, 0)
    the_same(engine.predict(films), predictions)
    assert engine._network.passes == [4, 2, 1, 4, 1]
    assert engine.device == torch.device("cpu")
    assert "on the CPU since then" in engine.note
    assert engine.note in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    ],
)
def test_memory_that_is_used_up_has_many_names(tiny_model, predictions, films, text):
    engine = crowded(tiny_model, 2, RuntimeError(text))
    the_same(engine.predict(films), predictions)


class Broken(torch.nn.Module):
    """A network whose answers are not numbers."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, films):
        answer = self.network(films)
        return replace(answer, margins=answer.margins * float("nan"))


def test_an_answer_that_is_no_number_is_never_called_normal(tiny_model, films):
    """NaN lies below every threshold."""
    engine = Engine(load_model(tiny_model), "cpu", "float32")
    engine._network = Broken(engine._network)
    with pytest.raises(FloatingPointError, match="not a finite number"):
        engine.predict(films)


def test_a_gpu_that_is_full_at_the_start_leaves_the_films_to_the_cpu(
    tiny_model, predictions, films, monkeypatch
):
    real, calls = Engine._placed, []

    def placed(engine, network):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(engine, network)

    monkeypatch.setattr(Engine, "_placed", placed)
    engine = Engine(load_model(tiny_model), "cpu", "float32")
    the_same(engine.predict(films), predictions)
    assert "on the CPU" in engine.note


def test_a_gpu_that_fails_ends_the_program_and_blames_no_film(tiny_model, films):
    error = torch.AcceleratorError("CUDA error: unspecified launch failure")
    engine = crowded(tiny_model, 0, error)
    with pytest.raises(DeviceLost, match="no film is to blame"):
        engine.predict(films)
    assert engine.note is None


def test_an_error_of_the_program_stays_one(tiny_model, films):
    engine = crowded(tiny_model, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        engine.predict(films)


@pytest.mark.parametrize(
    ("prediction", "refusal", "tags", "reason"),
    [
        (NO_CHEST, LATERAL, ADULT, Reason.LATERAL_VIEW),
        (NO_CHEST, None, CHILD, Reason.NOT_A_CHEST_RADIOGRAPH),
        (NO_CHEST, None, ADULT, Reason.OUTSIDE_VALIDATED_POPULATION),
        (UNKNOWN, None, CHILD, Reason.OUTSIDE_VALIDATED_POPULATION),
        (FILM, None, ADULT, Reason.OUTSIDE_VALIDATED_POPULATION),
        (FILM, LATERAL, CHILD, Reason.LATERAL_VIEW),
    ],
    ids=["tags first", "then what it is", "unless the age says more", "whose", "age", "tags"],
)
def test_the_first_reason_that_applies_refuses(card, prediction, refusal, tags, reason):
    verdict = decide(prediction, card, refusal, tags, "refuse")
    assert (verdict.decision, verdict.reason) == (Decision.REFUSED, reason)
    assert verdict.message


@pytest.mark.parametrize("years", [1, 3, 5, 67 / 12])
def test_ages_of_the_validated_population_are_answered_both_ends_included(card, years):
    """A child of 67 months is five years old, whichever way its file says so."""
    verdict = decide(FILM, card, None, Tags(patient_age_years=years), "refuse")
    assert (verdict.decision, verdict.reason) == (Decision.PNEUMONIA, None)


@pytest.mark.parametrize("years", [0, 11.9 / 12, 6, 90.5])
def test_other_ages_are_refused_and_the_age_is_named(card, years):
    verdict = decide(FILM, card, None, Tags(patient_age_years=years), "refuse")
    assert verdict.reason is Reason.OUTSIDE_VALIDATED_POPULATION
    assert f"is {int(years)} years old" in verdict.message


def test_a_film_of_unknown_age_is_answered(card):
    assert decide(FILM, card, None, Tags(), "refuse").decision == Decision.PNEUMONIA


def test_marking_keeps_the_answer_and_says_the_reason(card):
    verdict = decide(UNKNOWN, card, None, CHILD, "mark")
    assert verdict.decision == Decision.PNEUMONIA
    assert verdict.reason is Reason.OUTSIDE_VALIDATED_POPULATION


@pytest.mark.parametrize(("prediction", "refusal"), [(NO_CHEST, None), (FILM, LATERAL)])
def test_marking_is_only_for_the_population(card, prediction, refusal):
    assert decide(prediction, card, refusal, CHILD, "mark").decision is Decision.REFUSED


def test_the_guard_lets_its_own_limit_pass(card):
    at_limit = replace(FILM, guard_score=card.guard.threshold)
    assert decide(at_limit, card, None, CHILD, "refuse").decision == Decision.PNEUMONIA


@pytest.mark.parametrize(
    ("probability", "decision"),
    [
        (0.0, Decision.NORMAL),
        (0.5, Decision.NORMAL),  # the band is (0.5, 0.7), its ends are answered
        (0.5001, Decision.INDETERMINATE),
        (0.6, Decision.INDETERMINATE),
        (0.6999, Decision.INDETERMINATE),
        (0.7, Decision.PNEUMONIA),
        (1.0, Decision.PNEUMONIA),
    ],
)
def test_the_band_abstains_between_its_ends(card, probability, decision):
    film = replace(FILM, probability=probability)
    assert decide(film, card, None, CHILD, "refuse").decision == decision


def test_without_a_band_the_threshold_itself_is_pneumonia(new_card):
    card = new_card(decision={"threshold": 0.6, "indeterminate": (0.6, 0.6), "chosen_on": "-"})
    at = replace(FILM, probability=0.6)
    below = replace(FILM, probability=0.5999)
    assert decide(at, card, None, CHILD, "refuse").decision == Decision.PNEUMONIA
    assert decide(below, card, None, CHILD, "refuse").decision == Decision.NORMAL


@pytest.mark.parametrize(
    ("probability", "words"), [(0.1, "CLEAR"), (0.6, "INDETERMINATE"), (0.9, "TUBERCULOSIS")]
)
def test_the_decision_is_in_the_words_of_the_card(new_card, probability, words):
    card = new_card(labels=("CLEAR", "TUBERCULOSIS"))
    film = replace(FILM, probability=probability)
    assert decide(film, card, None, CHILD, "refuse").decision == words


def test_a_model_of_adults_does_not_say_that_unlike_films_are_of_adults(card, new_card):
    adults = {"description": "adults", "min_age_years": 18, "max_age_years": 90}
    said = [
        decide(UNKNOWN, each, None, Tags(), "refuse").message
        for each in (card, new_card(population=adults))
    ]
    assert ["of adults." in message for message in said] == [True, False]


# The guard


def test_a_film_beyond_all_numbers_is_as_unlike_as_can_be():
    """It had no score at all, and no score is above no threshold: it would have passed."""
    distances = torch.tensor([0.0, 2.0, 1e12, float("inf"), float("nan")])
    assert odds(distances, torch.tensor(2.0)).tolist() == [0.0, 0.5, 1.0, 1.0, 1.0]


def test_a_film_at_the_limit_scores_one_half():
    limit = torch.tensor(3.0)
    scores = odds(torch.tensor([0.0, 2.9, 3.0, 3.1, 300.0]), limit)
    assert scores[2] == 0.5
    assert (scores.diff() > 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_far_films_are_unlike_the_known_ones(tiny_model, films):
    model = load_model(tiny_model)
    tensors = model.guard | {"film_limit": torch.tensor(1e-3), "chest_limit": torch.tensor(1e-3)}
    strict = Engine(replace(model, guard=tensors), "cpu", "float32").predict(films)
    assert all(p.guard_score > 0.5 and p.not_chest_score > 0.5 for p in strict)


def test_the_guard_lets_known_films_pass(predictions):
    assert all(p.guard_score < 0.5 and p.not_chest_score < 0.5 for p in predictions)


def test_weights_without_a_guard_are_refused(tiny_model):
    model = load_model(tiny_model)
    del model.guard["film_limit"]
    with pytest.raises(ModelError, match="film_limit"):
        Guard(model.guard)


# Models


@pytest.fixture
def model_copy(tiny_model, tmp_path):
    """A copy of the model folder that a test may spoil."""
    import shutil

    return shutil.copytree(tiny_model, tmp_path / "model")


def test_altered_weights_are_refused(model_copy):
    weights = model_copy / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or was exchanged"):
        load_model(model_copy)


def test_missing_weights_are_named(model_copy):
    (model_copy / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load_model(model_copy)


def test_weights_of_another_architecture_are_refused(model_copy, new_card):
    from models.cards import read_card, write_card

    resnet = Member(architecture="resnet18", mean=0.449, std=0.226)
    card = read_card(model_copy).model_copy(update={"members": (resnet,)})
    write_card(card, model_copy)
    with pytest.raises(ModelError, match="do not fit the architecture resnet18"):
        load_model(model_copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('"slope": 2.0', "calibration.slope"),
        ('"labels"', "verzion"),
        ('"NORMAL"', "labels.0"),
        ('"PNEUMONIA"', "labels: .*both are NORMAL"),
        ('"PNEUMONIA"\n', "labels: .*REFUSED has a meaning"),
    ],
    ids=["bad value", "unknown key", "lower case", "the same twice", "taken"],
)
def test_a_card_that_breaks_its_schema_is_refused_naming_the_key(model_copy, change, said):
    bad = {
        '"slope": 2.0': '"slope": -1',
        '"labels"': '"verzion": "1", "labels"',
        '"NORMAL"': '"Normal"',
        '"PNEUMONIA"': '"NORMAL"',
        '"PNEUMONIA"\n': '"REFUSED"\n',
    }
    card = model_copy / "card.json"
    card.write_text(card.read_text().replace(change, bad[change]))
    with pytest.raises(ModelError, match=said):
        load_model(model_copy)


def test_a_card_that_is_no_json_is_refused(model_copy):
    (model_copy / "card.json").write_text("{")
    with pytest.raises(ModelError, match="cannot read"):
        load_model(model_copy)


def test_a_model_is_found_by_its_folder_relative_to_the_configuration(model_copy):
    assert find_model("model", model_copy.parent) == model_copy
    assert find_model(str(model_copy)) == model_copy


def test_an_unknown_model_is_an_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(ModelError, match="no model 'nonsense': known are default"):
        find_model("nonsense", tmp_path)


def test_a_size_that_an_architecture_cannot_take_is_an_error():
    with pytest.raises(ModelError, match="vit_b_16 cannot take films of 100 pixels"):
        build("vit_b_16", 100, 0.5, 0.25)


def test_an_unknown_architecture_is_an_error_that_names_the_known_ones():
    with pytest.raises(ModelError, match="mobilenet_v2"):
        build("vgg16", 224, 0.5, 0.25)


def test_weights_come_back_as_they_were_written(tmp_path):
    nets = [{"w": torch.randn(2, 3)} for _ in range(3)]
    guard = {"centre": torch.zeros(4)}
    sha256 = write_weights(nets, guard, tmp_path / "w.safetensors")
    read_nets, read_guard = read_weights(tmp_path / "w.safetensors", sha256, 3)
    for net, read_net in zip(nets, read_nets, strict=True):
        assert read_net.keys() == {"w"}
        assert torch.equal(read_net["w"], net["w"])
    assert read_guard.keys() == {"centre"}


def test_networks_are_found_beside_a_torchvision_of_another_build(repository):
    """PyPI's torchvision beside a CPU build of torch: its operators are missing."""
    code = (
        "from models.torchvision_compat import torchvision_models\n"
        "print(torchvision_models().mobilenet_v2.__name__)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "mobilenet_v2"
