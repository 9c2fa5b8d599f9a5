"""The site's reports as they lie on the disk, films' pages with a form for reviews."""

import re
from functools import cache

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.requests import Request

from worker.filesystem import open_film
from worker.report.environment import render_piece
from worker.report.pages import film_page
from worker.report.site import PAGES, view_again
from worker.store.browse import screening_of_page
from worker.web.reviews import reviewer_of
from worker.web.room import Room

_OURS = re.compile(r"([a-z]+/)?[0-9a-z-]+\.html|pictures/[0-9a-f-]+\.jpg")
_ROOMS = b"<!-- rooms -->"
_LARGEST = 64 << 20  # bytes of a page


def routes(room: Room) -> APIRouter:
    """Everything below reports/ that the worker wrote, and nothing else."""
    router = APIRouter(include_in_schema=False)

    @router.get("/reports/{path:path}")
    def report(path: str, request: Request) -> Response:
        if not _OURS.fullmatch(path):
            raise HTTPException(404, "there is no such page")
        if path.startswith(f"{PAGES}/"):
            return HTMLResponse(_film(room, path, request))
        file = room.config.site.reports / path
        if not file.is_file() or file.is_symlink():
            raise HTTPException(404, "there is no such page, or the worker has not written it yet")
        if file.suffix == ".jpg":
            return FileResponse(file, media_type="image/jpeg")
        with open_film(file, _LARGEST) as page:
            return HTMLResponse(page.read().replace(_ROOMS, _nav(), 1))

    return router


def _film(room: Room, page: str, request: Request) -> str:
    """A film's page, rendered anew with its reviews and a form for another one."""
    screening = screening_of_page(room.reader, page)
    if screening is None:
        raise HTTPException(404, "there is no such report, or retention removed it")
    config = room.config
    view = view_again(config.site, room.reader, screening, config.dicom.identity)
    if view is None:
        raise HTTPException(404, "the film's picture is missing below reports/")
    return film_page(
        view,
        served=True,
        here="",
        reviewer=reviewer_of(request),
    )


@cache
def _nav() -> bytes:
    return render_piece("nav.html").encode()
