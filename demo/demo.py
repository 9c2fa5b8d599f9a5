"""Show Screen at work: a fresh site, a running daemon, 17 real films dropped into its inbox."""

import json
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILMS = ROOT / "tests" / "films"
SCREEN = Path(sys.executable).with_name("screen")
DICOM = "RG1_UNCR.dcm"
TIMEOUT_S = 300


def main() -> None:
    """Run the demo in the folder named on the command line, made anew."""
    site = Path(sys.argv[1]).resolve()
    remove_old(site)
    screen("init", site)
    config = site / "config.toml"
    films = [*sorted(FILMS.glob("*/*.jpeg")), chest_dicom()]
    daemon = subprocess.Popen([SCREEN, "watch", "--config", config])
    try:
        for film in films:
            shutil.copy(film, site / "inbox")
        results = wait_for(config, len(films), daemon)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(TIMEOUT_S)
    heading("Results, as `screen query` prints them")
    screen("query", "--config", config)
    refused = next(result for result in results if result["file"] == DICOM)
    print(f"\n{DICOM} is REFUSED ({refused['reason']}):\n  {refused['message']}")
    heading("The 16 validation films against their labels, as `screen evaluate` prints them")
    screen("evaluate", FILMS)
    report_page(site, config)


def remove_old(site: Path) -> None:
    """Remove the site of an earlier demo, and nothing that is none."""
    if not site.exists():
        return
    if not (site / "config.toml").exists():
        sys.exit(f"{site} is there and is no site: remove it, then run the demo again")
    shutil.rmtree(site)


def screen(*arguments: object) -> None:
    """Run one command of the program; the demo ends when it fails."""
    subprocess.run([SCREEN, *map(str, arguments)], check=True)


def chest_dicom() -> Path:
    """A real chest radiograph as DICOM, from the PyPI package pydicom-data."""
    spec = find_spec("data_store")
    if spec is None or spec.origin is None:
        sys.exit("pydicom-data is missing: run 'make demo'")
    return Path(spec.origin).parent / "data" / DICOM


def wait_for(config: Path, count: int, daemon: subprocess.Popen[bytes]) -> list[dict[str, str]]:
    """Wait until the database has a result for every film."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            sys.exit(f"screen watch ended with {daemon.returncode}: see above")
        asked = [str(SCREEN), "query", "--json", "--config", str(config)]
        results: list[dict[str, str]] = json.loads(
            subprocess.run(asked, check=True, capture_output=True).stdout
        )
        if len(results) >= count:
            return results
        time.sleep(1)
    sys.exit(f"not all films were screened within {TIMEOUT_S} s: run 'screen doctor'")


def report_page(site: Path, config: Path) -> None:
    """Say what to try next and where the report is; its path is the last line."""
    relative = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
    heading("Try next")
    print("  1. open the report below: worklist, films, heat maps (key h)")
    print(f"  2. .venv/bin/screen watch --config {relative}   and drop films of your own into")
    print(f"     {site / 'inbox'}")
    print(f"  3. .venv/bin/screen backfill FOLDER --config {relative}   for an archive\n")
    print("The report:")
    print(site / "reports" / "index.html")


def heading(text: str) -> None:
    """A line above the next table."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":
    main()
