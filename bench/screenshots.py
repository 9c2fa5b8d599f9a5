"""Take the README's pictures: `python -m bench.screenshots`, with Debian's Chromium.

The demo's films are dropped on the reading room of a fresh site, so that its picture shows them on
their way; the others show what came of them.
"""

import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, Popen
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Page, sync_playwright

from bench.speed.facts import ROOT
from bench.speed.processes import environment
from bench.speed.site import command_for, new_site
from demo.demo import FILMS, chest_dicom

IMAGES = ROOT / "docs" / "images"
QUALITY = 80
PATIENCE_S = 120.0
FIRST = 9  # films that have ended before the others are dropped
FILM = "person1954_bacteria_4886.jpeg"


def main() -> None:
    """Serve a fresh site with a worker, drop the films, take the pictures."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        site = new_site(Path(folder) / "site")
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = command_for(site, "serve", "--watch", "--port", str(port))
        server = Popen([*map(str, command)], env=environment(), stdout=DEVNULL, stderr=DEVNULL)
        try:
            wait_for(f"http://127.0.0.1:{port}/healthz")
            take(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


def take(url: str) -> None:
    """Drop the films on the reading room and photograph the pages."""
    films = [*sorted(FILMS.glob("*/*.jpeg"), key=lambda film: film.stem[::-1]), chest_dicom()]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or sys.exit("chromium is missing"),
            args=["--no-sandbox"],
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.set_input_files("#films", films[:FIRST])
        ended(page, FIRST)
        page.set_input_files("#films", films[FIRST:])
        page.get_by_text("in the inbox.").wait_for()
        keep(page, "room")
        ended(page, len(films))
        page.goto(f"{url}/reports/index.html")
        keep(page, "worklist")
        page.get_by_role("link", name=FILM).click()
        page.keyboard.press("s")
        keep(page, "film")
        page.goto(f"{url}/reports/runs/1.html")
        page.set_viewport_size({"width": 1280, "height": 1180})  # down to its figures
        keep(page, "run")
        chromium.close()


def ended(page: Page, count: int) -> None:
    """Until so many of the films that were sent have come to an end."""
    page.get_by_text(f"{count} of {count} done").wait_for(timeout=PATIENCE_S * 1000)


def keep(page: Page, name: str) -> None:
    """Keep a picture for the README."""
    page.screenshot(path=IMAGES / f"{name}.jpg", type="jpeg", quality=QUALITY)


def wait_for(url: str) -> None:
    """Until the server and its worker answer."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            with urlopen(url):  # noqa: S310 — of this machine
                return
        except URLError:
            time.sleep(0.2)
    sys.exit(f"{url} does not answer")


if __name__ == "__main__":
    main()
