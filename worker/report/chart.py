"""Drawing board for the figures: SVG for a page that allows no script and no inline style.

Colours are the page's own CSS variables, set as presentation attributes, so that a figure follows
dark, light and print. Lengths are in user units of a board 420 wide: a phone still shows its text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 420
HEIGHT = 350
TEXT = 13
_LABEL = 12  # letters of a label

Range = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """A plot area on the board with the range of values that each axis shows."""

    left: float
    top: float
    width: float
    height: float
    x: Range = (0.0, 1.0)
    y: Range = (0.0, 1.0)

    @property
    def bottom(self) -> float:
        """Where the x axis lies."""
        return self.top + self.height

    @property
    def right(self) -> float:
        """Where the plot area ends."""
        return self.left + self.width

    def across(self, value: float) -> float:
        """Board position of a value on the x axis."""
        return self.left + self.width * (value - self.x[0]) / (self.x[1] - self.x[0])

    def up(self, value: float) -> float:
        """Board position of a value on the y axis; it grows upwards."""
        return self.bottom - self.height * (value - self.y[0]) / (self.y[1] - self.y[0])


@dataclass(frozen=True)
class Figure:
    """One drawing with its heading and a sentence or two on how to read it."""

    name: str
    title: str
    svg: Markup
    reading: str


def figure(
    name: str, title: str, said: str, parts: Iterable[str], reading: str, height: int = HEIGHT
) -> Figure:
    """Put parts on a board. `name` is its anchor; `said` is for who hears the figure."""
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="33rem" role="img" fill="none" '
        f'font-size="{TEXT}" aria-labelledby="{name}-title {name}-said">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-said">{escape(said)}</desc>{"".join(parts)}</svg>'
    )
    return Figure(name, title, Markup(svg), reading)  # noqa: S704 - texts are escaped one by one


def axes(frame: Frame, x: str, y: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
    """Axis titles, ticks with their numbers as short as they can be, and a faint grid."""
    parts = [text_upwards(14, frame.top + frame.height / 2, y)]
    for value in x_ticks:
        parts.append(path(frame, (value, value), frame.y, "line", 1))
        parts.append(text(frame.across(value), frame.bottom + 17, f"{value:g}", "middle", "quiet"))
    for value in y_ticks:
        parts.append(path(frame, frame.x, (value, value), "line", 1))
        parts.append(text(frame.left - 7, frame.up(value) + 4.5, f"{value:g}", "end", "quiet"))
    if x:
        parts.append(text(frame.left + frame.width / 2, frame.bottom + 38, x, "middle"))
    return "".join(parts)


def path(
    frame: Frame,
    x: Iterable[float],
    y: Iterable[float],
    colour: str,
    width: float = 2.2,
    *,
    dash: str = "",
) -> str:
    """A line through points given in values; `dash` as stroke-dasharray."""
    points = "L".join(f"{frame.across(a):.1f} {frame.up(b):.1f}" for a, b in zip(x, y, strict=True))
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="M{points}" stroke="var(--{colour})" stroke-width="{width:g}" '
        f'stroke-linejoin="round"{dashed}/>'
    )


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = "text") -> str:
    """A line of text with its baseline at y."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--{colour})">'
        f"{escape(words)}</text>"
    )


def short(label: str) -> str:
    """A model's label for a figure, where a long one would run over its neighbours."""
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"


def text_over(x: float, y: float, words: str, anchor: str, colour: str = "text") -> str:
    """A line of text with a rim in the page's ground, readable over what it crosses."""
    rim = '<g stroke="var(--ground)" stroke-width="4" stroke-linejoin="round" paint-order="stroke">'
    return f"{rim}{text(x, y, words, anchor, colour)}</g>"


def text_upwards(x: float, y: float, words: str) -> str:
    """A line of text that reads upwards, centred on y."""
    turned = f'<g transform="translate({x:.1f} {y:.1f}) rotate(-90)">'
    return f"{turned}{text(0, 0, words, 'middle')}</g>"


def rectangle(
    left: float, top: float, width: float, height: float, fill: str, *, tip: str = ""
) -> str:
    """A filled rectangle; `fill` is a paint, `tip` is shown when pointed at."""
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{fill}">{inside}</rect>'
    )


def dot(frame: Frame, x: float, y: float, colour: str = "text", radius: float = 6) -> str:
    """A point with a rim in the page's ground, so that it stands out from its line."""
    return (
        f'<circle cx="{frame.across(x):.1f}" cy="{frame.up(y):.1f}" r="{radius:g}" '
        f'fill="var(--{colour})" stroke="var(--ground)" stroke-width="2"/>'
    )


def note(frame: Frame, *lines: str, left: bool = False, high: bool = False) -> str:
    """Lines of text in a corner of the plot area where the curve does not come."""
    x, anchor = (frame.left + 10, "start") if left else (frame.right - 10, "end")
    first = frame.top + 22 if high else frame.bottom - 12 - 20 * (len(lines) - 1)
    return "".join(text_over(x, first + 20 * row, words, anchor) for row, words in enumerate(lines))


def diagonal(frame: Frame) -> str:
    """From corner to corner, dashed: guessing on a ROC, truth in calibration."""
    return path(frame, frame.x, frame.y, "quiet", 1.4, dash="5 5")
