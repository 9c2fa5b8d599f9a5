"""How many actors a cluster has room for, and what each asks of Ray."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_GROUP_CORES = 8  # one process serves so many well; of larger nodes it is several
_GPU_SCREENER_CORES = 2.0  # hash, picture, page and rows of a film beside the GPU


@dataclass(frozen=True)
class Place:
    """What one actor asks of Ray, and how many threads or children it makes of it."""

    cpus: float
    gpus: float
    cores: int


@dataclass(frozen=True)
class Plan:
    """The actors of a cluster."""

    screeners: tuple[Place, ...]
    decoders: tuple[Place, ...]

    @property
    def films_each(self) -> int:
        """Films that each screener has decoded at once: twice its share of the children."""
        children = sum(place.cores for place in self.decoders)
        return max(2, math.ceil(2 * children / len(self.screeners)))


def plan(nodes: Iterable[Mapping[str, float]], *, use_gpus: bool) -> Plan:
    """Plan for nodes with these resources of Ray (`CPU`, `GPU`).

    Where there are GPUs, each has a screener, and all cores that are left decode. Else the cores go
    in groups of at most eight: of each group a screener and a decoder ask for one half, and both
    make as many threads, or children, as it has cores: which of them has more to do depends on the
    films, as it does on one machine. Ray decides where each is. An empty plan has no room.
    """
    found = [(node.get("CPU", 0.0), node.get("GPU", 0.0) if use_gpus else 0.0) for node in nodes]
    if not any(gpus >= 1 for _, gpus in found):
        groups = [size for cpus, _ in found for size in _groups(cpus)]
        halves = tuple(Place(size / 2, 0.0, math.ceil(size)) for size in groups)
        return Plan(halves, halves)
    screeners, left = [], []
    for cpus, gpus in found:
        cpus_each = min(_GPU_SCREENER_CORES, cpus / (gpus + 1)) if gpus >= 1 else 0.0
        screeners += [Place(cpus_each, 1.0, 1)] * int(gpus)
        left += _groups(cpus - cpus_each * int(gpus))
    return Plan(tuple(screeners), tuple(Place(size, 0.0, math.ceil(size)) for size in left))


def _groups(cpus: float) -> list[float]:
    """A node's cores in equal groups, whole ones where it has whole ones."""
    if cpus <= 0:
        return []
    count = math.ceil(cpus / _GROUP_CORES)
    size = cpus / count
    return [math.floor(size) if size >= 1 else size] * count
