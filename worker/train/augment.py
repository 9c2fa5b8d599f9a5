"""Make one film look as if another room, tube, plate and child had made it.

Thumbnails alone tell the classes of the training set apart: what separates them there (shape,
exposure, margins, sharpness) must vary at random, so that only the lungs are left to learn from.
"""

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from worker.imaging.prepare import Pixels, stretch

_ROTATION_DEG = 12.0
_ZOOM = (0.62, 1.05)  # share of the film's side that stays in view
_ASPECT = 0.25
_SHIFT = 0.08


def augment(
    film: NDArray[np.uint8], rng: Generator, low_percentile: float, high_percentile: float
) -> Pixels:
    """One random variant of a square film: uint8 (S, S) → float32 (S, S) in [0, 1], stretched."""
    pixels = (_geometry(film, rng) / np.float32(255)).astype(np.float32)
    pixels = _exposure(pixels, rng)
    pixels = _sharpness(pixels, rng)
    pixels = stretch(pixels, low_percentile, high_percentile)
    return _occlude(pixels, rng)


def _geometry(film: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """Zoom, change of aspect, rotation, shift and flip, in one resampling."""
    size = film.shape[0]
    zoom = rng.uniform(*_ZOOM)
    aspect = math.exp(rng.uniform(-_ASPECT, _ASPECT))
    angle = np.deg2rad(rng.uniform(-_ROTATION_DEG, _ROTATION_DEG))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    scale = np.diag([flip / (zoom * aspect**0.5), aspect**0.5 / zoom])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ scale
    slack = _SHIFT + (1 - min(zoom, 1)) / 2  # a crop may sit anywhere within the film
    centre = size * (0.5 + rng.uniform(-slack, slack, 2))
    offset = np.full(2, size / 2) - linear @ centre
    matrix = np.column_stack([linear, offset]).astype(np.float32)
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    warped = cv2.warpAffine(film, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(warped, dtype=np.uint8)


def _exposure(pixels: Pixels, rng: Generator) -> Pixels:
    """Gamma, contrast, brightness, an S-curve now and then, and a smooth low-frequency field."""
    pixels = pixels ** math.exp(rng.uniform(-0.5, 0.5))
    contrast, brightness = math.exp(rng.uniform(-0.4, 0.4)), rng.uniform(-0.15, 0.15)
    pixels = (pixels - 0.5) * contrast + 0.5 + brightness
    cells = int(rng.integers(2, 6))
    coarse = rng.normal(0, rng.uniform(0, 0.2), (cells, cells)).astype(np.float32)
    field = cv2.resize(coarse, pixels.shape[::-1], interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        return np.asarray(np.clip(pixels + field, 0, 1), dtype=np.float32)
    return np.asarray(np.clip(pixels * np.exp(field), 0, 1), dtype=np.float32)


def _sharpness(pixels: Pixels, rng: Generator) -> Pixels:
    """Blur or sharpen, JPEG artefacts, noise; each now and then."""
    if rng.random() < 0.5:
        soft = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.6))
        strength = 1.0 if rng.random() < 0.6 else -rng.uniform(0.3, 1.0)
        pixels = np.clip(pixels + strength * (soft - pixels), 0, 1).astype(np.float32)
    if rng.random() < 0.4:
        grey = (pixels * 255).astype(np.uint8)
        quality = int(rng.integers(30, 96))
        _, jpeg = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
        pixels = (np.asarray(decoded) / np.float32(255)).astype(np.float32)
    if rng.random() < 0.5:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32)
        pixels = pixels + noise * np.float32(rng.uniform(0, 0.04))
    return np.asarray(np.clip(pixels, 0, 1), dtype=np.float32)


def _occlude(pixels: Pixels, rng: Generator) -> Pixels:
    """Cover one or two rectangles with grey, now and then."""
    if rng.random() < 0.5:
        size = pixels.shape[0]
        for _ in range(int(rng.integers(1, 3))):
            rows, columns = rng.integers(size // 12, size // 3, 2)
            top, left = rng.integers(0, size - rows), rng.integers(0, size - columns)
            pixels[top : top + rows, left : left + columns] = rng.random()
    return pixels
