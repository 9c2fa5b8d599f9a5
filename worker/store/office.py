"""A duty that one worker has at a time: an advisory lock of PostgreSQL."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from worker.errors import SiteBusy, StoreError

log = logging.getLogger(__name__)

_KIND = 0x5343_4F46  # "SCOF": ours, among all advisory locks of the server
_NAME = "screen: office of worker "
_BACKFILL = 0x5343_4246  # "SCBF": ours as well
_TAKE = text("SELECT pg_try_advisory_lock(:kind, :number)")
_ASK = text("SELECT 1")
_NAMED = text("SELECT set_config('application_name', :name, false)")
_DISMISS = text(
    """
    SELECT pg_terminate_backend(activity.pid)
    FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
    JOIN workers ON activity.application_name = :name || workers.id
    WHERE locktype = 'advisory' AND granted AND activity.usename = current_user
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = :kind AND objid = :number
      AND heartbeat_at < timezone('UTC', clock_timestamp()) - make_interval(secs => :silent_s)
    """
)


class Office:
    """The office of one site, by its mark. Lost with its connection, which is its own.

    Whoever has it and gives no sign of life for `silent_s` is dismissed: a worker that was paused
    keeps its connection. No pooler may stand between that hands a connection to others.
    """

    def __init__(self, engine: Engine, worker_id: int, mark: str, silent_s: float) -> None:
        self._engine, self._name = engine, f"{_NAME}{worker_id}"
        number = int.from_bytes(bytes.fromhex(mark)[:4], "big", signed=True)
        self._lock = {"kind": _KIND, "number": number}
        self._dismissed = {"kind": _KIND, "number": number % 2**32, "silent_s": silent_s}
        self._session: Connection | None = None
        self._has = False

    def held(self) -> bool:
        """Whether this worker has the office, now; it takes it when it is free."""
        try:
            if self._session is None:
                self._session = self._engine.connect()
                self._session.execution_options(isolation_level="AUTOCOMMIT")
                self._session.execute(_NAMED, {"name": self._name})
            if not self._has:
                self._has = self._takes(self._session)
            self._session.execute(_ASK)
        except StoreError:
            if self._has:
                log.warning("the connection of the office was lost, and the office with it")
            self.give_up()
            raise
        return self._has

    def give_up(self) -> None:
        """Leave it to the next who asks."""
        session, self._session, self._has = self._session, None, False
        if session is not None:
            session.invalidate()  # not back to the pool: lock and name stay with it
            session.close()

    def _takes(self, session: Connection) -> bool:
        if session.scalar(_TAKE, self._lock):
            return True
        dismissed = session.execute(_DISMISS, self._dismissed | {"name": _NAME}).all()
        if dismissed:
            log.warning("a worker that gave no sign of life was relieved of its office")
        return False


@contextmanager
def only_backfill(engine: Engine) -> Iterator["Turn"]:
    """Be the only backfill of a database on a server. Raises SiteBusy when another one runs."""
    turn = Turn(engine)
    try:
        yield turn
    finally:
        turn.end()


class Turn:
    """The turn of a backfill: a lock that is lost with its connection, at the server's restart say.

    Another backfill may run then. Any thread may ask.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one = threading.Lock()  # a connection is one thread's at a time
        self._lost = False
        self._session: Connection | None = self._taken()

    def require(self) -> None:
        """Raise StoreError once it was lost, now and ever after."""
        with self._one:
            if not self._lost and not self._answers():
                self._lost = True
            if self._lost:
                raise StoreError(
                    "the connection that made this the only backfill was lost, another may run by "
                    "now: run the same again, it goes on where this one stopped"
                )

    def regain(self) -> None:
        """Take it again when it was lost, for whoever leases what it hands out.

        Raises StoreError while the database does not answer, SiteBusy when another one has it.
        """
        with self._one:
            if not self._answers():
                self._session = self._taken()

    def end(self) -> None:
        """Leave it to the next."""
        with self._one:
            self._drop()

    def _answers(self) -> bool:
        if self._session is None:
            return False
        try:
            self._session.execute(_ASK)
        except StoreError:
            self._drop()
            return False
        return True

    def _taken(self) -> Connection:
        session = self._engine.connect()
        try:
            session.execution_options(isolation_level="AUTOCOMMIT")
            if session.scalar(_TAKE, {"kind": _BACKFILL, "number": 0}):
                return session
        except BaseException:
            session.invalidate()
            session.close()
            raise
        session.close()
        raise SiteBusy(
            "another backfill runs into this database: wait until it ends; 'screen watch' may run "
            "beside a backfill"
        )

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.invalidate()  # and the lock ends with the connection
            session.close()
