"""The configuration: read once, checked whole, then passed on in pieces."""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from worker.assets import asset
from worker.errors import ConfigError, NotASite
from worker.filesystem import is_network
from worker.folders import local_name

CONFIG_NAME = "config.toml"
_STATE = "state"
_SQLITE = "sqlite:///"
_SECRET = ("database", "database.url")  # a password may stand in what was written there
_PASSWORD = re.compile(r"(://[^:/?#@]*:).*@|([?&](?:ssl)?password=)[^&]*")


def _octal(value: str) -> str:
    if not re.fullmatch("[0-7]{3,4}", value) or int(value, 8) & 0o007:
        raise ValueError("must be an octal mode without rights for the world, such as '0640'")
    return value


def _device(value: str) -> str:
    kind, _, index = value.partition(":")
    if value in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit()):
        return value
    raise ValueError("must be auto, cpu, cuda or cuda:N")


def _origin(value: str) -> str:
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?", value):
        raise ValueError("must be an origin such as 'https://intranet.example'")
    return value


OctalMode = Annotated[str, AfterValidator(_octal)]
Device = Annotated[str, AfterValidator(_device)]
Origin = Annotated[str, AfterValidator(_origin)]
Positive = Annotated[float, Field(gt=0)]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Site(_Section):
    """Folders of a site and the modes of what is written there."""

    inbox: Path = Path("inbox")
    work: Path = Path("work")
    done: Path = Path("done")
    failed: Path = Path("failed")
    reports: Path = Path("reports")
    dir_mode: OctalMode = "2750"
    file_mode: OctalMode = "0640"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder of the site."""
        return (self.inbox, self.work, self.done, self.failed, self.reports)


class Database(_Section):
    """Where results are kept."""

    url: str = Field(default="sqlite:///screen.db", repr=False)  # there may be a password in it
    busy_timeout_s: Positive = 10

    @property
    def is_file(self) -> bool:
        """Whether it is a file of SQLite; else a server has it."""
        return self.url.startswith(_SQLITE)

    @property
    def file(self) -> Path:
        """The file behind the URL; only where it `is_file`."""
        return Path(self.url.removeprefix(_SQLITE))

    @property
    def shown_url(self) -> str:
        """The URL as people may see it: without its password."""
        if "://" not in self.url:
            return "(no URL)"  # where a password would stand in it nobody knows
        return _PASSWORD.sub(
            lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", self.url
        )

    @property
    def tools_url(self) -> str:
        """The URL as programs of PostgreSQL take it, without its password."""
        url = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql://", self.url)
        url = re.sub(r"(://[^:/?#@]*):.*@", r"\1@", url)
        return re.sub(r"(?<=[?&])(ssl)?password=[^&]*&?", "", url).rstrip("?&")

    @property
    def has_password(self) -> bool:
        """Whether the URL holds a password."""
        return _PASSWORD.search(self.url) is not None


class Cluster(_Section):
    """Several workers on one PostgreSQL."""

    lease_s: Annotated[float, Field(ge=1)] = 60.0


class Watch(_Section):
    """How the inbox is looked at. Times in seconds."""

    mode: Literal["auto", "native", "polling"] = "auto"
    scan_interval_s: Positive = 5.0
    settle_s: Annotated[float, Field(ge=0)] = 2.0
    settle_network_s: Annotated[float, Field(ge=0)] = 10.0
    incomplete_after_s: Positive = 600.0


class Batch(_Section):
    """Films in one transaction, and in one pass of a GPU."""

    size: Annotated[int, Field(ge=1, le=1024)] = 32
    max_age_s: Annotated[float, Field(ge=0)] = 1.0


class Model(_Section):
    """Which weights run, where, and the trail of thresholds that the site has set for them."""

    name: str = "default"
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    engine: Literal["torch", "openvino", "onnx"] = "torch"
    thresholds: Path = Path("thresholds.jsonl")


class Decode(_Section):
    """Limits of the decoder processes."""

    processes: Annotated[int, Field(ge=0, le=64)] = 0
    memory_mb: Annotated[int, Field(ge=256)] = 3072
    timeout_s: Positive = 60.0
    max_file_mb: Annotated[int, Field(ge=1)] = 512
    max_megapixels: Positive = 100.0
    strikes: Annotated[int, Field(ge=1)] = 3

    @property
    def process_count(self) -> int:
        """Decoder processes to start: as configured, or one per usable core, 8 at most."""
        return self.processes or min(8, usable_cores())


class Guard(_Section):
    """What happens to films unlike those the model was validated on."""

    outside_population: Literal["refuse", "mark"] = "refuse"


class Report(_Section):
    """Size and quality of the pictures in reports."""

    picture_px: Annotated[int, Field(ge=256, le=4096)] = 1024
    quality: Annotated[int, Field(ge=1, le=100)] = 85


class Retention(_Section):
    """How long films in done/ and reports are kept. Films in failed/ always are."""

    done_days: Annotated[int, Field(ge=0)] = 0
    reports_days: Annotated[int, Field(ge=0)] = 0
    min_free_gb: Annotated[float, Field(ge=0)] = 0
    keep_days: Annotated[int, Field(ge=1)] = 7


class Dicom(_Section):
    """Answers in DICOM, where they go, and films that come over the network.

    `identity` says what is kept of the patient: nothing, a keyed hash, or name and ID as they are.
    `send_to` and `peers` are nodes as "AE@host:port" and "AE@host"; an empty list of peers lets
    nobody in.
    """

    identity: Literal["off", "pseudonym", "clear"] = "off"
    identity_key_file: Path = Path("identity.key")
    results: tuple[Literal["sr", "sc"], ...] = ()
    answers: Path = Path("answers")
    send_to: str = ""
    ae_title: Annotated[str, Field(pattern="^[A-Z0-9_-]{1,16}$")] = "SCREEN"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 11112
    peers: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""


class Serve(_Section):
    """The web page: where it listens, whom it believes, what it takes.

    `proxies` are addresses whose X-Forwarded-For and -Proto are believed; `embed` are origins whose
    pages may show ours in a frame.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    token_file: Path = Path("serve.token")
    proxies: tuple[str, ...] = ()
    embed: tuple[Origin, ...] = ()
    uploads_per_minute: Annotated[int, Field(ge=1)] = 600


