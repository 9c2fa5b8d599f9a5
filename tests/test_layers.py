"""Each layer imports only those before it; what is heavy or dangerous stays where it belongs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. Within one line nobody imports a neighbour, except inside the same package.
LAYERS = (
    ("worker",),
    ("worker.errors", "worker.assets", "worker.records", "worker.failpoints", "worker.crashes"),
    ("worker.memory", "worker.progress", "worker.uids", "worker.scratch"),
    ("worker.filesystem", "worker.folders", "worker.csvtext", "worker.heartbeat", "worker.logs"),
    ("worker.parquet",),
    ("worker.config", "worker.labels"),
    ("worker.imaging",),
    ("worker.intake",),
    ("models",),
    ("worker.inference", "worker.thresholds", "worker.identity"),
    ("worker.export",),
    ("worker.screening",),
    ("worker.store",),
    ("worker.marks", "worker.patience"),
    ("worker.report",),
    ("worker.spool",),
    ("worker.whereabouts",),
    ("worker.admission", "worker.recovery", "worker.shelves", "worker.failed", "worker.retention"),
    ("worker.decoding", "worker.chores"),
    ("worker.pipeline", "worker.site"),
    ("worker.aside", "worker.lister"),
    ("worker.restore",),
    ("worker.remake", "worker.partitions", "worker.cluster"),
    ("worker.daemon", "worker.backfill", "worker.classify", "worker.evaluate", "worker.train"),
    ("worker.on_ray",),
    ("worker.web", "worker.interop"),
    ("worker.doctor",),
    ("worker.cli",),
    ("worker.__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(
    path for package in ("worker", "models") for path in (ROOT / package).rglob("*.py")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name taken from it) of every import, wherever it stands in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "." * node.level, alias.name) for alias in node.names)


def layer_of(module: str) -> str:
    """`worker.imaging.dicom` → `worker.imaging`; a module of no layer comes back as it is."""
    parts = module.split(".")
    return next((n for i in range(len(parts), 0, -1) if (n := ".".join(parts[:i])) in RANK), module)


def layers_used(path: Path) -> set[str]:
    used = set()
    for module, name in imports(path):
        if module.split(".")[0] in ("worker", "models"):
            longer = f"{module}.{name}"
            used.add(layer_of(longer if longer in RANK else module))
    return used


@pytest.fixture(params=MODULES, ids=module_name)
def path(request):
    return request.param


def test_every_module_has_a_layer(path):
    name = module_name(path)
    assert name == "worker" or layer_of(name) != "worker", f"give {name} its place in LAYERS"


def test_a_module_imports_only_layers_before_its_own(path):
    own = layer_of(module_name(path))
    too_high = {n for n in layers_used(path) if RANK[n] >= RANK[own] and n != own}
    assert not too_high


def test_models_never_import_the_worker(path):
    if module_name(path).startswith("models"):
        assert not [module for module, _ in imports(path) if module.split(".")[0] == "worker"]


def test_imports_are_absolute(path):
    assert not [module for module, _ in imports(path) if module.startswith(".")]


ALLOWED = {
    "torch": {"models", "worker.inference", "worker.export", "worker.train"},
    "torchvision": {"models"},
    "pydicom": {"worker.imaging", "worker.interop"},
    "pynetdicom": {"worker.interop"},
    "highdicom": {"worker.interop"},
    "alembic": {"worker.store"},
    "watchdog": {"worker.intake"},
    "click": {"worker.cli"},
    "tqdm": {"worker.cli"},
    "jinja2": {"worker.report"},
    "sklearn": {"worker.evaluate", "worker.train"},
    "ray": {"worker.on_ray"},
    "pickle": set(),
    "fsspec": {"worker.intake"},
    "sqlite3": {"worker.store"},  # for its authorizer: `screen query --sql`
}


def test_a_package_is_imported_only_where_it_belongs(path):
    own = layer_of(module_name(path))
    tops = {module.split(".")[0] for module, _ in imports(path)}
    assert not {top for top in tops & ALLOWED.keys() if own not in ALLOWED[top]}


def test_only_the_store_knows_more_of_sqlalchemy_than_the_type_of_an_engine(path):
    if layer_of(module_name(path)) == "worker.store":
        return
    used = {(m, n) for m, n in imports(path) if m.split(".")[0] == "sqlalchemy"}
    assert used <= {("sqlalchemy", "Engine")}


def test_the_worker_itself_does_not_load_the_parser_of_films():
    """Bytes of films are parsed in the decoder children; the parent need not even know how."""
    code = "import sys, worker.imaging.sandbox; print('pydicom' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    "module",
    [
        "worker.cli.main",
        *(
            f"worker.cli.{n}"
            for n in (
                "films",
                "watch",
                "backfill",
                "report",
                "query",
                "model",
                "health",
                "failed",
                "network",
                "export",
            )
        ),
    ],
)
def test_help_waits_for_no_heavy_import(module):
    heavy = (
        "{'torch', 'cv2', 'sqlalchemy', 'pydicom', 'pynetdicom', 'sklearn', 'watchdog', 'pyarrow'}"
    )
    code = f"import sys, {module}; print(sorted({heavy} & sys.modules.keys()))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
