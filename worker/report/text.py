"""Text for people: names made harmless to read, numbers and times in one form."""

from datetime import UTC, datetime

_LIMIT = 1000  # characters; a hostile DICOM tag may hold megabytes


def printable(text: str) -> str:
    r"""Show what would hide or deceive: controls, bidi marks, lone surrogates become escapes.

    `os.fsdecode` leaves undecodable bytes as lone surrogates, which UTF-8 cannot write: they come
    out as `\udcXX`. Every space but U+0020 is escaped as well. Longer texts are cut, with an
    ellipsis.
    """
    if len(text) > _LIMIT:
        text = text[:_LIMIT] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def finalize(value: object) -> object:
    """Make every string a template puts out printable, unless it is markup of our own."""
    return printable(value) if type(value) is str else value


def score(value: float) -> str:
    """A probability or score in [0, 1] with three digits that never rounds to a false certainty."""
    if 0 < value < 0.001:
        return "<0.001"
    if 0.999 < value < 1:
        return ">0.999"
    return f"{value:.3f}"


def utc(time: datetime) -> str:
    """A time to the second in UTC; a naive one is UTC already (as databases give it back)."""
    return f"{_aware(time):%Y-%m-%d %H:%M:%S} UTC"


def iso(time: datetime) -> str:
    """A time for programs, in UTC; a naive one is UTC already."""
    return _aware(time).isoformat()


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def filename(path: str) -> str:
    """The last part of a path as given."""
    return path.rpartition("/")[2]


def folder(path: str) -> str:
    """What stands before the last part of a path, with its slash; empty when there is nothing."""
    return "".join(path.rpartition("/")[:2])


def short(digest: str) -> str:
    """The first twelve digits of a hash: enough to tell two apart by eye."""
    return digest[:12]


def age(years: float) -> str:
    """An age as a paediatrician gives it: whole years lived, in months below two years."""
    return f"{int(years)} years" if years >= 2 else f"{years * 12:.0f} months"


def words(slug: str) -> str:
    """A slug as words: `lateral-view` → `Lateral view`."""
    return slug.replace("-", " ").capitalize()


def sentence(phrase: str) -> str:
    """A phrase as a sentence, with its capital and its full stop."""
    whole = phrase[:1].upper() + phrase[1:]
    return whole if not whole or whole.endswith((".", "!", "?")) else f"{whole}."


def _aware(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
