"""A site's own threshold: for one model only, on record for good, the same for every command."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest

from models.cards import Calibration, DecisionConstants, WeightsFile
from worker.config import load_config
from worker.errors import ConfigError
from worker.thresholds import Entry, Measured, Rate, append_entry, in_use, read_trail, scale_of

NOON = datetime(2026, 5, 3, 12, 0, 0, tzinfo=UTC)
MODE = 0o640


def measured():
    rate = Rate(hits=57, of=60, low=0.86, high=0.99)
    return Measured(
        sensitivity=rate,
        specificity=Rate(hits=63, of=70, low=0.8, high=0.96),
        film_sensitivity=rate,
        film_specificity=rate,
        coverage=rate,
        risk=Rate(hits=0, of=0, low=None, high=None),
        films=130,
        refused=1,
        unreadable=2,
        copies=3,
        films_sha256="ab" * 32,
    )


def entry(card, threshold=0.3, at=NOON, **changes):
    """What a site chose, or with threshold `None` that it went back to the card's."""
    chosen = threshold is not None
    values = {
        "at": at,
        "who": "anna",
        "program": "0.1.0",
        "model": card.name,
        "weights_sha256": card.weights.sha256,
        "scores": scale_of(card),
        "threshold": threshold,
        "indeterminate": (0.2, 0.4) if chosen else None,
        "target_sensitivity": 0.95 if chosen else None,
        "measured": measured() if chosen else None,
    }
    return Entry(**values | changes)


@pytest.fixture
def store(site):
    """Add entries to the site's trail."""

    def add(*entries):
        for one in entries:
            append_entry(site.model.thresholds, one, MODE)

    return add


# What counts


def test_without_a_trail_the_card_counts(site, card):
    used = in_use(card, site)
    assert (used.decision, used.entry, used.stranded) == (card.decision, None, False)


def test_the_site_s_threshold_replaces_the_card_s_and_says_where_it_comes_from(site, card, store):
    store(entry(card))
    decision = in_use(card, site).decision
    assert (decision.threshold, decision.indeterminate) == (0.3, (0.2, 0.4))
    assert decision.chosen_on == (
        "films of this site (60 patients with the finding, 70 without) on 2026-05-03, to find at "
        "least 0.95 of the patients with the finding"
    )


def test_the_last_entry_counts(site, card, store):
    store(entry(card, 0.3), entry(card, 0.35))
    assert in_use(card, site).decision.threshold == 0.35


def test_a_reset_goes_back_to_the_card(site, card, store):
    store(entry(card), entry(card, None))
    used = in_use(card, site)
    assert (used.decision, used.entry, used.stranded) == (card.decision, None, False)


OTHERS = {
    "weights": {"weights": WeightsFile(file="weights.safetensors", sha256="ee" * 32)},
    "calibration": {"calibration": Calibration(slope=2.1, offset=-0.5, fitted_on="nothing")},
}


@pytest.mark.parametrize("what", OTHERS)
def test_it_is_never_carried_to_another_model(site, card, new_card, store, what):
    store(entry(card))
    other = new_card(**OTHERS[what])
    used = in_use(other, site)
    assert (used.decision, used.entry, used.stranded) == (other.decision, None, True)


def test_it_is_never_carried_to_another_preparation(site, card, store, monkeypatch):
    store(entry(card))
    monkeypatch.setattr("worker.thresholds.PREPARE_VERSION", "another")
    assert in_use(card, site).stranded


def test_a_model_of_the_same_name_is_not_the_same_model(site, card, new_card, store):
    store(entry(card))
    assert new_card(**OTHERS["weights"]).name == card.name
    assert in_use(new_card(**OTHERS["weights"]), site).entry is None


def test_a_card_whose_own_threshold_changed_still_gives_the_same_scores(
    site, card, new_card, store
):
    store(entry(card))
    decision = DecisionConstants(threshold=0.9, indeterminate=(0.8, 0.95), chosen_on="-")
    assert in_use(new_card(decision=decision), site).decision.threshold == 0.3


def test_an_entry_of_these_weights_outlives_one_of_others(site, card, new_card, store):
    store(entry(card), entry(new_card(**OTHERS["weights"]), 0.25))
    assert in_use(card, site).decision.threshold == 0.3


def test_a_reset_for_other_weights_leaves_nothing_stranded(site, card, new_card, store):
    other = new_card(**OTHERS["weights"])
    store(entry(other), entry(other, None))
    assert not in_use(card, site).stranded


