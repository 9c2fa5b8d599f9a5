"""The tables, typed. People query them: docs/DATABASE.md says what each column means."""

import json
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ENDED = ("screened", "duplicate", "failed")  # states of files that are results
Id = BigInteger().with_variant(Integer(), "sqlite")  # of rows: archives outgrow 32 bits
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
CLAIMED = text("claim <> ''")  # as PostgreSQL's index says it, and with it whoever wants it


def _only(state: str) -> dict[str, Any]:
    """Options of an index over the files in one state, which are few."""
    where = text(f"state = '{state}'")
    return {"sqlite_where": where, "postgresql_where": where}


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; aware in Python, without zone in the database."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse moments without a zone: their meaning would depend on the machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware moment."""
        return value.replace(tzinfo=UTC) if value else None


class Json(TypeDecorator[Any]):
    """A small JSON value as text, sorted, so that equal values are equal text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write JSON."""
        return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read JSON."""
        return None if value is None else json.loads(value)


class Words(TypeDecorator[str]):
    """Text. PostgreSQL cannot hold NUL, which films say at times: U+FFFD stands for it there."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Leave nothing that the database refuses."""
        if value is None or dialect.name == "sqlite":
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


class Base(DeclarativeBase):
    """Common base; constraints have names, so that migrations can find them."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {
        datetime: UtcDateTime,
        str: Words,
        bytes: LargeBinary,
        Any: Json,
    }


class SiteMark(Base):
    """The one row that says which site this database belongs to (`worker.marks`).

    Pages of screenings up to `pages_safe` were seen whole and then synced to the disk. `history`
    changes when a backup is put in place: what was counted after it counts no more.
    """

    __tablename__ = "site"

    mark: Mapped[str] = mapped_column(String(32), primary_key=True)
    made_at: Mapped[datetime]
    pages_safe: Mapped[int] = mapped_column(Id, default=0, server_default="0")
    history: Mapped[str] = mapped_column(String(32), default="", server_default="")


class Model(Base):
    """One exact weights file with one way of preparing films, and the words of its card."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("weights_sha256", "preprocessing"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[str]
    architecture: Mapped[str]
    weights_sha256: Mapped[str] = mapped_column(String(64))
    preprocessing: Mapped[str]
    negative: Mapped[str]
    positive: Mapped[str]
    threshold: Mapped[float]
    guard_threshold: Mapped[float]
    card: Mapped[Any]
    registered_at: Mapped[datetime]


