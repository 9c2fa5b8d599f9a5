"""The bench's figures as Markdown: on stdout after a run, and in docs/PERFORMANCE.md."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench.speed import ends, figures, growth

Row = dict[str, Any]
Lines = Iterator[str]

_IDLE = 0.25  # load a core below which a machine is idle
_NAMES = {
    "backfill": "`screen backfill`",
    "backfill, OpenVINO": "`screen backfill` with OpenVINO",
    "watch": "`screen watch --once`, full inbox",
    "predictions": "`screen classify`, smallest picture",
    "predictions and pictures": "`screen classify`",
    "plain 224 px": "plain script, overlays of 224 px",
    "plain 1024 px": "plain script, overlays of 1024 px",
}


def table(part: str, result: Row) -> str:
    """The tables of one part's result, as `bench.speed` keeps it in JSON."""
    return "\n".join(
        [machine(result["facts"], quick=result["quick"]), "", *_TABLES[part](result["found"])]
    )


def fill_in(document: str, results: Mapping[str, Row]) -> str:
    """A document with the tables of these parts between their markers. Raises as `placed`."""
    for part, result in results.items():
        document = placed(document, part, table(part, result))
    return document


def placed(document: str, part: str, text: str) -> str:
    """A document with a part's text between its markers.

    Raises KeyError for a part that the document has no place for.
    """
    place = re.compile(rf"(<!-- bench:{part} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(document):
        raise KeyError(part)
    return place.sub(lambda m: f"{m[1]}{text}\n{m[2]}", document)


def machine(facts: Row, *, quick: bool) -> str:
    """The machine, the versions and the load that figures belong to."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    settings = "".join(f", {name}={value}" for name, value in facts["settings"].items())
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    form = "Quick form: too short to compare. " if quick else ""
    if facts["load_before"][0] > _IDLE * facts["cores"]:
        form += "**The machine was busy with other work: compare nothing.** "
    return (
        f"{form}{facts['at'][:10]}, revision `{facts['revision']}`: {facts['cpu']}, "
        f"{facts['cores']} cores, {facts['memory_gb']} GB{gpu}, Linux {facts['kernel']}, "
        f"{facts['filesystem']}; Python {facts['python']}, {packages}{settings}; "
        f"load before: {facts['load_before'][0]}."
    )


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    yield f"| {' | '.join(head)} |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _spread(value: Row, form: str = ".2f") -> str:
    """Median with its ends."""
    low, high = format(value["least"], form), format(value["most"], form)
    middle = format(value["median"], form)
    return middle if low == high else f"{middle} ({low}–{high})"


def _mixes(found: Row) -> Iterator[tuple[str, Row]]:
    for each in found.values():
        yield f"{each['mix']}, {each['films']} films", ends.summary(each)


def _ran(found: Row) -> Iterator[tuple[str, Row]]:
    """The mixes of which whole runs were measured, not stages alone."""
    return ((name, summary) for name, summary in _mixes(found) if summary["runs"])


def _stages(found: Row) -> Lines:
    said = [(f"{each['mix']} ({each['sources']})", ends.summary(each)) for each in found.values()]
    head = ["ms per film on one core"]
    head += [f"{name}{also}" for name, _ in said for also in ("", ", all cores busy")]
    rows = []
    for stage in said[0][1]["stages"]:
        cells = [
            f"{summary[key][stage]:.2f}"
            for _, summary in said
            for key in ("stages", "stages_together")
        ]
        rows.append([f"**{stage}**" if stage in figures.UNAVOIDABLE else stage, *cells])
    limits = [
        _spread(summary[key]) for _, summary in said for key in ("limit_ms", "limit_together_ms")
    ]
    rows.append(["additive limit: **bold**, divided by the cores", *limits])
    if any("CUDA" in name for each in found.values() for name in each["network"][0]):
        limits = [cell for _, summary in said for cell in (_spread(summary["gpu_limit_ms"]), "–")]
        rows.append(["limit beside a GPU: read and decode on all cores", *limits])
    yield from _grid(head, rows)
    first = next(iter(found.values()))
    for name, key in (("network, heat map and guard", "network"), ("JPEG decoded by", "bare")):
        yield ""
        timed = figures.medians(first[key])
        yield from _grid([name, "ms per film"], [[n, f"{ms:.2f}"] for n, ms in timed.items()])


def _runs(found: Row) -> Lines:
    rows, shares = [], ("share", "share_together")
    for name, summary in _ran(found):
        for run, said in summary["runs"].items():
            rows.append(
                [
                    f"{_NAMES[run]}: {name}",
                    _spread(said["steady_films_per_s"], ".1f"),
                    _spread(said["films_per_s"], ".1f"),
                    *(_spread(said[key]) if key in said else "–" for key in shares),
                    _spread(said["busy"], ".0%"),
                ]
            )
    head = ["run", "films/s, steady", "with start-up", "of the limit"]
    yield from _grid([*head, "of the limit with all cores busy", "of all cores"], rows)


def _backfill(found: Row) -> Lines:
    yield from _runs(found)
    yield ""
    for name, summary in _ran(found):
        against = summary["runs"]["predictions"]["against_it"]["backfill"]["steady"]
        whole = {key: 1 / value - 1 for key, value in against.items()}
        yield (
            f"Overlays and reports cost on top of predictions alone ({name}; target ≤ 15%): "
            f"{_spread(summary['overlay_cost_by_stages'], '.0%')} by their stages; "
            f"{whole['median']:.0%} ({whole['most']:.0%}–{whole['least']:.0%}) end to end, rows of "
            "the database included."
        )
        yield ""


def _plain(found: Row) -> Lines:
    yield from _runs(found)
    yield ""
    rows = []
    for name, summary in _ran(found):
        for run in ("plain 224 px", "plain 1024 px"):
            for ours, ratio in summary["runs"][run]["against_it"].items():
                rows.append(
                    [
                        f"{_NAMES[ours]}, against {_NAMES[run]}: {name}",
                        _spread(ratio["steady"], ".1f"),
                        _spread(ratio["with_start"], ".1f"),
                    ]
                )
    yield from _grid(["times as fast (target 8)", "steady", "with start-up"], rows)


def _latency(found: Row) -> Lines:
    cells = [f"{found[key]:.2f} s" for key in ("p50_s", "p95_s", "most_s")]
    yield from _grid(
        ["from drop to page, without settling", "p50", "p95 (target ≤ 1.0 s)", "longest"],
        [[f"{found['films']} films, one by one", *cells]],
    )


def _memory(found: Row) -> Lines:
    head = ["films", "peak PSS, GB", "peak RSS, GB", "sum of each process's peak RSS, GB"]
    rows = [
        [
            f"{row['films']:,} ({row['mix']})",
            *(f"{row[key] / 1e9:.2f}" for key in ("peak_pss", "peak_rss", "sum_of_peak_rss")),
            str(row["most_processes"]),
        ]
        for row in found["rows"]
    ]
    yield from _grid([*head, "processes"], rows)
    yield ""
    apart = growth.summary(found["rows"])["peaks_apart"]
    yield f"Peaks of PSS lie {apart:.1%} apart (target ≤ 5%; peak ≤ 1.5 GB)."


def _scaling(found: Row) -> Lines:
    rows = [
        [
            f"{row['films']:,} ({row['mix']})",
            f"{row['ms_per_film']:.2f}",
            f"{row['ms_per_film_with_start']:.2f}",
            f"{row['busy']:.0%}",
            f"{row['again_s']:.1f}",
        ]
        for row in found["rows"]
    ]
    yield from _grid(
        ["films", "ms per film, steady", "with start-up", "of all cores", "again, finished: s"],
        rows,
    )
    yield ""
    apart = growth.summary(found["rows"])["ms_per_film_apart"]
    yield f"Time per film lies {apart:.1%} apart (target ≤ 10%)."


def _rerun(found: Row) -> Lines:
    yield from _grid(
        ["`screen backfill` again over a finished archive", "whole command (target ≤ 10 s)"],
        [[f"{found['films']:,} files", f"{found['seconds']:.1f} s"]],
    )


def _query(found: Row) -> Lines:
    rows = [
        [
            f"`screen query {row['asked']}`".replace(" `", "`"),
            str(row["rows"]),
            f"{row['database_s'] * 1000:.1f} ms",
            f"{row['command_s']:.2f} s",
            _plan(row["plan"]),
        ]
        for row in found["questions"].values()
    ]
    head = [f"of {found['rows']:,} files", "rows", "database (target ≤ 100 ms)", "command"]
    yield from _grid([*head, "query plan"], rows)
    yield ""
    rows = [
        [
            f"`{row['asked']}`",
            str(row["rows"]),
            f"{row['first_rows_s'] * 1000:.1f} ms",
            f"{row['all_rows_s'] * 1000:.1f} ms",
            _plan(row["plan"]),
        ]
        for row in found["documented_sql"]
    ]
    yield from _grid(
        ["docs/DATABASE.md", "rows", "to the first 50", "to the last", "query plan"], rows
    )
    yield ""
    worklist = found["worklist"]
    peak = f", {worklist['peak_pss'] / 1e9:.2f} GB" if worklist["peak_pss"] else ""
    yield (
        f"`screen status` {found['status_s']:.2f} s; the worklist written in "
        f"{worklist['seconds']:.2f} s{peak}: {worklist['pages']} pages, index.html "
        f"{worklist['index_bytes'] / 1e6:.2f} MB; the database has "
        f"{found['database_bytes'] / 1e6:,.0f} MB."
    )


def _plan(steps: Sequence[str]) -> str:
    """What a query plan rests on: whole tables read, indexes, sorting; rows by number go unsaid."""
    words = []
    for step in steps:
        if step.startswith("SCAN"):
            words.append(f"**{step.lower()}**")
        elif index := re.search(r"INDEX (\w+)", step):
            words.append(index[1].replace("sqlite_autoindex_", "unique "))
        elif "TEMP B-TREE" in step:
            words.append(f"sorted for {step.rpartition('FOR ')[2]}")
    return ", ".join(dict.fromkeys(words))


def _startup(found: Row) -> Lines:
    rows = [
        [f"`{name}`", f"{row['best_s']:.2f} s", str(row["modules"]), ", ".join(row["heavy"]) or "–"]
        for name, row in found["commands"].items()
    ]
    bare = f"{found['bare_python_s']:.2f} s"
    yield from _grid(
        ["command", f"best of {found['repeats']}", "modules imported", "heavy ones among them"],
        [*rows, ["Python alone", bare, "–", "–"]],
    )
    yield ""
    yield "Target: `screen --help` ≤ 0.3 s, without torch."


def _view(found: Row) -> Lines:
    names = {"file": "from the disk", "served": "from `screen serve`"}
    rows = [
        [names[way], *(f"{_spread(said[key], '.0f')} ms" for key in ("paint_ms", "load_ms"))]
        for way, said in found["ways"].items()
    ]
    head = [f"worklist of {found['results']:,} results", "first view (target ≤ 1,000 ms)"]
    yield from _grid([*head, "whole page"], rows)
    yield ""
    yield (
        f"{found['repeats']} times each, in turns, in Chromium {found['chromium']} that has seen "
        f"nothing before; index.html has {found['bytes'] / 1e6:.2f} MB."
    )


_TABLES: dict[str, Callable[[Row], Lines]] = {
    "stages": _stages,
    "backfill": _backfill,
    "watch": _runs,
    "plain": _plain,
    "latency": _latency,
    "memory": _memory,
    "scaling": _scaling,
    "rerun": _rerun,
    "query": _query,
    "startup": _startup,
    "view": _view,
}
