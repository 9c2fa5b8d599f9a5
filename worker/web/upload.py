"""Films sent to the page: each lies in the inbox, whole and synced, before its sender is told so.

The worker takes it from there like any other. A server that is killed meanwhile leaves a file that
the worker does not look at, and that the next server removes; its sender was never told it came.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from worker.intake.deliver import Delivered, Parcel
from worker.store.browse import newest_file
from worker.web.room import Room

_FORM_FILES = 1000
_FORM_MB = 4096  # of all films of one form: they lie in the temporary folder first
_PIECE = 1 << 20
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The film's bytes as they are: JPEG, PNG or DICOM.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_REFUSALS: dict[int | str, dict[str, str]] = {
    400: {"description": "The film is empty"},
    411: {"description": "No Content-Length"},
    413: {"description": "Larger than [decode] max_file_mb"},
    429: {"description": "Too many a minute"},
    503: {"description": "The folders are gone or refuse; send it again, which harms nothing"},
    507: {"description": "The disk is full; send it again, which harms nothing"},
}


class Received(BaseModel):
    """A film that lies in the inbox: the worker screens it next.

    Its result is one of a file with a number above `after`.
    """

    name: str
    sha256: str
    size: int
    after: int


def routes(room: Room) -> APIRouter:
    """Where films are sent to."""
    router = APIRouter(tags=["films"])
    mode = int(room.config.site.file_mode, 8)
    most = room.config.decode.max_file_mb << 20

    async def take(name: str, pieces: AsyncIterator[bytes]) -> Delivered:
        """Deliver one film piece by piece. Raises HTTPException, OSError; nothing is kept then."""
        await run_in_threadpool(room.check)
        with await run_in_threadpool(Parcel, room.config.site.inbox, mode) as parcel:
            async for piece in pieces:
                if parcel.size + len(piece) > most:
                    raise _too_large(most)
                await run_in_threadpool(parcel.write, piece)
            if not parcel.size:
                raise HTTPException(400, "the film is empty: nothing was sent")
            delivered = await run_in_threadpool(parcel.deliver, name)
        room.traffic.uploads.inc()
        room.traffic.uploaded_bytes.inc(delivered.size)
        return delivered

    @router.post("/api/films", status_code=201, openapi_extra=_BODY, responses=_REFUSALS)
    async def send_film(
        request: Request,
        name: Annotated[str, Query(max_length=1000, description="The film's name.")] = "film",
    ) -> Received:
        """Send one film. 201 says that it lies in the inbox for good; else send it again."""
        room.rates.take(request, "upload", room.config.serve.uploads_per_minute)
        if _length(request) > most:
            raise _too_large(most)
        after = await run_in_threadpool(newest_file, room.reader)  # before the worker can know it
        delivered = await take(name, request.stream())
        return Received(**asdict(delivered), after=after)

    @router.post("/upload", include_in_schema=False)
    async def send_form(request: Request) -> RedirectResponse:
        """Films of a form, as a browser without scripts sends them."""
        if _length(request) > max(_FORM_MB << 20, most):
            raise HTTPException(413, f"at once at most {_FORM_MB} MiB: send fewer films")
        async with request.form(max_files=_FORM_FILES) as form:
            films = [
                (film.filename, film)
                for film in form.getlist("films")
                if isinstance(film, UploadFile) and film.filename
            ]
            if len(films) > room.config.serve.uploads_per_minute:
                raise HTTPException(413, "more films than may come in a minute: send fewer at once")
            room.rates.take(request, "upload", room.config.serve.uploads_per_minute, len(films))
            for number, (name, film) in enumerate(films):
                with _having_received(number):
                    await take(name, _pieces(film))
        return RedirectResponse(f"/?received={len(films)}", 303)

    return router


@contextmanager
def _having_received(count: int) -> Iterator[None]:
    """Whoever sent many must learn how many came before the one that did not."""
    try:
        yield
    except HTTPException as error:
        said = f"{error.detail}. Of these films the first {count} were received, the others not"
        raise HTTPException(error.status_code, said, error.headers) from error


async def _pieces(film: UploadFile) -> AsyncIterator[bytes]:
    while piece := await film.read(_PIECE):
        yield piece


def _length(request: Request) -> int:
    """What the sender says it sends; servers hold it to that. Raises HTTPException."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise HTTPException(411, "say how much is sent: Content-Length")
    return int(length)


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"larger than {most >> 20} MiB ([decode] max_file_mb)")
