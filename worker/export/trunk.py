"""Which part of a network int8 may have: the stages behind the stem, and nothing else.

Of `kermany-mobilenet-v2` the first convolutions alone did all the harm: a single one of them in
int8 moved guard scores by up to 0.13 in the mean, none behind the stem by more than 0.0015. The
top, which the heat map is read from, and the guard stay in float too.
"""

import hashlib
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from worker.inference.portable import Portable

_KERNEL_DIMENSIONS = 2  # at least: biases and scales are vectors


def trunk_weights(network: Portable) -> frozenset[str]:
    """Fingerprints of the kernels that may become int8."""
    return frozenset(
        fingerprint(weight.numpy())
        for member in network.network.members
        for stage in member.trunk
        for weight in stage.parameters()
        if weight.ndim >= _KERNEL_DIMENSIONS
    )


def fingerprint(values: NDArray[np.float32]) -> str:
    """One name for these numbers in any order: converters rename, transpose and reshape."""
    return hashlib.sha256(np.sort(values, axis=None).tobytes()).hexdigest()


def between(consumers: Mapping[str, Collection[str]], chosen: Collection[str]) -> set[str]:
    """Nodes of a graph that are chosen, or lie on a way from one chosen node to another.

    `consumers` names for each node those that read its output.
    """
    producers: dict[str, set[str]] = {}
    for node, readers in consumers.items():
        for reader in readers:
            producers.setdefault(reader, set()).add(node)
    return set(chosen) | (_reached(consumers, chosen) & _reached(producers, chosen))


def _reached(steps: Mapping[str, Collection[str]], start: Collection[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        for following in steps.get(waiting.pop(), ()):
            if following not in found:
                found.add(following)
                waiting.append(following)
    return found
