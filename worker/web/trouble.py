"""Every failure becomes an answer that says what to do: a page for people, JSON for scripts."""

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import ModelError
from worker.errors import ScreenError
from worker.report.environment import render

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)


def answer_trouble(app: FastAPI) -> None:
    """Answer what handlers raise, also what nobody foresaw."""

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return said(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return said(request, 422, f"{where}: {first['msg']}")

    @app.exception_handler(OSError)
    def refused_by_disk(request: Request, error: OSError) -> Response:
        log.warning("a request failed", extra={"errno": error.errno})
        if error.errno in _FULL:
            return said(request, 507, "the disk is full: make room, then send it again")
        return said(request, 503, f"the disk or the share refuses: {error.strerror or 'no reason'}")

    async def trouble(request: Request, error: Exception) -> Response:
        return said(request, 503, str(error))

    for kind in (ScreenError, ModelError):
        app.add_exception_handler(kind, trouble)
    app.add_middleware(_Unforeseen)


class _Unforeseen:
    """Answers 500 for our own mistakes, below the gate that puts headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun |= message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:  # who is gone needs no answer
            return
        except Exception as error:
            if begun or scope["type"] != "http":
                raise  # the connection is closed: half an answer must not look whole
            log.error("a request failed", extra={"slug": type(error).__name__})
            answer = said(Request(scope), 500, "this is a mistake of the program: see its log")
            await answer(scope, receive, send)


def said(
    request: Request,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    slug: str | None = None,
) -> Response:
    """An error as its reader wants it. Scripts know it by its slug, else by its status' name."""
    title = HTTPStatus(status).phrase
    if "text/html" in request.headers.get("accept", ""):
        page = render("message.html", served=True, here="", title=title, message=message)
        return HTMLResponse(page, status, headers)
    slug = slug or title.lower().replace(" ", "-")
    return JSONResponse({"error": slug, "message": message}, status, headers)
