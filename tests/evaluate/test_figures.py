"""The figures: well-formed, named for who hears them, in the page's own colours."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from worker.assets import asset
from worker.evaluate import curves
from worker.evaluate.figures import figures
from worker.evaluate.metrics import evaluate
from worker.evaluate.sample import decoded, sample

NAMES = ["confusion", "scores", "roc", "precision-recall", "calibration", "risk-coverage"]


def drawn(films, band=(0.35, 0.65)):
    result = evaluate(films, resamples=20)
    return figures(sample(decoded(films), result.forced.threshold), result, band)


def test_all_six_are_well_formed_xml_with_title_and_description(many):
    found = drawn(many)
    assert [figure.name for figure in found] == NAMES
    for figure in found:
        root = ET.fromstring(figure.svg)
        title, said = root[0], root[1]
        assert (title.tag, said.tag) == ("title", "desc")
        assert title.text
        assert said.text
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == f"{title.get('id')} {said.get('id')}"


def test_colours_are_variables_of_the_style_sheet(many):
    style = (asset("templates") / "style.css").read_text(encoding="utf-8")
    known = set(re.findall(r"--([\w-]+):", style))
    for figure in drawn(many):
        assert set(re.findall(r"var\(--([\w-]+)\)", figure.svg)) <= known
        assert "style=" not in figure.svg  # the page's policy forbids inline style
        assert not re.search(r'(fill|stroke)="(#|rgb|black|white)', figure.svg)


def test_every_point_lies_on_the_board_and_none_is_nan(many):
    for figure in drawn(many):
        assert "nan" not in figure.svg.lower()
        for circle in ET.fromstring(figure.svg).iter("circle"):
            assert 0 <= float(circle.get("cx")) <= 420
            assert 0 <= float(circle.get("cy")) <= 350


def test_ids_are_unique_on_the_page(many):
    ids = re.findall(r' id="([^"]+)"', "".join(figure.svg for figure in drawn(many)))
    assert len(ids) == len(set(ids))


def test_the_abstention_band_is_drawn_only_where_there_is_one(many):
    scores = {band: drawn(many, band)[1].svg for band in ((0.35, 0.65), None)}
    assert "url(#abstention)" in scores[0.35, 0.65]
    assert "abstention" not in scores[None]


@pytest.mark.parametrize("label", ["NORMAL", "PNEUMONIA"])
def test_one_class_leaves_out_what_it_cannot_show(scored, label):
    films = [scored(label, p, f"p{p}") for p in (0.1, 0.5, 0.9)]
    names = [figure.name for figure in drawn(films)]
    assert names == ["confusion", "scores", "calibration", "risk-coverage"]


def test_a_single_film_can_be_drawn(scored):
    for figure in drawn([scored("PNEUMONIA", 1.0)]):
        ET.fromstring(figure.svg)


def test_risk_coverage_answers_the_most_certain_first_by_hand(scored):
    films = [scored("NORMAL", 0.05), scored("PNEUMONIA", 0.2), scored("PNEUMONIA", 0.6)]
    curve = curves.risk_coverage(sample(films, 0.5))
    assert curve.x.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert curve.y.tolist() == pytest.approx([0, 1 / 2, 1 / 3])


def test_films_alike_in_certainty_are_answered_together(scored):
    curve = curves.risk_coverage(sample([scored("NORMAL", 0.25), scored("NORMAL", 0.75)], 0.5))
    assert curve.x.tolist() == [1]
    assert curve.y.tolist() == [0.5]


def test_wilson_interval_by_its_published_example():
    """81 of 263: 0.2553 to 0.3662 (Newcombe, Statistics in Medicine 1998, table I)."""
    low, high = curves.wilson(np.array([81.0]), np.array([263.0]))
    assert low[0] == pytest.approx(0.2553, abs=1e-4)
    assert high[0] == pytest.approx(0.3662, abs=1e-4)


def test_curves_of_many_films_stay_small():
    rng = np.random.default_rng(0)
    truth = rng.random(50_000) < 0.5
    scores = rng.random(50_000)
    groups = np.arange(50_000)
    films = type(sample([], 0.5))(truth, scores >= 0.5, scores, groups, 0.5)
    for curve in (curves.roc, curves.precision_recall, curves.risk_coverage):
        assert len(curve(films).x) <= 500
