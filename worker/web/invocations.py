"""Films answered at once, as Amazon SageMaker asks a container for it: `/ping` and `/invocations`.

Nothing is stored: a film sent here is in no database, no report and no inbox.
The contract: SageMaker Developer Guide, "Custom Inference Code with Hosting Services".
"""

import base64
import json
import os
import shutil
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import Semaphore
from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from worker.config import Config
from worker.records import RECORD_FIELDS, Record
from worker.web.metrics import Traffic
from worker.web.room import Rates

if TYPE_CHECKING:
    from worker.screening import Screener

_FILMS = (
    *("application/octet-stream", "application/x-image", "application/dicom"),
    *("image/jpeg", "image/png", "image/dicom+jpeg"),
)
_JSON = "application/json"
_MOST_INSTANCES = 64
_ANSWERED_AT_ONCE = 8  # requests; the others wait, without a thread that pages would need
_WAITING = 64  # requests; more are sent away
_MOST_BYTES = 64 << 20  # of one request, held in memory; SageMaker itself allows less
_FOLDER = "screen-invocation-"  # in the temporary folder, with the number of our process
_BODY = {
    "requestBody": {
        "required": True,
        "description": "One film's bytes, or JSON with films in base64.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            _JSON: {"schema": {"example": {"instances": [{"b64": "…", "name": "film.dcm"}]}}},
        },
    }
}
_FIELDS: dict[str, dict[str, str]] = {name: {} for name in RECORD_FIELDS}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One record, or `predictions`: a list of records",
        "content": {_JSON: {"schema": {"type": "object", "properties": _FIELDS}}},
    },
    400: {"description": "Neither a film nor the JSON that is expected"},
    413: {"description": "Larger than 64 MiB, or than [decode] max_file_mb"},
    503: {"description": "Too many wait already"},
    415: {"description": "Another content type"},
}


class Model:
    """The screener, loaded when it is first needed, or `load`ed before."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._screener: Screener | None = None
        self._lock = threading.Lock()

    def load(self) -> "Screener":
        """The screener. Raises ModelError or ConfigError."""
        with self._lock:
            if self._screener is None:
                from worker.screening import Screener  # torch: most rooms never need it

                self._screener = Screener(self.config)
            return self._screener

    def answer(self, films: list[tuple[str, bytes]]) -> list[Record]:
        """Records of films (name, bytes), in order. The bytes are gone from the disk afterwards."""
        from worker.classify import classify

        screener = self.load()
        with tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-") as folder:
            paths = [Path(folder) / str(number) for number in range(len(films))]
            for path, (_, content) in zip(paths, films, strict=True):
                path.write_bytes(content)
            found = classify(
                screener, paths, self.config.batch.size, self.config.decode.max_file_mb
            )
            names = (name for name, _ in films)
            return [
                Record(**{**asdict(one.record), "file": name})
                for one, name in zip(found, names, strict=True)
            ]

    def close(self) -> None:
        """End its processes."""
        with self._lock:
            if self._screener is not None:
                self._screener.close()


def routes(model: Model, rates: Rates, traffic: Traffic) -> APIRouter:
    """The two addresses that the contract names."""
    router = APIRouter(tags=["platforms"])
    most = min(model.config.decode.max_file_mb << 20, _MOST_BYTES)
    slots = Semaphore(_ANSWERED_AT_ONCE)

    @router.get("/ping")
    async def ping() -> JSONResponse:  # no thread: it must answer while films hold them all
        """200 while the server answers; a model that cannot be loaded is told by the first film."""
        return JSONResponse({"ready": True})

    @router.post("/invocations", openapi_extra=_BODY, responses=_ANSWER)
    async def invoke(request: Request) -> JSONResponse:
        """Answer films now; a film that cannot be read is REFUSED, with the reason."""
        per_minute = model.config.serve.uploads_per_minute
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (*_FILMS, _JSON):
            raise HTTPException(415, f"send {_JSON}, or a film as one of {', '.join(_FILMS)}")
        if slots.statistics().tasks_waiting >= _WAITING:
            raise HTTPException(503, "too many wait already", {"Retry-After": "10"})
        async with slots:  # before the body is read: memory is held for so many alone
            body = await _body(request, most)
            whole = [("film", body)]
            films = await run_in_threadpool(_instances, body) if kind == _JSON else whole
            rates.take(request, "invocation", per_minute, len(films))
            answered = await run_in_threadpool(model.answer, films)
        records = [asdict(each) for each in answered]
        for record in records:
            traffic.invocations.labels(record["decision"]).inc()
        return JSONResponse({"predictions": records} if kind == _JSON else records[0])

    return router


def remove_abandoned() -> None:
    """Remove films that lay in the temporary folder when a server was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if not Path("/proc", process).is_dir() and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise HTTPException(413, f"larger than {most >> 20} MiB")
    if not body:
        raise HTTPException(400, "nothing was sent: send a film's bytes")
    return bytes(body)


def _instances(body: bytes) -> list[tuple[str, bytes]]:
    """Films of `{"instances": [{"b64": …, "name": …}]}`. Raises HTTPException."""
    try:
        sent = json.loads(body)["instances"]
        names = [_name(each.get("name", f"instance-{number}")) for number, each in enumerate(sent)]
        films = [base64.b64decode(each["b64"], validate=True) for each in sent]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HTTPException(
            400, 'expected {"instances": [{"b64": "a film in base64", "name": "film.dcm"}]}'
        ) from error
    if not 0 < len(films) <= _MOST_INSTANCES:
        raise HTTPException(400, f"send 1 to {_MOST_INSTANCES} instances at once")
    return list(zip(names, films, strict=True))


def _name(given: object) -> str:
    """A name that can be sent back: JSON can hold halves of characters, UTF-8 cannot."""
    return str(given).encode("utf-8", "replace").decode("utf-8")
