"""The style sheet: text can be read on every ground, in both themes."""

import re

import pytest

from worker.assets import asset

TEXTS = ("text", "quiet", "link", "positive", "indeterminate", "refused", "failed", "negative")
AA = 4.5  # WCAG 2.2, 1.4.3


def luminance(colour):
    linear = []
    for start in (1, 3, 5):
        value = int(colour[start : start + 2], 16) / 255
        linear.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def themes():
    css = (asset("templates") / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r"color-scheme: (light|dark);(.*?)}", css, re.DOTALL)
    return {name: dict(re.findall(r"--(\w+): (#\w{6})", block)) for name, block in blocks}


@pytest.mark.parametrize("ground", ["ground", "raised"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_colour_has_contrast_aa(theme, ground):
    colours = themes()[theme]
    low = {name: contrast(colours[name], colours[ground]) for name in TEXTS}
    assert min(low.values()) >= AA, low


def test_the_dark_ground_is_nearly_black():
    assert luminance(themes()["dark"]["ground"]) < 0.005
