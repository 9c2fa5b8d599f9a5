"""What is wrong with this installation and this site, and how to mend it."""

import os
import platform
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from worker import __version__
from worker.config import Config
from worker.errors import ConfigError, ScreenError
from worker.filesystem import filesystem_type, is_network

if TYPE_CHECKING:
    from worker.inference.predictor import Predicts

_PACKAGES = ("torch", "torchvision", "opencv-python-headless", "pydicom", "sqlalchemy", "watchdog")
_DECODERS = {
    "pylibjpeg-openjpeg": "JPEG 2000",
    "pyjpegls": "JPEG-LS",
    "python-gdcm": "JPEG lossless, RLE",
}
_LITTLE_DISK_GB = 2.0
_FILMS_TIMED = 64


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `mend` says what to do, `None` when there is nothing to do."""

    what: str
    found: str
    ok: bool = True
    mend: str | None = None


def examine(config: Config) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    yield Finding("screen", f"{__version__}, Python {platform.python_version()}")
    yield from _packages()
    yield from _decoders()
    yield from _guarded("decoder isolation", lambda: _isolation(config))
    yield from _guarded("device and model", lambda: _model(config))
    yield from _guarded("threshold", lambda: _threshold(config))
    yield from _guarded("patients", lambda: _patients(config))
    yield from _dicom(config)
    there = [folder for folder in config.site.folders if folder.is_dir()]
    if there and len(there) < len(config.site.folders):
        yield from _guarded("site", lambda: Finding("site", str(config.require_site().root)))
    elif there:
        yield from _site(config)
        yield from _guarded("database", lambda: _database(config))
        yield from _guarded("password", lambda: _password(config))
        yield from _guarded("database server", lambda: _server(config))
        yield from _guarded("key of patients", lambda: _lost_key(config))
    else:
        yield Finding("site", f"none at {config.root}", mend="make one with 'screen init DIR'")


def _packages() -> Iterator[Finding]:
    found = {name: _version(name) for name in _PACKAGES}
    missing = [name for name, number in found.items() if number is None]
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    mend = f"pip install {' '.join(missing)}" if missing else None
    yield Finding("packages", text, not missing, mend)


def _decoders() -> Iterator[Finding]:
    for name, reads in _DECODERS.items():
        found = _version(name)
        yield Finding(
            f"decoder for {reads}",
            f"{name} {found or 'missing'}",
            found is not None,
            None if found else f"pip install {name}",
        )
    if _version("pylibjpeg-libjpeg") is None:
        yield Finding(
            "decoder for 12-bit JPEG Extended",
            "not installed",
            mend="only if you need it: pip install 'cxr-screen[gpl]' (GPL-3)",
        )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _isolation(config: Config) -> Finding:
    """What a decoder process, started now, finds that it cannot do."""
    from worker.imaging.limits import DecodeLimits
    from worker.imaging.sandbox import isolation

    found = isolation(DecodeLimits.from_config(config.decode))
    gaps = f"; a hostile film could {', '.join(found.gaps)}" if found.gaps else ""
    return Finding(
        "decoder isolation",
        ", ".join(found.layers) + gaps,
        not found.gaps,
        "run on x86_64 or aarch64 with seccomp, or on a kernel with Landlock 6; in a container, "
        "let its profile pass both"
        if found.gaps
        else None,
    )


def _model(config: Config) -> Finding:
    """The model on its device, and how fast; also with OpenVINO, where it is there to be taken."""
    from models.exports import load
    from models.registry import LoadedModel, find_model
    from worker.export.engine import start_engine
    from worker.inference.engine import Engine

    wanted = config.model
    model = load(find_model(wanted.name, config.root))
    engine = start_engine(model, wanted)
    size_px = model.card.input.size_px
    speed = _films_per_second(engine, size_px)
    found = f"{model.card.name} on {engine.place}, {engine.precision}, {speed:.0f} films/s"
    mend = None
    number = _version("openvino")
    if engine.place == "cpu" and number and isinstance(model, LoadedModel):
        with suppress(ConfigError):  # an architecture that OpenVINO cannot run
            other_engine = Engine(model, "cpu", wanted.precision, "openvino")
            other = _films_per_second(other_engine, size_px)
            found += f"; with OpenVINO {number} {other:.0f} films/s"
            if other > speed:
                mend = "if you like: engine = 'openvino' in [model]; it decides alike"
    return Finding("device and model", found, mend=mend)


def _films_per_second(engine: "Predicts", size_px: int) -> float:
    """How many films all threads of an engine predict in a second, as a worker uses them."""
    import numpy as np

    from worker.inference.predictor import Predictor

    film = np.zeros((size_px, size_px), dtype=np.float32)
    with closing(Predictor(engine, _FILMS_TIMED)) as predictor:
        for _ in range(2):  # the first time everything is made ready
            start = time.perf_counter()
            for predicted in [predictor.submit(film) for _ in range(_FILMS_TIMED)]:
                predicted.result()
    return _FILMS_TIMED / (time.perf_counter() - start)


def _threshold(config: Config) -> Finding:
    from models.cards import read_card
    from models.registry import find_model
    from worker.thresholds import STRANDED, in_use

    used = in_use(read_card(find_model(config.model.name, config.root)), config)
    return Finding(
        "threshold",
        f"{used.decision.threshold:.3f}, {'of this site' if used.entry else 'of the card'}"
        + (f": {STRANDED}" if used.stranded else ""),
        not used.stranded,
        "choose one for these with 'screen models threshold FOLDER', or accept the card's with "
        "'screen models threshold --reset'"
        if used.stranded
        else None,
    )


def _patients(config: Config) -> Finding:
    """What is kept of who the patient is."""
    from worker.identity import key_state

    kept = {
        "off": "nothing is kept of who they are",
        "pseudonym": "a keyed hash of their ID is kept",
        "clear": "name, ID and accession number are kept, and stand on pages",
    }[config.dicom.identity]
    state = (
        "" if config.dicom.identity == "off" else f"; {key_state(config.dicom.identity_key_file)}"
    )
    return Finding("patients", f"{kept} ([dicom] identity = {config.dicom.identity!r}){state}")


def _dicom(config: Config) -> Iterator[Finding]:
    """Other nodes: who may send films, where answers go, and what proves who is who."""
    from worker.interop.nodes import Peers, node
    from worker.interop.tls import client_tls, server_tls

    def tls() -> Finding:
        there = [context(config) for context in (server_tls, client_tls)]
        return Finding("DICOM TLS", "certificate, key and CA fit" if all(there) else "none")

    def peers() -> Finding:
        count = len(Peers(config.dicom.peers))
        return Finding("DICOM peers", f"{count} may send films" if count else "nobody may send")

    def target() -> Finding:
        to = config.dicom.send_to
        return Finding("DICOM answers", f"go to {node(to).title}" if to else "are not sent")

    yield from _guarded("DICOM peers", peers)
    yield from _guarded("DICOM answers", target)
    yield from _guarded("DICOM TLS", tls)


def _site(config: Config) -> Iterator[Finding]:
    for name in ("inbox", "work", "done", "failed", "reports"):
        folder = getattr(config.site, name)
        usable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        mend = None if usable else f"give the worker's user rights: chown or chmod {folder}"
        kind = filesystem_type(folder) or "unknown filesystem"
        yield Finding(name, f"{folder} on {kind}", usable, mend)
    free_gb = shutil.disk_usage(config.site.reports).free / 1e9
    yield Finding(
        "free disk",
        f"{free_gb:.1f} GB below reports/",
        free_gb >= _LITTLE_DISK_GB,
        None if free_gb >= _LITTLE_DISK_GB else "free some space: intake pauses on a full disk",
    )
    moved = (config.site.inbox, config.site.work, config.site.done, config.site.failed)
    devices = {folder.stat().st_dev for folder in moved}
    yield Finding(
        "inbox, work/, done/, failed/",
        "on one filesystem" if len(devices) == 1 else "on different filesystems",
        len(devices) == 1,
        None if len(devices) == 1 else "films are moved by rename: put them on one filesystem",
    )
    events = "polling" if is_network(config.site.inbox) else "native"
    chosen = events if config.watch.mode == "auto" else config.watch.mode
    wrong = chosen == "native" and events == "polling"
    yield Finding(
        "watcher",
        f"{chosen} events ({config.watch.mode})",
        not wrong,
        "a network share sends no events: set watch.mode to auto" if wrong else None,
    )


def _server(config: Config) -> Finding | None:
    """What the server of the database is, and what of its settings is not for results."""
    from worker.site import read_site
    from worker.store.postgres_check import server_settings

    if config.database.is_file:
        return None
    with read_site(config) as engine:
        found = server_settings(engine)
    wrong = found.unsafe or found.careless
    return Finding("database server", found.words, not found.unsafe, "; ".join(wrong) or None)


def _password(config: Config) -> Finding | None:
    """Who else may read the password that stands in the configuration."""
    if not config.database.has_password or config.source is None:
        return None
    mode = stat.S_IMODE(config.source.stat().st_mode)
    open_to_others = mode & 0o077 != 0
    return Finding(
        "password",
        f"in {config.source}, mode {mode:04o}",
        not open_to_others,
        f"chmod 0600 {config.source}, or take it out of database.url: PGPASSWORD or ~/.pgpass"
        if open_to_others
        else None,
    )


def _database(config: Config) -> Finding:
    from worker.site import holder, read_site
    from worker.store.database import integrity_problems
    from worker.store.workers import living_workers

    with read_site(config) as engine:
        problems = integrity_problems(engine)
        is_shared = not config.database.is_file
        count = len(living_workers(engine, config.cluster.lease_s)) if is_shared else 0
    pid = holder(config)
    running = f"workers running: {count}" if count else "no worker is running"
    held = f"held by process {pid}" if pid else running
    return Finding(
        "database",
        "; ".join(problems) or f"sound, {held}; {config.database.shown_url}",
        not problems,
        "stop the worker and restore a copy" if problems else None,
    )


def _lost_key(config: Config) -> Finding | None:
    """The key of patients where it ought to be there and is not."""
    from worker.identity import KEY_LOST, is_key_there
    from worker.site import read_site
    from worker.store.previous import has_patients

    if config.dicom.identity == "off" or is_key_there(config.dicom.identity_key_file):
        return None
    with read_site(config) as engine:
        lost = has_patients(engine)
    mend = f"restore {config.dicom.identity_key_file} from its backup"
    return Finding("key of patients", KEY_LOST, ok=False, mend=mend) if lost else None


def _guarded(what: str, look: Callable[[], Finding | None]) -> Iterator[Finding]:
    """A look that may fail: its error is the finding. `None`: nothing is to be said."""
    from models.errors import ModelError

    try:
        found = look()
    except (ScreenError, ModelError) as error:
        found = Finding(what, "not usable", ok=False, mend=str(error))
    if found is not None:
        yield found
