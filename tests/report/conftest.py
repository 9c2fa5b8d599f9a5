"""Films and rows to render; every value may be replaced."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from models.cards import Population
from tests.browsing import problems_of
from worker.records import Decision, Record, Tags
from worker.report.view import FilmView, ModelFacts, RunView, WorklistRow

NOON = datetime(2026, 5, 3, 12, 0, 0, tzinfo=UTC)
MODEL = ModelFacts(
    name="default",
    version="3",
    labels=("NORMAL", "PNEUMONIA"),
    weights_sha256="9f" * 32,
    architecture="MobileNetV2",
    intended_use="ordering a worklist",
    not_for=("adults",),
    population=Population(description="children of one hospital", min_age_years=1, max_age_years=5),
    metrics=(("AUC", "0.98"),),
    threshold=0.62,
    threshold_chosen_on="held-out films",
    indeterminate=(0.45, 0.74),
    guard_threshold=0.9,
    evidence_scale=6.0,
)
RECORD = Record(
    file="/inbox/film.png",
    sha256="ab" * 32,
    decision=Decision.PNEUMONIA,
    probability=0.874,
    threshold=0.62,
    guard_score=0.1,
    guard_threshold=0.9,
    reason=None,
    message="",
    model=MODEL.name,
    weights_sha256=MODEL.weights_sha256,
)


@pytest.fixture
def noon() -> datetime:
    return NOON


@pytest.fixture
def model() -> ModelFacts:
    return MODEL


@pytest.fixture
def run() -> RunView:
    return RunView(1, "watch", "/inbox", NOON, None, "cpu", {"screened": 3})


@pytest.fixture
def record() -> Callable[..., Record]:
    """Make the record of a film answered PNEUMONIA, with these values changed."""
    return lambda **changes: replace(RECORD, **changes)


@pytest.fixture
def film(record: Callable[..., Record]) -> Callable[..., FilmView]:
    """Make a screened film of 40 × 30 pixels with one hot cell, with these values changed."""
    _, picture = cv2.imencode(".jpg", np.full((30, 40), 90, np.uint8))
    evidence = np.full((7, 7), -1, np.float32)
    evidence[2, 3] = 4
    usual = FilmView(
        record=RECORD,
        model=MODEL,
        picture=picture.tobytes(),
        evidence=evidence,
        page="films/ab12.html",
        format="PNG",
        rows=30,
        columns=40,
        tags=Tags(),
        notes=(),
        run=1,
        screened_at=NOON,
    )
    return lambda **changes: replace(usual, **changes)


@pytest.fixture
def row(record: Callable[..., Record]) -> Callable[..., WorklistRow]:
    """Make a screened row with a page of its own, with these values changed."""

    def make(file: str, decision: str, probability: float | None, **changes: Any) -> Any:
        says = record(file=file, decision=decision, probability=probability)
        return replace(
            WorklistRow(says, MODEL.labels, "screened", f"films/{file}.html", 1, NOON), **changes
        )

    return make


@pytest.fixture
def failure(record: Callable[..., Record]) -> Callable[..., WorklistRow]:
    """Make the row of a file that could not be decoded."""

    def make(file: str, message: str = "The file ends early.") -> WorklistRow:
        says = record(
            file=file,
            decision=Decision.REFUSED,
            probability=None,
            reason="truncated-file",
            message=message,
        )
        return WorklistRow(says, MODEL.labels, "failed", None, 1, NOON)

    return make


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that collects whatever goes wrong and whatever leaves the machine."""
    page = browser.new_page()
    problems = problems_of(page)
    yield page
    page.close()
    assert problems == []
