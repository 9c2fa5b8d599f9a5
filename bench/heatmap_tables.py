"""The figures of `bench.heatmaps` as the Markdown of docs/HEATMAPS.md."""

from typing import Any

Row = dict[str, Any]


def report(found: Row) -> str:
    """All tables."""
    equal, area = found["equality"], found["area"]
    lines = [
        f"Model `{found['model']}`, weights `{found['weights_sha256'][:12]}…`; {found['films']} "
        f"films, of which {found['called']} called PNEUMONIA ({found['patients']} patients) were "
        "taken apart.",
        "",
        f"Largest difference in any cell of any film, in log-odds: pytorch-grad-cam "
        f"{equal['pytorch-grad-cam']:.1e}, Captum {equal['Captum']:.1e} (the largest cell has "
        f"{equal['largest']:.1f}).",
        "",
        "| map | deletion ↓ | − random | insertion ↑ | − random | ROAD ↑ | − random |",
        "|---|---|---|---|---|---|---|",
        *(faithfulness_row(name, row) for name, row in found["methods"].items()),
        "",
        f"Ours − mean map of other films: {against_mean_map(found['methods']['ours'])}. "
        f"Films called NORMAL, wholly blurred: median log-odds {found['healthy_blurred']:+.1f}.",
        "",
        f"| heat of {found['thorax_found']} films (thorax found) | in the thorax | in dark lung |",
        "|---|---|---|",
        *(
            f"| {name} | {row['place']['thorax']:.1%} | {row['place']['lungs']:.1%} |"
            for name, row in found["methods"].items()
        ),
        f"| share of the film's area | {area['thorax']:.1%} | {area['lungs']:.1%} |",
        "",
        f"Share in the thorax, ours − area: {percent(found['thorax_minus_area'])}; "
        f"ours − mean map: {percent(found['thorax_minus_mean_map'])}.",
        "",
        "| weights drawn anew | mean rank correlation | mean size |",
        "|---|---|---|",
        *(
            f"| {r['redrawn']} | {r['mean']:+.2f} | {r['size']:.2f} |"
            for r in found["randomisation"]
        ),
    ]
    return "\n".join(lines)


def faithfulness_row(name: str, row: Row) -> str:
    """One line of the first table."""
    cells = [
        f"{row[k]:.3f} | {signed(row[f'{k}_minus_random'])}" for k in ("deletion", "insertion")
    ]
    return (
        f"| {name} | {' | '.join(cells)} | {row['road']:.2f} | {signed(row['road_minus_random'])} |"
    )


def against_mean_map(row: Row) -> str:
    """Ours against the map that is right on average."""
    keys = ("deletion", "insertion", "road")
    return ", ".join(f"{key} {signed(row[f'{key}_minus_mean_map'])}" for key in keys)


def signed(value: Row) -> str:
    """Difference with its interval."""
    return f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def percent(value: Row) -> str:
    """Difference of shares, in percentage points, with its interval."""
    mean_, low, high = (100 * value[key] for key in ("mean", "low", "high"))
    return f"{mean_:+.1f} [{low:+.1f}, {high:+.1f}] points"
