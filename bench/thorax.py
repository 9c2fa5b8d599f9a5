"""Where the thorax lies on a frontal film: a classical segmentation for the bench, not shipped.

It is good enough for shares of area and of heat over many films, and says so of a film where it is
not: lungs that pneumonia has turned white cannot be found by their darkness.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]

# Shares of the side of a film. Lungs are looked for in the middle of either half ...
_SEED_CENTRES = ((0.29, 0.42), (0.71, 0.42))  # (x, y)
_SEED_AXES = (0.09, 0.17)
_AIR = 0.08  # of the stretched range: darker than any lung, as the air beside the patient is
# ... and must then be of plausible size, as a share of the film's area.
_LUNG_SHARE = (0.03, 0.22)
_THORAX_SHARE = (0.18, 0.65)
_LEAST_CONTRAST = 0.06  # between what lies between the lungs and them: noise has less


@dataclass(frozen=True)
class Thorax:
    """Masks (S, S): both lung fields as far as they are dark, and the convex hull around them."""

    lungs: Mask
    thorax: Mask


def find_thorax(film: Pixels) -> Thorax | None:
    """Find the lung fields of a prepared film, float32 (S, S) in [0, 1]; None if not plausible.

    A lung is what is darker than its surroundings and cut off from the film's edge by a bright
    ridge, the ribs' outer rim (watershed, Meyer 1992).
    """
    dark, basins = _dark(film), _basins(film)
    places = enumerate(_ellipses(len(film), scale=1.35), start=2)
    lungs = [_lung((basins == label) & dark, place) for label, place in places]
    if not _plausible(*lungs):
        return None
    both = lungs[0] | lungs[1]
    hull = _hull(both)
    contrast = film[hull & ~both].mean() - film[both].mean()
    fits = _within(hull.mean(), _THORAX_SHARE) and contrast > _LEAST_CONTRAST
    return Thorax(both, hull) if fits else None


def _dark(film: Pixels) -> Mask:
    """Darker than the neighbourhood, a third of the film wide; air does not count as one."""
    side = film.shape[0]
    tissue = (film > _AIR).astype(np.float32)
    around = _blur(film * tissue, side / 6) / np.maximum(_blur(tissue, side / 6), 1e-3)
    brush = _brush(side // 40)
    dark = (_blur(film, side / 60) < around).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(dark, cv2.MORPH_OPEN, brush), bool)


def _ellipses(side: int, scale: float = 1) -> list[Mask]:
    """An ellipse in either half, where a lung is to be expected."""
    rows, columns = (np.indices((side, side)) + 0.5) / side
    return [
        np.hypot((columns - x) / _SEED_AXES[0], (rows - y) / _SEED_AXES[1]) <= scale
        for x, y in _SEED_CENTRES
    ]


def _basins(film: Pixels) -> NDArray[np.int32]:
    """Label each pixel by the marker that its darkness runs together with: 1 edge, 2 and 3 lungs.

    Smoothed along the body, so that ribs across a lung are no ridges but its outer rim is one.
    """
    side = film.shape[0]
    smooth = cv2.GaussianBlur(film, (0, 0), sigmaX=side / 110, sigmaY=side / 28)
    grey = (255 * np.clip(smooth, 0, 1)).astype(np.uint8)
    markers = np.ones((side, side), np.int32)
    edge = side // 25
    markers[edge:-edge, edge:-edge] = 0
    for label, seed in enumerate(_ellipses(side), start=2):
        markers[seed & (grey <= np.percentile(grey[seed], 40))] = label
    return np.asarray(cv2.watershed(np.dstack([grey] * 3), markers), np.int32)


def _lung(region: Mask, place: Mask) -> Mask:
    """The pieces that reach into a lung's place, without holes: a white lobe may part a lung."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    inside = np.bincount(labels[place], minlength=len(stats))
    chosen = inside > np.maximum(0.2 * stats[:, cv2.CC_STAT_AREA], 0.002 * region.size)
    lung = (np.isin(labels, np.flatnonzero(chosen)) & region).astype(np.uint8)
    closed = cv2.morphologyEx(lung, cv2.MORPH_CLOSE, _brush(len(region) // 16))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(closed), contours, -1, 1, cv2.FILLED)
    return np.asarray(filled, bool)


def _plausible(left: Mask, right: Mask) -> bool:
    """Two lungs of similar size and height."""
    areas = left.mean(), right.mean()
    if not all(_within(area, _LUNG_SHARE) for area in areas) or max(areas) > 3 * min(areas):
        return False
    rows = [np.flatnonzero(lung.any(axis=1)) for lung in (left, right)]
    shared = min(r[-1] for r in rows) - max(r[0] for r in rows)
    return bool(shared > 0.6 * max(np.ptp(r) for r in rows))


def _hull(mask: Mask) -> Mask:
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)  # (x, y)
    filled = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(points), 1)
    return np.asarray(filled, bool)


def _brush(size: int) -> NDArray[np.uint8]:
    size = max(3, size)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _blur(film: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(film, (0, 0), sigma), np.float32)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