class Log(_Section):
    """How the log is written on stderr."""

    format: Literal["text", "json"] = "text"


class Config(_Section):
    """The whole configuration; every path in it is absolute once loaded.

    `root` is the folder of the file it came from, `source` that file (`None` for the defaults).
    """

    site: Site = Site()
    database: Database = Database()
    cluster: Cluster = Cluster()
    watch: Watch = Watch()
    batch: Batch = Batch()
    model: Model = Model()
    decode: Decode = Decode()
    guard: Guard = Guard()
    report: Report = Report()
    retention: Retention = Retention()
    dicom: Dicom = Dicom()
    serve: Serve = Serve()
    log: Log = Log()
    root: Path = Field(default=Path(), exclude=True)
    source: Path | None = Field(default=None, exclude=True)

    @property
    def local_state(self) -> Path:
        """What this machine's files about the database are named after (pulse, crash record).

        A server's database has a folder beside the configuration, or, where that is on a share, in
        the machine's own state directory.
        """
        if self.database.is_file:
            return self.database.file
        if is_network(self.root):
            return local_name(self.root)
        return self.root / _STATE / "screen"

    def require_site(self) -> "Config":
        """Return self when the site's folders are there; raises NotASite otherwise."""
        missing = [folder for folder in self.site.folders if not folder.is_dir()]
        if missing and len(missing) < len(self.site.folders):
            raise NotASite(
                f"{missing[0]} is missing: if a share is not mounted, mount it; if it was removed, "
                "make it again with mkdir"
            )
        if missing:
            raise NotASite(
                f"{self.root} is not a Screen site: no folder {missing[0]}. "
                "Make one with 'screen init DIR', then run in it or name its config with --config"
            )
        return self


def load_config(path: Path | None = None, cwd: Path | None = None) -> Config:
    """Read `path`, else `./config.toml`, else the packaged defaults (then relative to `cwd`).

    Raises ConfigError naming the key, the value and what is allowed.
    """
    cwd = cwd or Path.cwd()
    if path is None and (cwd / CONFIG_NAME).is_file():
        path = cwd / CONFIG_NAME
    return _parse(path or asset(CONFIG_NAME), source=path, root=path.parent if path else cwd)


def _parse(file: Path, source: Path | None, root: Path) -> Config:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the configuration {file}: {why}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    reserved = {"root", "source"} & values.keys()
    if reserved:
        raise ConfigError(f"{file}: unknown key '{reserved.pop()}'")
    root = root.resolve()
    try:
        config = Config.model_validate({**values, "root": root, "source": source})
    except ValidationError as error:
        raise ConfigError(f"{file}: {_explain(error.errors()[0])}") from error
    return _absolute(config, root)


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}': see the comments in the file that 'screen init' writes"
    value = "" if key in _SECRET else f" = {error['input']!r}"
    return f"{key}{value}: {error['msg'].removeprefix('Value error, ')}"


def _absolute(config: Config, root: Path) -> Config:
    folders = {
        name: root / getattr(config.site, name)
        for name in ("inbox", "work", "done", "failed", "reports")
    }
    url = config.database.url
    if url.startswith(_SQLITE):
        url = _SQLITE + str(root / url.removeprefix(_SQLITE))
    absolute = config.model_copy(
        update={
            "site": config.site.model_copy(update=folders),
            "model": config.model.model_copy(update={"thresholds": root / config.model.thresholds}),
            "dicom": config.dicom.model_copy(
                update={
                    "identity_key_file": root / config.dicom.identity_key_file,
                    "answers": root / config.dicom.answers,
                }
            ),
            "serve": config.serve.model_copy(update={"token_file": root / config.serve.token_file}),
            "database": config.database.model_copy(update={"url": url}),
        }
    )
    _check_apart(absolute)
    return absolute


def _check_apart(config: Config) -> None:
    """Raise ConfigError when the worker would take its own files for films."""
    folders = {
        name: Path(os.path.normpath(getattr(config.site, name)))
        for name in ("inbox", "work", "done", "failed", "reports")
    }
    for name, folder in folders.items():
        inside = {
            "this configuration": config.root,
            "the database": config.local_state.parent,
            "model.thresholds": config.model.thresholds.parent,
            "serve.token_file": config.serve.token_file.parent,
            "dicom.identity_key_file": config.dicom.identity_key_file.parent,
            "dicom.answers": config.dicom.answers,
        }
        inside |= {f"site.{other}": path for other, path in folders.items() if other != name}
        for what, path in inside.items():
            if path.is_relative_to(folder):
                raise ConfigError(
                    f"site.{name} = {folder} holds {what}: give every folder of the site a place "
                    "of its own, none inside another"
                )
