"""What a database refuses, whatever it was asked, as an error that says what to do."""

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError, InternalError, OperationalError, ProgrammingError

from worker.errors import StoreError

_OTHERWISE = "See 'screen db check'; what it held before it holds still"
_DAMAGED = "Stop the worker, keep the file, and put a backup in its place: 'screen db restore FILE'"
_DAMAGED_THERE = "Stop the worker, keep what is there, and put a backup in its place with its tools"
_BUSY = "Another program holds it: close that, then run this again; no film is lost"
_FULL = "Make room on its disk, then run this again; what it held before it holds still"
_NO_SCHEMA = "Run 'screen db upgrade'"
_RIGHTS = "This account may not write it: check the rights of database.url's user in the database"
_SERVER = "Check that it runs, and host and port in database.url; no film is lost"
_HINTS = {  # beginnings of SQLite's names, and of PostgreSQL's codes (its manual, appendix A)
    "SQLITE_BUSY": _BUSY,
    "SQLITE_FULL": _FULL,
    "SQLITE_READONLY": "This account may not write it: check the rights of the file and its folder",
    "SQLITE_CANTOPEN": "Check that file and folder are there, and the rights of this account",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
    "25006": "It can only be read, as a standby: name the primary server in database.url",
    "3F000": _NO_SCHEMA,
    "40": _BUSY,
    "42501": _RIGHTS,
    "42P01": _NO_SCHEMA,
    "53100": _FULL,
    "53300": "All its connections are taken: raise max_connections there, or run fewer workers",
    "55P03": _BUSY,
    "57": _SERVER,
    "XX001": _DAMAGED_THERE,
    "XX002": _DAMAGED_THERE,
}
_AT_THE_DOOR = {  # where there is no connection there is no code either
    "password": "Check the user in database.url, and the password in PGPASSWORD or ~/.pgpass",
    "authentication failed": "Check the user in database.url, and pg_hba.conf of the server",
    "pg_hba.conf": "Let this machine and user in: pg_hba.conf of the server",
    "role": "Check the user in database.url, or make it there: createuser",
    "database": "Make it there: createdb --encoding UTF8 --template template0; or mend the URL",
    "too many": _HINTS["53300"],
    "remaining connection slots": _HINTS["53300"],
}
_MADE_BY_OTHERS = ("25006", "42501", "42P01", "3F000", "XX")  # no mistakes of this program


def explain_error(context: ExceptionContext) -> None:
    """Turn what the database refuses (locked, full, gone, damaged) into a StoreError.

    Other subclasses of DatabaseError, such as a broken constraint, are errors of the program.
    """
    error, origin = context.sqlalchemy_exception, context.original_exception
    refused = isinstance(error, OperationalError) or type(error) is DatabaseError
    if isinstance(error, InternalError | ProgrammingError):
        refused = _code(origin).startswith(_MADE_BY_OTHERS)
    if refused:
        raise refusal(origin) from origin


def refusal(error: BaseException | None) -> StoreError:
    """The database refused, whatever it was asked: what it said, and what to do."""
    said = " ".join(str(error).split())
    return StoreError(f"the database refused: {said}. {_hint(_code(error), said)}")


def _code(error: BaseException | None) -> str:
    return getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None) or ""


def _hint(code: str, said: str) -> str:
    if code:
        return next((hint for kind, hint in _HINTS.items() if code.startswith(kind)), _OTHERWISE)
    if "FATAL" in said:
        words = said.rpartition("FATAL:")[2]
        return next((hint for part, hint in _AT_THE_DOOR.items() if part in words), _SERVER)
    return _SERVER if "connection" in said else _OTHERWISE
