"""What the program stands on is pinned, and may be used by anybody."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PERMISSIVE = re.compile(
    r"\b(MIT|MIT-CMU|BSD|BSD-2-Clause|BSD-3-Clause|0BSD|Apache|Apache-2\.0|BSL-1\.0|PSF-2\.0|Zlib|"
    r"CC0-1\.0)\b"
)
# What is not permissive in every part, and why it may be used all the same.
KNOWN = {"tqdm": "MPL-2.0 AND MIT"}  # MPL-2.0 asks something of those who change its own files only
NOT_OURS = re.compile("nvidia-|triton|cuda-|pip$")  # for GPUs by torch; by venv


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(extras: tuple[str, ...] = ()) -> dict[str, metadata.Distribution]:
    """Every installed distribution that the program needs, with these extras."""
    found: dict[str, metadata.Distribution] = {}
    to_do, seen = [("cxr-screen", extras)], set()
    while to_do:
        name, wanted = to_do.pop()
        if (normal(name), wanted) in seen:
            continue
        seen.add((normal(name), wanted))
        try:
            each = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        found[normal(name)] = each
        for line in each.requires or ():
            asked = Requirement(line)
            if asked.marker is None or any(
                asked.marker.evaluate({"extra": extra}) for extra in (*wanted, "")
            ):
                to_do.append((asked.name, tuple(sorted(asked.extras))))
    del found["cxr-screen"]
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in pairs}


def licence(each: metadata.Distribution) -> str:
    said = each.metadata
    classified = [line for line in said.get_all("Classifier", []) if line.startswith("License")]
    first_line = (said.get("License") or "").strip().partition("\n")[0]
    return said.get("License-Expression") or " ".join(classified) or first_line


def test_every_dependency_is_pinned_to_the_version_that_is_tested():
    pinned = pins()
    wrong = {
        name: (each.version, pinned.get(name))
        for name, each in needed(("test", "lint", "demo", "audit")).items()
        if not NOT_OURS.match(name) and each.version.partition("+")[0] != pinned.get(name)
    }
    assert wrong == {}


def test_nothing_is_pinned_twice():
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    assert len(lines) == len(pins())


@pytest.mark.parametrize("name", sorted(needed()))
def test_what_runs_at_a_site_has_a_permissive_licence(name):
    if NOT_OURS.match(name):
        return
    said = licence(needed()[name])
    if name in KNOWN:
        assert said == KNOWN[name]
        return
    parts = re.split(r" AND | OR ", said)
    assert all(PERMISSIVE.search(part) for part in parts), said
    assert not re.search(r"\bA?L?GPL", said)


def test_the_gpl_is_opt_in():
    assert "pylibjpeg-libjpeg" not in needed()
    assert "pylibjpeg-libjpeg" in (ROOT / "pyproject.toml").read_text().partition("gpl = [")[2]
