"""A file that came in, from wherever."""

from dataclasses import dataclass
from pathlib import Path

INBOX = "inbox"  # the source of films that were dropped; archives are named by their path


@dataclass(frozen=True)
class Found:
    """A file to be worked on. `file` is its name for people, `path` where its bytes are now.

    `claim` names its folder below work/; empty for files of an archive, which are never moved.
    """

    source: str
    file: str
    path: Path
    size: int
    mtime_ns: int
    claim: str = ""
