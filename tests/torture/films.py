"""What is fed to the worker under torture, and how it must end."""

import hashlib
import random
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """How a content behaves; the stand-in reads it as the first word of the bytes."""

    FILM = "film"  # decodes
    BROKEN = "broken"  # cannot be decoded
    CRASHER = "crasher"  # takes its decoder down, always
    FLAKY = "flaky"  # takes its decoder down once, then decodes
    KILLER = "killer"  # takes the whole worker down, always


@dataclass(frozen=True)
class Fed:
    """One file given to the worker; `name` is relative to the inbox or the archive."""

    name: str
    content: bytes
    kind: Kind

    @property
    def sha256(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(self.content).hexdigest()

    def drop(self, folder: Path) -> None:
        """Put it there as a careful uploader does: under a temporary name, then renamed."""
        path = folder / self.name
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(self.content)
        temporary.rename(path)


def draw(rng: random.Random, count: int, before: list[Fed]) -> list[Fed]:
    """Draw files: mostly films, some twins of earlier ones, names that collide in done/."""
    fed: list[Fed] = []
    for _ in range(count):
        earlier = before + fed
        if earlier and rng.random() < 0.25:
            twin = rng.choice(earlier)
            content, kind = twin.content, twin.kind
        else:
            kinds, weights = zip(*_SHARES.items(), strict=True)
            kind = rng.choices(kinds, weights)[0]
            content = f"{kind}:{rng.getrandbits(64):x}".encode()
        number = len(earlier)
        name = rng.choice((f"f{number}.jpg", f"s{number}/same.jpg", f"s{number}/same.jpg.json"))
        fed.append(Fed(name, content, kind))
    return fed


_SHARES = {Kind.FILM: 75, Kind.BROKEN: 12, Kind.CRASHER: 4, Kind.FLAKY: 8, Kind.KILLER: 1}
