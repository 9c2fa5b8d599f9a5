"""The figures of `bench.export` as the Markdown of docs/EXPORT.md."""

from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.speed.tables import machine

Row = dict[str, Any]

HEAD = (
    "| `{model}` | MB | × torch | probability | heat map | guard score | forced choices | "
    "decisions | AUC | adults passed |"
)


def report(found: Row) -> str:
    """All tables, one a model, and what is needed to read them."""
    models = list(dict.fromkeys(row["model"] for row in found["rows"]))
    tables = ("\n".join(table(model, found)) for model in models)
    return "\n\n".join([machine(found["facts"], quick=False), about(found), *tables, made(found)])


def about(found: Row) -> str:
    """Which films."""
    return (
        f"{found['films']:,} films of `{found['of']}`, which the models were trained on, half of "
        f"them with pneumonia; int8 calibrated on {found['calibration']} others of that folder. "
        f"Adults: {found['outside']} films of `{found['outside_of']}`, which the guard should "
        "refuse."
    )


def table(model: str, found: Row) -> Iterator[str]:
    """One model's lines, torch first."""
    rows = [row for row in found["rows"] if row["model"] == model]
    yield HEAD.format(model=model)
    yield "|---|" + "---:|" * (HEAD.count("|") - 2)
    good = [row for row in rows if "error" not in row]
    if good:
        cells = [
            _mb(good[0]["source_bytes"]),
            f"1 ({median(row['torch_films_per_s'] for row in good):.0f} films/s)",
            *("–" for _ in range(5)),
            f"{good[0]['torch_auc']:.4f}",
            f"{good[0]['torch_outside_passed']} of {found['outside']}",
        ]
        yield f"| torch | {' | '.join(cells)} |"
    for row in rows:
        yield line(row, found)


def line(row: Row, found: Row) -> str:
    """One export, or why there is none."""
    name = f"{row['format']}, {row['precision']}"
    if "error" in row:
        return f"| {name} | {row['error']} |"
    apart = row["parity"]
    cells = [
        _mb(row["files_bytes"]),
        f"{row['times_torch']:.2f}",
        f"{apart['probability']:.2g}",
        f"{100 * apart['heat_map']:.2g}%",
        f"{apart['guard_score']:.2g}",
        str(apart["forced_choices_changed"]),
        str(row["decisions_changed"]),
        f"{row['auc']:.4f}",
        f"{row['outside_passed']} of {found['outside']}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def made(found: Row) -> str:
    """What made them."""
    versions: dict[str, str] = {}
    for row in found["rows"]:
        versions |= row.get("made_with", {})
    return f"Made with {', '.join(f'{name} {versions[name]}' for name in sorted(versions))}."


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"
