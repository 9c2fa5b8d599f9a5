"""Facts and pixel statistics of real films, kept as numbers: no picture, nothing of a patient.

`python -m tests.imaging.golden` writes them anew; look at what changed before you commit it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worker.errors import FilmError
from worker.imaging.decode import decode
from worker.imaging.prepare import square

GOLDEN = Path(__file__).with_name("golden") / "films.json"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
_GRID = 8
_DIGITS = 4


def films() -> Iterator[tuple[str, Path]]:
    """Name and path of each film that is here: the shared ones, and those of pydicom-data."""
    for folder in ("chest", "other"):
        for path in sorted((SHARED / folder).glob("*.dcm")):
            yield f"{folder}/{path.name}", path
    try:
        import data_store
    except ImportError:
        return
    for path in sorted(Path(data_store.__file__).parent.rglob("RG*.dcm")):
        yield f"pydicom-data/{path.name}", path


def facts(path: Path) -> dict[str, Any]:
    """What decoding finds out about a film, or the slug of why it cannot."""
    try:
        film = decode(path.read_bytes())
    except FilmError as error:
        return {"failure": error.slug}
    low, middle, high = np.percentile(film.pixels, (1, 50, 99))
    return {
        "rows": film.rows,
        "columns": film.columns,
        "transfer_syntax": film.tags.transfer_syntax_uid,
        "photometric": film.tags.photometric_interpretation,
        "notes": list(film.notes),
        "refusal": film.refusal.reason if film.refusal else None,
        "mean": round(float(film.pixels.mean(dtype=np.float64)), _DIGITS),
        "percentiles": [round(float(value), _DIGITS) for value in (low, middle, high)],
        "grid": np.round(square(film.pixels, _GRID).astype(float), _DIGITS).tolist(),
    }


def main() -> None:
    """Write the golden values of all films."""
    GOLDEN.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(facts(path))}" for name, path in films()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
