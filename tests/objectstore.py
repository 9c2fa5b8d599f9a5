"""A server that speaks like S3, on this machine, that can refuse and be slow: moto, as a process.

    python -m tests.objectstore PORT_FILE

writes its port into a file. Requests for objects whose names begin with `refused`, `gone` or
`slow-down` fail in that way; the last passes after two attempts.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SECRET = "s3cr3t-key"
_SLOW_DOWNS = 2
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>as told</Message></Error>"

Environ = dict[str, Any]
Start = Callable[..., Any]


class Troubled:
    """The server behind a gate that fails where a key says so."""

    def __init__(self, app: Callable[[Environ, Start], Iterable[bytes]]) -> None:
        self._app, self._asked = app, Counter[str]()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer one request."""
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if method != "GET" or not any(path.rpartition("/")[2].startswith(w) for w in _TROUBLES):
            return self._app(environ, start)
        self._asked[path] += 1
        if "refused" in path:
            return _fail(start, "403 Forbidden", "AccessDenied")
        if "slow-down" in path and self._asked[path] <= _SLOW_DOWNS:
            return _fail(start, "503 Slow Down", "SlowDown")
        if "gone" in path:
            return _fail(start, "404 Not Found", "NoSuchKey")
        return self._app(environ, start)


_TROUBLES = ("refused", "slow-down", "gone")


def _fail(start: Start, status: str, code: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/xml")])
    return [_ERROR.format(code).encode()]


@contextmanager
def object_store(folder: Path) -> Iterator[Any]:
    """The server, our environment set for it, with a bucket `films`; gives fsspec's filesystem."""
    if find_spec("s3fs") is None or find_spec("moto") is None:
        pytest.skip("s3fs and moto are not installed")
    import fsspec

    port = folder / "port"
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.objectstore", port], stderr=subprocess.DEVNULL
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{_read(port, server)}",
            }.items():
                patch.setenv(name, value)
            store = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
            store.call_s3("create_bucket", Bucket="films")
            yield store
    finally:
        server.kill()
        server.wait()


def _read(port: Path, server: "subprocess.Popen[bytes]") -> str:
    for _ in range(600):
        if port.exists():
            return port.read_text()
        assert server.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(0.1)
    raise AssertionError("the server did not start")


def main() -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = Troubled(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    port = Path(sys.argv[1])
    port.with_suffix(".part").write_text(str(server.port))
    port.with_suffix(".part").rename(port)
    server.serve_forever()


if __name__ == "__main__":
    main()
