"""How long until a worklist of many results is seen, in Debian's Chromium; needs playwright."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from bench.speed.processes import CommandFailed, start_process, tail
from bench.speed.site import command_for, new_site
from bench.synthetic import fill
from worker.config import load_config
from worker.report.site import write_worklist
from worker.site import hold_site

_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
_PATIENCE_S = 60.0
_PAINTED = """() => {
  const [{ startTime }] = performance.getEntriesByName('first-contentful-paint');
  return startTime;
}"""
_LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"

Row = dict[str, Any]


def measure(scratch: Path, results: int, repeats: int) -> Row:
    """Milliseconds from the opening of a worklist to its first view and to its end.

    Each time in a browser that has seen nothing, from the disk and from `screen serve` in turns.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise CommandFailed("Debian's package chromium is not installed")
    site = new_site(scratch / "site")
    index = _worklist(site, results)
    times: dict[str, list[Row]] = {"file": [], "served": []}
    with _serving(site) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_QUIET))
        pages = {"file": index.as_uri(), "served": f"{url}/reports/index.html"}
        for _ in range(repeats):
            for way, address in pages.items():
                page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
                page.goto(address)
                page.wait_for_function(f"({_LOADED})() > 0")
                times[way].append(
                    {"paint": page.evaluate(_PAINTED), "load": page.evaluate(_LOADED)}
                )
                page.context.close()
        version = browser.version
        browser.close()
    return {
        "results": results,
        "repeats": repeats,
        "bytes": index.stat().st_size,
        "chromium": version,
        "ways": {way: _summary(rows) for way, rows in times.items()},
    }


def _worklist(site: Path, results: int) -> Path:
    """Fill a site's database, and write its pages."""
    config = load_config(site / "config.toml")
    with hold_site(config) as engine:
        fill(engine, results)
        return write_worklist(config.site, engine, datetime.now(UTC))


def _summary(rows: list[Row]) -> Row:
    """Least, median and most of what was timed."""
    values = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        f"{name}_ms": {"least": min(times), "median": median(times), "most": max(times)}
        for name, times in values.items()
    }


@contextmanager
def _serving(site: Path) -> Iterator[str]:
    """`screen serve` beside this process; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as errors:
        server = start_process(command_for(site, "serve", "--port", str(port)), errors)
        try:
            _wait(server, f"{url}/healthz")
            yield url
        except TimeoutError as error:
            raise CommandFailed(f"screen serve does not answer: {tail(errors)}") from error
        finally:
            server.terminate()
            server.communicate()


def _wait(server: "subprocess.Popen[str]", url: str) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end_s and server.poll() is None:
        try:
            with urlopen(url):  # noqa: S310 — of this machine
                return
        except URLError:
            time.sleep(0.1)
    raise TimeoutError
