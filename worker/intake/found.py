"""A file that came in, from wherever."""

import os
from dataclasses import dataclass
from pathlib import Path

INBOX = "inbox"  # the source of films that were dropped; archives are named by their path


@dataclass(frozen=True)
class Found:
    """A file to be worked on. `file` is its name for people, `path` where its bytes are now.

    `claim` names its folder below work/; empty for files of an archive, which are never moved. An
    object of an object store has its `url`; its bytes are nowhere until they are fetched.
    """

    source: str
    file: str
    path: Path
    size: int
    mtime_ns: int
    claim: str = ""
    url: str = ""

    @property
    def place(self) -> bytes:
        """Where it lies, exactly: what `files.path` says."""
        return self.url.encode() if self.url else os.fsencode(self.path)


def is_url(source: str) -> bool:
    """Whether a source is an object store: paths are absolute, and the inbox is a word."""
    return "://" in source


def found_at(
    source: str, file: str, place: bytes, size: int, mtime_ns: int, claim: str = ""
) -> Found:
    """A file that was recorded; the opposite of `Found.place`."""
    if is_url(source) and not claim:
        return Found(source, file, Path(), size, mtime_ns, url=place.decode())
    return Found(source, file, Path(os.fsdecode(place)), size, mtime_ns, claim)