def test_a_reset_for_these_weights_accepts_the_card_s(site, card, new_card, store):
    store(entry(new_card(**OTHERS["weights"])), entry(card, None))
    assert not in_use(card, site).stranded


def test_without_a_configuration_file_there_is_no_site(site, card, store):
    store(entry(card))
    (site.root / "config.toml").unlink()
    defaults = load_config(cwd=site.root)
    assert defaults.model.thresholds.is_file()
    assert in_use(card, defaults).entry is None


def test_the_screener_decides_with_it_and_screens_again(tiny_model, tmp_path):
    from models.cards import read_card
    from worker.screening import Screener

    (tmp_path / "config.toml").write_text(f"[model]\nname = '{tiny_model}'\n[decode]\nprocesses=1")
    config = load_config(tmp_path / "config.toml")
    with closing(Screener(config)) as before:
        pass
    append_entry(config.model.thresholds, entry(read_card(tiny_model)), MODE)
    with closing(Screener(config)) as after:
        pass
    assert after.card.decision.threshold == 0.3
    assert after.preprocessing != before.preprocessing
    assert after.card.weights == before.card.weights


def test_a_reference_changes_no_result_s_identity(tiny_model, tmp_path):
    from models.cards import REFERENCE_BINS, Reference, read_card, write_card
    from worker.screening import Screener

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "config.toml").write_text(f"[model]\nname = '{folder}'\n[decode]\nprocesses=1")
    config = load_config(tmp_path / "config.toml")
    card = read_card(folder)
    with closing(Screener(config)) as before:
        pass
    counts = (1, *[0] * (REFERENCE_BINS - 1))
    reference = Reference(films=1, of="one film", scores=counts, guard=counts)
    write_card(card.model_copy(update={"reference": reference}), folder)
    with closing(Screener(config)) as after:
        pass
    assert after.card.reference == reference != before.card.reference
    assert after.identity == before.identity
    assert scale_of(after.card) == scale_of(before.card)


def test_the_screener_warns_that_the_card_s_is_in_use(tiny_model, tmp_path, card, caplog):
    from worker.screening import Screener

    (tmp_path / "config.toml").write_text(f"[model]\nname = '{tiny_model}'\n[decode]\nprocesses=1")
    config = load_config(tmp_path / "config.toml")
    append_entry(config.model.thresholds, entry(card), MODE)
    with closing(Screener(config)) as screener:
        assert screener.card.decision.threshold == 0.6
    assert "set for other weights" in caplog.text


# The trail


def test_entries_come_back_as_they_were_in_their_order(site, card, store):
    entries = [entry(card, 0.3), entry(card, None, NOON + timedelta(days=1)), entry(card, 0.25)]
    store(*entries)
    assert read_trail(site.model.thresholds) == entries


def test_what_was_written_is_never_rewritten(site, card, store):
    """Not even its spelling: an entry is evidence."""
    store(entry(card))
    path = site.model.thresholds
    spelled = json.dumps(json.loads(path.read_text()), indent=None, separators=(", ", ":  "))
    path.write_text(spelled)  # and without the last line's end
    store(entry(card, 0.25))
    assert path.read_text().startswith(spelled + "\n")
    assert len(read_trail(path)) == 2


def test_the_trail_has_the_site_s_file_mode_and_leaves_no_temporary_file(site, card, store):
    store(entry(card))
    assert site.model.thresholds.stat().st_mode & 0o777 == MODE
    assert [path.name for path in site.root.glob(".screen-*")] == []


def test_entries_added_at_once_are_all_kept(site, card, store):
    entries = [entry(card, 0.3, who=str(number)) for number in range(30)]
    with ThreadPoolExecutor(6) as several:
        list(several.map(store, entries))
    found = read_trail(site.model.thresholds)
    assert sorted(one.who for one in found) == sorted(one.who for one in entries)


