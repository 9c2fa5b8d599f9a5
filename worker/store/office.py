"""A duty that one worker has at a time: an advisory lock of PostgreSQL."""

import logging
import threading
from collections.abc import Callable, Iterator
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
def only_backfill(engine: Engine) -> Iterator[Callable[[], None]]:
    """Be the only backfill of a database on a server; gives what raises StoreError when it is lost.

    It is lost with its connection: the server may have been started again, and another backfill may
    run by now. Raises SiteBusy when another one runs.
    """
    with engine.connect() as session:
        session.execution_options(isolation_level="AUTOCOMMIT")
        if not session.scalar(_TAKE, {"kind": _BACKFILL, "number": 0}):
            raise SiteBusy(
                "another backfill runs into this database: wait until it ends; 'screen watch' may "
                "run beside a backfill"
            )
        try:
            turn = threading.Lock()  # a connection is one thread's at a time
            yield lambda: _require_connection(session, turn)
        finally:
            session.invalidate()  # and the lock ends with the connection


def _require_connection(session: Connection, turn: threading.Lock) -> None:
    try:
        with turn:
            session.execute(_ASK)
    except StoreError as error:
        raise StoreError(
            "the connection that made this the only backfill was lost, another may run by now: run "
            "the same again, it goes on where this one stopped"
        ) from error
