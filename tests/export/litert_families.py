"""Convert a small model of every architecture to LiteRT, in the environment that can."""

import sys
from pathlib import Path

from models.architectures import FAMILIES
from tests.export.models import random_model
from worker.export.formats import FORMATS
from worker.export.quiet import quiet
from worker.inference.portable import Portable


def main(out: Path, architectures: list[str]) -> None:
    """Write one .tflite for each architecture into the folder."""
    for architecture in architectures or FAMILIES:
        model = random_model(architecture)
        with quiet():
            (content,) = FORMATS["litert"].code.convert(Portable(model), model.card, None)
        (out / f"{architecture}.tflite").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
