"""What a node of the cluster must have as the others have it; each actor looks at its own."""

import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from models.errors import ModelError
from worker import __version__, logs
from worker.config import Config, load_config
from worker.errors import ClusterLost, ConfigError, ScreenError, ShareGone
from worker.filesystem import open_film
from worker.identity import Patients
from worker.intake.objects import Objects, may_pass, require_listable


@dataclass(frozen=True)
class Seen:
    """An archive as the driver sees it: its root and its first film, with the size in bytes."""

    root: Path
    film: Path | None
    size: int


@dataclass(frozen=True)
class Ground:
    """What every node must find: this program, this configuration, these archives."""

    version: str
    config_file: Path
    config_sha256: str
    key_sha256: str | None  # of the key of patients, where the site keeps one
    archives: tuple[Seen, ...]
    stores: tuple[Objects, ...]

    @classmethod
    def of(cls, config: Config, archives: Sequence[Seen], stores: Sequence[Objects]) -> "Ground":
        """As it is here, on the driver's machine; a key of patients is made. Raises ConfigError."""
        if config.source is None:
            raise ConfigError("--engine ray needs a configuration file that all nodes can read")
        Patients(config.dicom)
        file = config.source.resolve()
        return cls(
            __version__, file, _sha256(file), _key_sha256(config), tuple(archives), tuple(stores)
        )

    def config(self) -> Config:
        """Check this node and read its configuration.

        Raises ClusterLost, ConfigError or ShareGone.
        """
        if __version__ != self.version:
            raise ClusterLost(f"it has Screen {__version__}, the driver {self.version}")
        if _sha256(self.config_file) != self.config_sha256:
            raise ConfigError(f"{self.config_file} is another file than the driver's")
        self.archives_here()
        config = load_config(self.config_file)
        logs.set_up(config.log.format)
        return config

    def require_key(self, config: Config) -> None:
        """Raise ConfigError unless this node knows a patient as the others do."""
        if _key_sha256(config) != self.key_sha256:
            raise ConfigError(
                f"{config.dicom.identity_key_file} is another key than the driver's: copy that here"
            )

    def require_stores(self) -> None:
        """Raise ConfigError where this node may not list the archives in object stores.

        A store that does not answer now is waited for when films are fetched.
        """
        for store in self.stores:
            try:
                require_listable(store)
            except OSError as error:
                if may_pass(error):
                    continue
                raise ConfigError(
                    f"{store.source} cannot be listed here ({error.strerror}): every node needs "
                    "the store's package and the credentials for it, and Ray started with them"
                ) from error

    def archives_here(self) -> Callable[[], None]:
        """Check that the archives are there; gives what checks that they still are.

        Raises ShareGone: a film that is not there may be on a share that is not mounted.
        """
        for seen in self.archives:
            if seen.film is not None:
                _require_film(seen, seen.film)
        devices = {seen: _device(seen.root) for seen in self.archives}

        def check() -> None:
            for seen, device in devices.items():
                if _device(seen.root) != device and seen.film is not None:
                    _require_film(seen, seen.film)  # perhaps it was only mounted again

        return check


@contextmanager
def said_by_node() -> Iterator[None]:
    """Put this node's name before what is wrong with it."""
    try:
        yield
    except (ScreenError, ModelError) as error:
        raise type(error)(f"node {name()}: {error}") from error


def name() -> str:
    """This node for people: its host and the address by which Ray knows it."""
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{socket.gethostname()} ({address})"


def _require_film(seen: Seen, film: Path) -> None:
    try:
        with open_film(film, sys.maxsize) as file:
            size = os.fstat(file.fileno()).st_size
    except (ScreenError, OSError) as error:
        raise ShareGone(
            f"{seen.root} cannot be read here as the driver reads it: the archive must be at the "
            "same path on every node, readable for the account that runs Ray"
        ) from error
    if size != seen.size:
        raise ShareGone(f"{seen.root} is another folder here than on the driver's machine")


def _device(root: Path) -> int:
    try:
        return root.stat().st_dev
    except OSError as error:
        raise ShareGone(f"{root} is gone: if a share is not mounted, mount it") from error


def _key_sha256(config: Config) -> str | None:
    return None if config.dicom.identity == "off" else _sha256(config.dicom.identity_key_file)


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"cannot read {file} ({error.strerror}): site and configuration must be at the same "
            "path on every node"
        ) from error
