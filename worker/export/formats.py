"""The formats a model can be exported to, what each needs, and where its code is."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from worker.errors import UsageError

if TYPE_CHECKING:  # torch is slow to import, and a shell asks for the names of the formats
    from models.cards import Card
    from worker.inference.portable import Answers, Portable

Contents: TypeAlias = tuple[bytes, ...]  # of an export's files, in the order of `Format.suffixes`
Films: TypeAlias = NDArray[np.float32]  # (N, S, S) in [0, 1], prepared as the card says


class Runtime(Protocol):
    """An exported model, opened."""

    def __call__(self, films: Films) -> "Answers":
        """Answer N prepared films, (N, S, S)."""


class Code(Protocol):
    """What the module of a format has to offer."""

    def convert(self, network: "Portable", card: "Card", calibration: Films | None) -> Contents:
        """Convert to float32, or to int8 where there are films to calibrate on.

        Raises any error where the converter cannot take the network.
        """

    def open_runtime(self, contents: Contents, threads: int) -> Runtime:
        """Open an export for this many threads that ask at once, a core each.

        Raises any error when it is none.
        """


@dataclass(frozen=True)
class Format:
    """One format: `suffixes` of its files, the main first; packages by the name they import as.

    The extra that installs them has the format's name, with `-int8` after it where quantising
    needs more.
    """

    name: str
    suffixes: tuple[str, ...]
    runs_with: tuple[str, ...]
    converts_with: tuple[str, ...]
    quantises_with: tuple[str, ...] = ()

    @property
    def code(self) -> Code:
        """The module of this format."""
        return cast("Code", importlib.import_module(f"worker.export.{self.name}"))

    def require_converter(self, *, int8: bool) -> None:
        """Raise UsageError naming the extra when a package that exporting needs is not there."""
        self._require((*self.converts_with, *self.runs_with), self.name)
        if int8:
            extra = f"{self.name}-int8" if self.quantises_with else self.name
            self._require(self.quantises_with, extra)

    def require_runtime(self) -> None:
        """Raise UsageError naming the extra when a package that running needs is not there."""
        self._require(self.runs_with, self.name)

    def versions(self, *, int8: bool) -> dict[str, str]:
        """Versions of what an export is made and compared with, torch among them."""
        used = {"torch", *self.converts_with, *self.runs_with}
        used |= set(self.quantises_with if int8 else ())
        return dict(sorted(_versions(used)))

    def _require(self, packages: Sequence[str], extra: str) -> None:
        missing = [name for name in packages if find_spec(name) is None]
        if missing:
            apart = " in an environment of its own, see docs/EXPORT.md" if extra == "litert" else ""
            raise UsageError(  # litert brings an older torch
                f"the format {self.name} needs {missing[0]}, which is not installed: "
                f"pip install 'cxr-screen[{extra}]'{apart}"
            )


def _versions(packages: set[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:  # its distribution has another name
            yield name, str(getattr(importlib.import_module(name), "__version__", "unknown"))


FORMATS = {
    each.name: each
    for each in (
        Format("onnx", (".onnx",), ("onnxruntime",), ("onnx", "onnxscript")),
        Format("openvino", (".xml", ".bin"), ("openvino",), ("openvino",), ("nncf",)),
        Format("executorch", (".pte",), ("executorch",), ("executorch", "torchao")),
        Format("litert", (".tflite",), ("ai_edge_litert",), ("litert_torch", "ai_edge_quantizer")),
    )
}


def format_of(path: Path) -> Format | None:
    """The format that an exported file has by its suffix, `None` if it is none of these."""
    return next((each for each in FORMATS.values() if each.suffixes[0] == path.suffix), None)
