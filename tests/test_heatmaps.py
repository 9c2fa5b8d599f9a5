"""The measures of the heat maps measure what they say: `bench.heatmaps` and its parts."""

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr

from bench import heatmaps
from bench.attribution import from_grid, mean_of_others, our_grids
from bench.faithfulness import deletion_insertion, imputed, interval, ranks, road
from bench.heatmap_tables import report
from bench.randomisation import SHARES, cascade, spearman
from bench.thorax import find_thorax
from models.registry import find_model, load_model
from worker.imaging.decode import decode
from worker.imaging.prepare import model_input
from worker.inference.engine import Engine

SIDE = 224


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture(scope="module")
def real_films(sample_films):
    """The 16 sample films as the shipped model sees them."""
    paths = sorted(sample_films.rglob("*.jpeg"))
    return np.stack([model_input(decode(path.read_bytes()).pixels, SIDE, 1, 99) for path in paths])


# The thorax


def chest(lungs=("left", "right"), side=SIDE):
    """A body between two strips of air, with dark lungs inside bright ribs; (film, true lungs)."""
    film, truth = np.zeros((side, side), np.float32), np.zeros((side, side), np.uint8)
    film[:, side // 12 : -side // 12] = 0.55
    for name, x in (("left", 0.3), ("right", 0.7)):
        centre, axes = (int(x * side), int(0.45 * side)), (int(0.13 * side), int(0.27 * side))
        if name in lungs:
            cv2.ellipse(film, centre, axes, 0, 0, 360, 0.95, int(0.05 * side))
            cv2.ellipse(film, centre, axes, 0, 0, 360, 0.3, cv2.FILLED)
            cv2.ellipse(truth, centre, axes, 0, 0, 360, 1, cv2.FILLED)
    return cv2.GaussianBlur(film, (0, 0), 2), truth > 0


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("side", [128, 224, 320])
def test_two_dark_lungs_and_the_hull_around_them_are_found(side):
    film, truth = chest(side=side)
    found = find_thorax(film)
    assert found is not None
    assert overlap(found.lungs, truth) > 0.75
    hull = cv2.fillConvexPoly(
        np.zeros((side, side), np.uint8),
        cv2.convexHull(np.argwhere(truth)[:, ::-1].astype(np.int32)),
        1,
    )
    assert overlap(found.thorax, hull > 0) > 0.75


@pytest.mark.parametrize("lungs", [(), ("left",), ("right",)])
def test_a_chest_without_two_dark_lungs_is_left_out(lungs):
    assert find_thorax(chest(lungs)[0]) is None


def test_blank_films_and_noise_have_no_thorax(rng):
    assert find_thorax(np.zeros((SIDE, SIDE), np.float32)) is None
    assert find_thorax(np.full((SIDE, SIDE), 0.5, np.float32)) is None
    assert find_thorax(rng.random((SIDE, SIDE), np.float32)) is None


def test_the_thorax_is_found_on_the_sample_films(real_films):
    found = [thorax for film in real_films if (thorax := find_thorax(film))]
    assert len(found) >= 14  # the others have one lung that pneumonia turned white
    for thorax in found:
        assert 0.2 < thorax.thorax.mean() < 0.55
        assert 0.08 < thorax.lungs.mean() < 0.3
        assert (thorax.thorax | ~thorax.lungs).all()
        left, right = thorax.lungs[:, : SIDE // 2].mean(), thorax.lungs[:, SIDE // 2 :].mean()
        assert min(left, right) > 0.25 * max(left, right)


# Taking films apart


def bright_spot(films):
    """A network that looks at one corner only."""
    return 20 * films[:, :8, :8].mean(axis=(1, 2)).astype(np.float64) - 10


@pytest.fixture
def spotted(rng):
    """Films whose first quarter of rows and columns decides, and the map that says so."""
    films = rng.random((3, 32, 32)).astype(np.float32) * 0.1
    films[:, :8, :8] += 0.9
    true_map = np.zeros_like(films)
    true_map[:, :8, :8] = 1
    return films, true_map


def test_the_hottest_pixel_has_rank_0_and_ties_are_broken(rng):
    order = np.zeros((1, 4, 4), np.float32)
    order[0, 2, 1] = 3
    rank = ranks(order, rng)
    assert rank[0, 2, 1] == 0
    assert sorted(rank.ravel()) == [n / 16 for n in range(16)]


def test_a_true_map_beats_a_false_one_in_deletion_insertion_and_road(spotted, rng):
    films, true_map = spotted
    right, wrong = ranks(true_map, rng), ranks(-true_map, rng)
    nothing = np.zeros_like(films)
    (gone, come), (gone_wrong, come_wrong) = (
        deletion_insertion(bright_spot, films, nothing, rank) for rank in (right, wrong)
    )
    assert (gone < gone_wrong - 0.5).all()
    assert (come > come_wrong + 0.5).all()
    gain = [road(bright_spot, films, rank, rng) for rank in (right, wrong)]
    assert (gain[0] > 1).all()
    np.testing.assert_allclose(gain[0], -gain[1], atol=1.0)


def test_imputing_fills_a_hole_in_a_slope_and_leaves_the_rest(rng):
    slope = np.tile(np.linspace(0, 1, 112, dtype=np.float32), (1, 112, 1))
    hole = np.zeros(slope.shape, bool)
    hole[:, 40:70, 40:70] = True
    filled = imputed(np.where(hole, 9, slope).astype(np.float32), hole, rng)
    np.testing.assert_array_equal(filled[~hole], slope[~hole])
    np.testing.assert_allclose(filled[hole], slope[hole], atol=0.08)


def test_the_interval_knows_that_films_of_one_patient_are_alike(rng):
    patients = np.repeat(rng.standard_normal(20), 10)
    apart, grouped = np.arange(200).astype(str), np.repeat(np.arange(20), 10).astype(str)
    narrow, wide = (interval(patients, groups, rng) for groups in (apart, grouped))
    assert np.ptp(wide) > 2 * np.ptp(narrow)
    assert wide[0] < patients.mean() < wide[1]


# Maps


def test_heat_is_what_the_overlay_shows():
    grid = np.array([[[-4, -4, -4], [-4, 2, -4], [-4, -4, -4]]], np.float32)
    heat = from_grid(grid, 90)
    assert heat.heat[0, 45, 45] == heat.heat.max() > 0
    assert heat.heat[0, 14, 14] == 0  # the middle of a cell that speaks against pneumonia
    assert heat.order[0].argmax() // 90 in (44, 45)


def test_the_mean_map_of_other_films_leaves_out_the_patient():
    grids = np.array([1, 3, 8], np.float32)[:, None, None]
    means = mean_of_others(grids, np.array(["a", "a", "b"]))
    assert means.ravel().tolist() == [8, 8, 2]


# Randomised weights


def test_the_rank_correlation_is_spearman_s(rng):
    a, b = rng.standard_normal((2, 3, 7, 7)).astype(np.float32)
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=1e-6)


@pytest.mark.slow
def test_our_map_changes_with_the_weights(real_films):
    """A map that ignores them, such as the film's edges, would keep a correlation of 1."""
    model = load_model(find_model("default"))
    films = real_films[::2]
    before = our_grids(Engine(model, "cpu", "float32"), films)
    found = {share: [] for share in SHARES}
    for seed in (0, 1, 2):
        for share, randomised in cascade(model, films, seed):
            after = our_grids(Engine(randomised, "cpu", "float32"), films)
            found[share].append(spearman(before, after))
    means = {share: float(np.mean(values)) for share, values in found.items()}
    assert max(means.values()) < 0.6, means
    assert max(mean for share, mean in means.items() if share >= 0.25) < 0.35, means
    np.testing.assert_array_equal(before, our_grids(Engine(model, "cpu", "float32"), films))


# The whole


@pytest.mark.slow
def test_the_tables_are_measured_on_the_sample_films(monkeypatch, tmp_path):
    monkeypatch.setattr(heatmaps, "KERMANY", tmp_path)  # not there: tests/films alone
    monkeypatch.setattr(heatmaps, "SEEDS", 1)
    found = heatmaps.measure(load_model(find_model("default")), 0, 4, 0)
    assert found["films"] == 16
    assert max(found["equality"][name] for name in ("pytorch-grad-cam", "Captum")) < 1e-3
    text = report(found)
    assert "nan" not in text
    assert [line.count("|") for line in text.splitlines() if line.startswith("| ours")] == [8, 4]