DAMAGE = {
    "cut": lambda line: line[:-40],
    "empty": lambda line: b"",
    "no JSON": lambda line: b"threshold = 0.3",
    "no text": lambda line: b"\xff\xfe",
    "unknown key": lambda line: line.replace(b'"who"', b'"whom"'),
    "impossible threshold": lambda line: line.replace(b'"threshold":0.3', b'"threshold":3'),
    "threshold outside its band": lambda line: line.replace(b'"threshold":0.3', b'"threshold":0.9'),
    "half a reset": lambda line: line.replace(b'"threshold":0.3', b'"threshold":null'),
    "no time zone": lambda line: line.replace(b"12:00:00Z", b"12:00:00"),
    "not a number": lambda line: line.replace(b'"threshold":0.3', b'"threshold":NaN'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_is_named_and_nothing_is_guessed(site, card, store, damage):
    store(entry(card), entry(card), entry(card))
    path = site.model.thresholds
    lines = path.read_bytes().splitlines()
    damaged = DAMAGE[damage](lines[1])
    assert damaged != lines[1]
    path.write_bytes(b"\n".join([lines[0], damaged, lines[2], b""]))
    with pytest.raises(ConfigError, match=r"thresholds\.jsonl:2: the entry is damaged"):
        in_use(card, site)
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        store(entry(card))
    assert path.read_bytes() == before


def test_an_empty_file_is_an_empty_trail(site, card, store):
    site.model.thresholds.touch()
    store(entry(card))
    assert len(read_trail(site.model.thresholds)) == 1


def test_a_trail_that_cannot_be_read_is_no_empty_one(site):
    site.model.thresholds.mkdir()
    with pytest.raises(ConfigError, match="cannot read the site's thresholds"):
        read_trail(site.model.thresholds)


# The command


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, sample_films):
    """33 films of each class, each of a patient of its own; the labels mean nothing.

    Sample films with smooth noise: different to the network, chests to the check of polarity.
    """
    folder = tmp_path_factory.mktemp("labelled")
    samples = sorted(sample_films.rglob("*.jpeg"))
    for number in range(66):
        of_class = folder / ("NORMAL", "PNEUMONIA")[number % 2]
        of_class.mkdir(exist_ok=True)
        film = cv2.imread(str(samples[number % len(samples)]), cv2.IMREAD_GRAYSCALE)
        noise = np.random.default_rng(number).integers(0, 255, (128, 128), np.uint8)
        noisy = cv2.addWeighted(cv2.resize(film, (128, 128)), 0.8, noise, 0.2, 0)
        cv2.imwrite(str(of_class / f"{number}.png"), cv2.GaussianBlur(noisy, (0, 0), 1))
    return folder


@pytest.fixture(scope="module")
def clinic(tmp_path_factory, screen, tiny_model):
    """A site with the tiny model and no threshold of its own; not to be changed."""
    folder = tmp_path_factory.mktemp("clinics") / "clinic"
    screen("init", folder, cwd=folder.parent)
    (folder / "config.toml").write_text(
        "[watch]\nsettle_s = 0\n[decode]\nprocesses = 2\n"
        f"[model]\nname = '{tiny_model}'\nprecision = 'float32'\n"
    )
    return folder


@pytest.fixture(scope="module")
def chosen_site(clinic, screen, labelled):
    """The same site with one; not to be changed."""
    folder = clinic.with_name("chosen")
    shutil.copytree(clinic, folder)
    ended = screen("models", "threshold", labelled, "--sensitivity", "0.8", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def set_here(chosen_site, tmp_path):
    """A copy of it."""
    shutil.copytree(chosen_site, tmp_path / "clinic")
    return tmp_path / "clinic"


def trail(folder):
    return [json.loads(line) for line in (folder / "thresholds.jsonl").read_text().splitlines()]


def records(ended):
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_one_film_gets_one_decision_whatever_the_command(set_here, screen, labelled, tmp_path):
    """Classify, evaluate, watch and backfill decide alike, and the pages say by which threshold."""
    (chosen,) = trail(set_here)
    low, high = chosen["indeterminate"]
    shutil.copytree(labelled / "NORMAL", set_here / "inbox", dirs_exist_ok=True)
    screen("watch", "--once", cwd=set_here)
    screen("backfill", labelled / "PNEUMONIA", cwd=set_here)
    screened = json.loads(screen("query", "--json", cwd=set_here).stdout)
    classified = records(screen("classify", labelled, "--json", cwd=set_here))
    screen("evaluate", labelled, "--json", tmp_path / "e.json", cwd=set_here)
    evaluated = json.loads((tmp_path / "e.json").read_text())

    expected = {}
    for record in classified:
        score = record["probability"]
        answer = "PNEUMONIA" if score >= chosen["threshold"] else "NORMAL"
        expected[record["sha256"]] = "INDETERMINATE" if low < score < high else answer
    assert len(expected) == 66
    for found in (classified, screened):
        assert {r["sha256"]: r["decision"] for r in found} == expected
        assert {r["threshold"] for r in found} == {chosen["threshold"]}
    assert evaluated["threshold"] == chosen["threshold"]
    assert_the_entry_holds(chosen["measured"], evaluated)
    for record in screened:
        page = (set_here / "reports" / record["page"]).read_text()
        assert "chosen on films of this site (33 patients with the finding, 33 without)" in page


def assert_the_entry_holds(measured, evaluated):
    """What `evaluate` finds on the same films."""
    assert measured["film_sensitivity"]["hits"] == evaluated["confusion"]["tp"]
    assert measured["film_specificity"]["hits"] == evaluated["confusion"]["tn"]
    assert measured["coverage"]["hits"] == evaluated["answered"]["n"]
    answered = evaluated["answered"]["confusion"]
    assert measured["risk"]["hits"] == answered["fp"] + answered["fn"]


def test_the_list_of_models_shows_it(chosen_site, screen):
    said = screen("models", "list", cwd=chosen_site).stdout
    (chosen,) = trail(chosen_site)
    assert "tiny 0 (this site's)" in said
    assert f"at this site  {chosen['threshold']:.3f}, abstains in" in said


def test_a_dry_run_shows_all_and_stores_nothing(clinic, screen, labelled):
    ended = screen("models", "threshold", labelled, "--dry-run", cwd=clinic)
    assert ended.returncode == 0
    assert "33 patients with the finding" in ended.stdout
    assert "Nothing was stored" in ended.stdout
    assert not (clinic / "thresholds.jsonl").exists()


def test_a_reset_is_an_entry_too(set_here, screen):
    assert screen("models", "threshold", "--reset", cwd=set_here).returncode == 0
    assert [one["threshold"] is None for one in trail(set_here)] == [False, True]
    shown = screen("models", "threshold", "--show", cwd=set_here).stdout
    assert "back to the card's" in shown
    assert "In use: 0.600, the card's" in shown


def test_the_trail_says_who_and_when_and_for_what(chosen_site):
    (chosen,) = trail(chosen_site)
    assert chosen["who"]
    assert datetime.fromisoformat(chosen["at"]).tzinfo
    assert len(chosen["weights_sha256"]) == 64
    assert chosen["target_sensitivity"] == 0.8


def test_after_new_weights_everything_says_that_the_card_s_is_in_use(
    set_here, screen, tiny_model, tmp_path, labelled
):
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    card = json.loads((other / "card.json").read_text())
    card["calibration"]["offset"] += 0.1
    (other / "card.json").write_text(json.dumps(card))
    config = set_here / "config.toml"
    config.write_text(config.read_text().replace(str(tiny_model), str(other)))
    doctor = screen("doctor", cwd=set_here)
    assert doctor.returncode == 1
    assert "WRONG threshold: 0.600, of the card: a site threshold was set for" in doctor.stdout
    assert "the card's is in use" in screen("models", "list", cwd=set_here).stdout
    classified = screen("classify", labelled / "NORMAL" / "0.png", "--json", cwd=set_here)
    assert "the card's is in use" in classified.stderr
    assert records(classified)[0]["threshold"] == 0.6
    screen("models", "threshold", "--reset", cwd=set_here)
    assert "ok    threshold: 0.600, of the card\n" in screen("doctor", cwd=set_here).stdout


def test_a_damaged_trail_stops_every_command_with_2(set_here, screen, labelled):
    with (set_here / "thresholds.jsonl").open("a") as file:
        file.write("{}\n")
    for words in (["watch", "--once"], ["classify", labelled]):
        ended = screen(*words, cwd=set_here)
        assert ended.returncode == 2, words
        assert "thresholds.jsonl:2: the entry is damaged" in ended.stderr


def test_too_few_patients_say_what_was_found_and_what_is_needed(clinic, screen, sample_films):
    ended = screen("models", "threshold", sample_films, cwd=clinic)
    assert ended.returncode == 1
    assert "a threshold needs 30 of each" in ended.stderr
    assert not (clinic / "thresholds.jsonl").exists()


@pytest.mark.parametrize(
    "words", [[], ["--show", "--reset"], [".", "--show"], [".", "--sensitivity", "0"]]
)
def test_unclear_wishes_are_usage_errors(clinic, screen, words):
    ended = screen("models", "threshold", *words, cwd=clinic)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


def test_without_a_site_there_is_nowhere_to_keep_it(tmp_path, screen, labelled):
    ended = screen("models", "threshold", labelled, cwd=tmp_path)
    assert ended.returncode == 2
    assert "belongs to a site" in ended.stderr
