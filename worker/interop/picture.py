"""The picture of an answer: film, heat map, legend, and in words what a reader must know."""

import textwrap

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from worker.interop.answer import NOTICE, Subject
from worker.report.overlay import grey_of, lay_over
from worker.report.view import is_int8

_FILM_PX = 1024  # longest side of the film
_LEAST_WIDTH_PX = 760  # the words need it
_MARGIN_PX, _LINE_GAP_PX = 20, 10
_HEADING_PX, _NOTICE_PX, _TEXT_PX = 40, 30, 22
_LEGEND_PX = (18, 260)  # rows, columns
_LEGEND_GREY = 96  # as lung on a film: colours look there as they do here
_WHITE, _AMBER, _PALE = (255, 255, 255), (255, 190, 60), (205, 205, 205)
_CHARACTERS_A_PX = 2.0 / _TEXT_PX  # of the font at text size, narrowly counted

_Line = tuple[str, int, tuple[int, int, int]]


def draw(subject: Subject, picture: bytes) -> NDArray[np.uint8]:
    """RGB uint8 (rows, columns, 3) of a film's grey JPEG with all that belongs to it.

    A refused film has no heat map and no probability: neither is validated. Nor has one that an
    int8 file answered a heat map: it may be far off, and a picture travels without its report.
    Raises ValueError for a picture that cannot be decoded.
    """
    film = _film(subject, picture)
    width = max(film.shape[1], _LEAST_WIDTH_PX)
    panel = _panel(subject, width)
    canvas = np.zeros((film.shape[0] + panel.shape[0], width, 3), np.uint8)
    left = (width - film.shape[1]) // 2
    canvas[: film.shape[0], left : left + film.shape[1]] = film
    canvas[film.shape[0] :] = panel
    return canvas


def _has_heat_map(subject: Subject) -> bool:
    return subject.is_answered and not is_int8(subject.stored.card)


def _film(subject: Subject, picture: bytes) -> NDArray[np.uint8]:
    grey = grey_of(picture)
    scale = _FILM_PX / max(grey.shape)
    size = tuple(max(1, round(side * scale)) for side in grey.shape[::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grey = np.asarray(cv2.resize(grey, size, interpolation=how), np.uint8)
    if not _has_heat_map(subject):
        return np.repeat(grey[..., None], 3, axis=2)
    return lay_over(grey, subject.stored.evidence, subject.stored.card.heat_map.evidence_scale)


def _panel(subject: Subject, width: int) -> NDArray[np.uint8]:
    lines = _lines(subject, width)
    height = 2 * _MARGIN_PX + sum(size + _LINE_GAP_PX for _, size, _ in lines)
    legend = _LEGEND_PX[0] + 2 * _LINE_GAP_PX if _has_heat_map(subject) else 0
    panel = Image.new("RGB", (width, height + legend))
    pen = ImageDraw.Draw(panel)
    top = _MARGIN_PX
    for text, size, colour in lines:
        pen.text((_MARGIN_PX, top), text, colour, ImageFont.load_default(size))
        top += size + _LINE_GAP_PX
    if _has_heat_map(subject):
        _draw_legend(subject, panel, top + _LINE_GAP_PX)
    return np.asarray(panel)


def _draw_legend(subject: Subject, panel: Image.Image, top: int) -> None:
    card = subject.stored.card
    scale = card.heat_map.evidence_scale
    bar = np.full(_LEGEND_PX, _LEGEND_GREY, np.uint8)
    ramp = np.linspace(0, scale, _LEGEND_PX[1], dtype=np.float32)[None]
    panel.paste(Image.fromarray(lay_over(bar, ramp, scale)), (_MARGIN_PX, top))
    text = f"heat map: evidence for {card.labels[1]}, 0 to {scale:g} (log-odds)"
    place = (_MARGIN_PX + _LEGEND_PX[1] + _LINE_GAP_PX, top - 4)
    ImageDraw.Draw(panel).text(place, text, _PALE, ImageFont.load_default(_TEXT_PX))


def _lines(subject: Subject, width: int) -> list[_Line]:
    record, card = subject.stored.record, subject.stored.card
    name, version = subject.algorithm
    low, high = card.decision.indeterminate
    said = [f"{record.reason}: {record.message}" if record.reason else record.message]
    if subject.probability is not None:
        said.append(f"Probability of {card.labels[1]}: {subject.probability:.3f}")
    said += [
        f"Threshold {record.threshold:g}; indeterminate from {low:g} to {high:g}",
        f"Model {name}, version {version}, weights {record.weights_sha256[:12]}",
    ]
    columns = int((width - 2 * _MARGIN_PX) * _CHARACTERS_A_PX)
    wrapped = [line for text in said for line in textwrap.wrap(text, columns) if text]
    return [
        (record.decision, _HEADING_PX, _WHITE),
        (f"{NOTICE}. Decision support for a radiologist.", _NOTICE_PX, _AMBER),
        *((line, _TEXT_PX, _PALE) for line in wrapped),
    ]
