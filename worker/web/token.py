"""The token that opens the page to others than this machine, and sessions that stand for it."""

import os
import re
import secrets
from collections.abc import Mapping
from hmac import compare_digest
from pathlib import Path

from itsdangerous import BadSignature, TimestampSigner

from worker.errors import ConfigError, UsageError
from worker.filesystem import read_secret, write_atomic

VARIABLE = "SCREEN_TOKEN"
SESSION_S = 12 * 3600
_SHORTEST = 20  # characters: a token is guessed at, a password is not


def find_token(file: Path, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token from the environment, else from the site's file; `None` if there is none.

    Raises ConfigError when it is no good one, or when others may read the file.
    """
    if token := environment.get(VARIABLE, "").strip():
        return _good(token, f"the environment variable {VARIABLE}")
    kept = read_secret(file, "the token")
    return None if kept is None else _good(kept, str(file))


def make_token(file: Path) -> str:
    """Write a new token of 256 bits to a file for its owner alone, and return it.

    Raises UsageError when the file is there: who replaces a token ends all sessions, on purpose.
    """
    if file.exists():
        raise UsageError(f"{file} is there: remove it first, which ends every session, or use it")
    token = secrets.token_urlsafe(32)
    write_atomic(file, f"{token}\n".encode(), 0o600, sync=True)
    return token


class Sessions:
    """Signed proofs that somebody knew the token; a new token makes all of them worthless."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._signer = TimestampSigner(token, salt="screen-session")

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes as long for any."""
        return compare_digest(given.encode(), self._token.encode())

    def begin(self) -> str:
        """A proof, good for `SESSION_S` seconds."""
        return self._signer.sign(secrets.token_urlsafe(8)).decode()

    def holds(self, proof: str) -> bool:
        """Whether we gave this proof, not too long ago."""
        try:
            self._signer.unsign(proof, max_age=SESSION_S)
        except BadSignature:
            return False
        return True


def _good(token: str, where: str) -> str:
    if not re.fullmatch(f"[!-~]{{{_SHORTEST},}}", token):  # what a header can hold
        raise ConfigError(
            f"the token in {where} is not one word of {_SHORTEST} ASCII characters and more: "
            "'screen serve --make-token' writes a good one"
        )
    return token
