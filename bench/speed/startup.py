"""How long the commands take that do next to nothing, and what they import."""

import shutil
import sys
from pathlib import Path
from typing import Any

from bench.speed.processes import run
from bench.speed.site import new_site, screen

_COMMANDS = {"screen --help": ["--help"], "screen query --help": ["query", "--help"]}
_COUNTED = """import contextlib, io, sys
from worker.cli.main import cli
with contextlib.redirect_stdout(io.StringIO()):
    cli.main(sys.argv[1:], standalone_mode=False)
print(len(sys.modules), *({"torch", "cv2", "sqlalchemy", "numpy"} & sys.modules.keys()))"""

Row = dict[str, Any]


def measure(scratch: Path, repeats: int) -> Row:
    """The best of several wall times in seconds, modules imported, and heavy ones among them."""
    site = new_site(scratch / "site")
    commands = _COMMANDS | {"screen status": ["status"], "screen query": ["query"]}
    rows = {}
    for name, words in commands.items():
        given = words if "--help" in words else ["--config", str(site / "config.toml"), *words]
        counted, *heavy = run([sys.executable, "-c", _COUNTED, *given]).lines[-1][1].split()
        seconds = [screen(site, *words).seconds for _ in range(repeats)]
        rows[name] = {"best_s": min(seconds), "modules": int(counted), "heavy": sorted(heavy)}
    bare = min(run([sys.executable, "-c", "pass"]).seconds for _ in range(repeats))
    shutil.rmtree(site)
    return {"commands": rows, "bare_python_s": bare, "repeats": repeats}