class Worker(Base):
    """A process that screens on PostgreSQL beside others; moments are the database's.

    `heartbeat_at` is its last sign of life, `ended_at` set when it ended in order, or when the one
    that took its place found it dead.
    """

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Run(Base):
    """One run of the worker: a `watch` or a `backfill`; `worker_id` on PostgreSQL only."""

    __tablename__ = "runs"
    __table_args__ = (CheckConstraint("kind IN ('watch', 'backfill')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    source: Mapped[str]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    device: Mapped[str]
    precision: Mapped[str]
    worker_version: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    note: Mapped[str | None]
    worker_id: Mapped[int | None]


class Film(Base):
    """One content, by its SHA-256; what the decoder found out about it."""

    __tablename__ = "films"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    format: Mapped[str]
    rows: Mapped[int]
    columns: Mapped[int]
    modality: Mapped[str | None]
    view_position: Mapped[str | None]
    body_part_examined: Mapped[str | None]
    patient_age_years: Mapped[float | None]
    photometric_interpretation: Mapped[str | None]
    transfer_syntax_uid: Mapped[str | None]
    manufacturer: Mapped[str | None]
    study_instance_uid: Mapped[str | None]
    series_instance_uid: Mapped[str | None]
    sop_instance_uid: Mapped[str | None]
    patient_name: Mapped[str | None]
    sop_class_uid: Mapped[str | None]
    study_date: Mapped[str | None]
    acquisition_date: Mapped[str | None]
    accession_number: Mapped[str | None]
    manufacturer_model_name: Mapped[str | None]
    device_serial_number: Mapped[str | None]
    software_versions: Mapped[str | None]
    station_name: Mapped[str | None]
    burned_in_annotation: Mapped[str | None]
    patient_id: Mapped[str | None]
    patient_key: Mapped[str | None] = mapped_column(index=True)
    notes: Mapped[Any]
    first_seen_at: Mapped[datetime]


class Screening(Base):
    """The answer for one film by one model; the unique constraint keeps it to one."""

    __tablename__ = "screenings"
    __table_args__ = (
        UniqueConstraint("film_id", "model_id"),
        CheckConstraint("probability BETWEEN 0 AND 1", name="probability"),
        Index(None, "decision", "probability"),
        Index(None, "decision", "screened_at"),
        Index(None, "screened_at"),
        Index(None, "model_id", "decision", "probability"),
        Index(None, "run_id", "decision"),
        Index(None, "report_left_out", "report_removed_at", "id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    film_id: Mapped[int] = mapped_column(Id, ForeignKey("films.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    decision: Mapped[str]
    probability: Mapped[float]
    threshold: Mapped[float]
    guard_score: Mapped[float]
    guard_threshold: Mapped[float]
    reason: Mapped[str | None]
    message: Mapped[str]
    evidence: Mapped[bytes]
    evidence_rows: Mapped[int]
    evidence_columns: Mapped[int]
    picture: Mapped[str]
    page: Mapped[str]
    screened_at: Mapped[datetime]
    report_removed_at: Mapped[datetime | None]
    report_left_out: Mapped[bool] = mapped_column(default=False, server_default=false())


# Both by one index, in the order of the screenings: a start asks for all that have one.
HAS_REPORT = and_(~Screening.report_left_out, Screening.report_removed_at.is_(None))
LEFT_OUT = and_(Screening.report_left_out, Screening.report_removed_at.is_(None))


class Review(Base):
    """What a reader says of an answer: only ever added to, the newest counts.

    `finding` is what the reader saw, in the words of the model; `None` when unclear.
    """

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint("verdict IN ('agree', 'disagree', 'unclear')", name="verdict"),
        Index(None, "screening_id", "id"),
        Index(None, "verdict", "id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    screening_id: Mapped[int] = mapped_column(Id, ForeignKey("screenings.id"))
    verdict: Mapped[str]
    finding: Mapped[str | None]
    note: Mapped[str]
    reviewer: Mapped[str]
    reviewed_at: Mapped[datetime]


class Answer(Base):
    """An answer in DICOM, an SR or a Secondary Capture: made once, sent until it arrived.

    `sop_instance_uid` is fixed before the object is made: whatever is done again has the same.
    `file` is below the site's answers/. `impossible` says that it can never be made; `message`
    says why, or what the last attempt met.
    """

    __tablename__ = "answers"
    __table_args__ = (
        UniqueConstraint("screening_id", "kind"),
        CheckConstraint("kind IN ('sr', 'sc')", name="kind"),
        CheckConstraint("state IN ('due', 'made', 'sent', 'impossible')", name="state"),
        Index(None, "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    screening_id: Mapped[int] = mapped_column(Id, ForeignKey("screenings.id"))
    kind: Mapped[str]
    sop_instance_uid: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str]
    file: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    message: Mapped[str | None]
    due_at: Mapped[datetime]
    made_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]


class Archive(Base):
    """How far an archive was listed into `files`, for one model (`worker.store.archives`).

    `files` were found so far, the last of them `listed_to`, its `path`; `listed_at` is when the
    list was whole, `None` before.
    """

    __tablename__ = "archives"
    __table_args__ = (UniqueConstraint("source", "model_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    begun_at: Mapped[datetime]
    listed_at: Mapped[datetime | None]
    listed_to: Mapped[bytes | None]
    files: Mapped[int] = mapped_column(BigInteger, default=0)


# A planner takes a partial index only where it reads these very words: no bound parameter.
WAITS = text("files.state = 'waiting'")


class File(Base):
    """One file fed in, from the inbox or an archive, and where it stands.

    `decision`, `probability` and `reason` are those of its screening, which never changes, or of
    its failure: here each question has an index in the order of the files.

    On PostgreSQL `site_mark` says in whose work/ a claimed file lies. While it is `attempted`,
    `worker_id` has leased it until `lease_until` (`worker.store.leases`).
    """

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint(
            "state IN ('waiting', 'attempted', 'screened', 'duplicate', 'failed')", name="state"
        ),
        UniqueConstraint("source", "path", "size", "mtime_ns", "claim", "model_id"),
        Index(None, "state", "source"),
        Index(None, "claim").ddl_if(dialect="sqlite"),
        Index(  # whoever recorded it: several workers may
            "uq_files_claim", "claim", unique=True, postgresql_where=CLAIMED
        ).ddl_if(dialect="postgresql"),
        Index(None, "final_name", "state"),
        Index(None, "finished_at", "id"),
        Index(None, "probability", "id"),
        Index(None, "decision", "probability", "id"),
        *(Index(None, name, "finished_at") for name in ("state", "decision", "source")),
        *(Index(None, name, "id") for name in ("state", "decision", "reason", "source", "sha256")),
        Index(None, "run_id", "state", "id"),
        Index("ix_files_waiting", "source", "site_mark", "recorded_at", "id", **_only("waiting")),
        Index("ix_files_leased", "worker_id", **_only("attempted")),
        Index(  # with the state SQLite need not read rows
            "ix_files_manifest",
            *("source", "model_id", "state", "id"),
            **_only("waiting"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    source: Mapped[str]
    file: Mapped[str]
    path: Mapped[bytes]
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    claim: Mapped[str]
    state: Mapped[str]
    sha256: Mapped[str | None] = mapped_column(String(64))
    decision: Mapped[str | None]
    probability: Mapped[float | None]
    reason: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    strikes: Mapped[int] = mapped_column(default=0)
    worker_deaths: Mapped[int] = mapped_column(default=0)
    worker_crashes: Mapped[int] = mapped_column(default=0, server_default="0")
    screening_id: Mapped[int | None] = mapped_column(Id, ForeignKey("screenings.id"), index=True)
    final_name: Mapped[str | None]
    recorded_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    film_removed_at: Mapped[datetime | None]
    site_mark: Mapped[str | None] = mapped_column(String(32))
    worker_id: Mapped[int | None]
    lease_token: Mapped[int | None] = mapped_column(BigInteger)
    lease_until: Mapped[datetime | None]


class Failure(Base):
    """Why a file could not be screened, and what an operator decided about it since."""

    __tablename__ = "failures"
    __table_args__ = (
        CheckConstraint("resolution IN ('retrying', 'retried', 'discarded')", name="resolution"),
        Index(None, "resolution", "file_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    file_id: Mapped[int] = mapped_column(Id, ForeignKey("files.id"), unique=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    reason: Mapped[str]
    message: Mapped[str]
    failed_at: Mapped[datetime]
    resolution: Mapped[str | None]
    resolved_at: Mapped[datetime | None]


class RetentionDay(Base):
    """A day (UTC) on which retention was looked at, and what it removed then.

    `last_file_before` is the number of the newest file when the day was first seen.
    """

    __tablename__ = "retention_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    last_file_before: Mapped[int] = mapped_column(Id)
    films: Mapped[int] = mapped_column(default=0)
    reports: Mapped[int] = mapped_column(default=0)
    freed_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    last_removed_at: Mapped[datetime | None]


class Removal(Base):
    """A file that retention is about to remove; none unless a removal is under way.

    `name` is below reports/ for page and picture of a screening, else below done/.
    """

    __tablename__ = "removals"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    screening_id: Mapped[int | None] = mapped_column(Id, ForeignKey("screenings.id"))


class ResultList(Base):
    """A page of `reports/results/`, for 1,000 consecutive files (`worker.store.lists`).

    `changes` counts what changed on it, `written` how much of that was written: what changes while
    the page is being written is not lost. The others say what stands on the written page.
    """

    __tablename__ = "result_lists"

    block: Mapped[int] = mapped_column(primary_key=True)
    changes: Mapped[int]
    written: Mapped[int] = mapped_column(default=0)
    results: Mapped[int] = mapped_column(default=0)
    first_at: Mapped[datetime | None]
    last_at: Mapped[datetime | None]
