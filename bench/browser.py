"""The page of deploy/browser beside the worker, film by film: what the browser's own decoder costs.

    python -m bench.browser PAGE.html FOLDER

PAGE.html is what pack.py made of an export of the default model. Chromium decodes each JPEG or
PNG, prepares it in JavaScript and asks the model on one thread; the worker does the same here.
"""

import argparse
import base64
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Page, sync_playwright

from worker.classify import classify
from worker.config import load_config
from worker.folders import regular_files
from worker.records import Decision, Record
from worker.screening import Screener

MAX_FILE_MB = 512
ANSWER = """async (film) => {
    if (!globalThis.opened) {
        const { openModel } = await import("screen/model.js");
        const bytes = async (id) => (await fetch(document.getElementById(id).href)).arrayBuffer();
        const card = JSON.parse(new TextDecoder().decode(await bytes("card")));
        globalThis.opened = await openModel(await bytes("onnx"), card, await bytes("wasm"));
    }
    const { readFilm } = await import("screen/film.js");
    const start = performance.now();
    const content = Uint8Array.from(atob(film), (letter) => letter.charCodeAt(0));
    try {
        const answer = await opened.answer(await readFilm(new Blob([content])));
        return { ...answer, heatMap: null, ms: performance.now() - start };
    } catch (error) {
        return { decision: "none", reason: error.message };
    }
}"""

Row = dict[str, Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=500, help="films, drawn with the seed 0")
    chosen = parser.parse_args()
    films = sorted(regular_files(chosen.folder))
    drawn = sorted(random.Random(0).sample(films, min(chosen.most, len(films))))
    with closing(Screener(load_config(None))) as screener:
        records = [each.record for each in classify(screener, drawn, 16, MAX_FILE_MB)]
    pairs = list(zip(records, in_browser(chosen.page, drawn), strict=True))
    print("\n".join(said(chosen.folder.name, pairs)))


def in_browser(page: Path, films: list[Path]) -> list[Row]:
    """What the page's own modules answer."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        opened: Page = browser.new_page()
        opened.goto(page.resolve().as_uri())
        return [opened.evaluate(ANSWER, _base64(film)) for film in films]


def _base64(film: Path) -> str:
    return base64.b64encode(film.read_bytes()).decode("ascii")


def said(folder: str, pairs: list[tuple[Record, Row]]) -> Iterator[str]:
    """Each film answered otherwise, then a line for the table of docs/EXPORT.md."""
    others = 0
    for record, row in pairs:
        if _words(record.decision, record.reason) != _words(row["decision"], row.get("reason")):
            others += 1
            yield f"{record.file}: worker {record.decision} {record.reason}, page {row}"
    apart = [
        abs(record.probability - row["probability"])
        for record, row in pairs
        if record.probability is not None and row.get("probability") is not None
    ]
    refused = sum(record.decision == Decision.REFUSED for record, _ in pairs)
    ms = median(row["ms"] for _, row in pairs if "ms" in row)
    most = f"{max(apart):.1g}" if apart else "–"
    yield f"| `{folder}` | {len(pairs)} | {refused} | {others} | {most} | {ms:.0f} |"


def _words(decision: str, reason: str | None) -> tuple[str, str | None]:
    return decision, reason if decision == Decision.REFUSED else None


if __name__ == "__main__":
    main()
