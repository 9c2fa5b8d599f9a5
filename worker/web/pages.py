"""The pages of the reading room itself: where films are dropped, what goes on, all results, API."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from starlette.requests import Request

from worker.report.environment import render
from worker.report.results import entries_of, row_of
from worker.store.counts import decisions
from worker.web.access import session_cookie
from worker.web.describe import operations, shapes
from worker.web.live import Live
from worker.web.results import Wanted
from worker.web.room import LOGINS_PER_MINUTE, Room


def routes(room: Room, live: Live) -> APIRouter:
    """What people look at."""
    router = APIRouter(include_in_schema=False)

    @router.get("/", response_class=HTMLResponse)
    async def reading_room(received: int | None = None) -> str:
        return render(
            "room.html",
            scripts=("room.js",),
            served=True,
            here="/",
            live=Markup(await live.now()),  # noqa: S704 — our own template
            received=received,
            most_mb=room.config.decode.max_file_mb,
        )

    @router.get("/results", response_class=HTMLResponse)
    def all_results(request: Request, wanted: Annotated[Wanted, Query()]) -> str:
        leaf = wanted.leaf(room)
        return render(
            "browse.html",
            served=True,
            here="/results",
            wanted=wanted,
            entries=entries_of([row_of(each) for each in leaf.results]),
            leaf=leaf,
            decisions=[(each, each) for each in decisions(room.reader)],
            before=_turned(request, wanted, -wanted.limit) if wanted.offset else None,
            after=_turned(request, wanted, wanted.limit)
            if wanted.offset + len(leaf.results) < leaf.total or (leaf.more and leaf.results)
            else None,
            model=None,
        )

    @router.get("/login", response_class=HTMLResponse)
    def login_page(next: str = "/") -> str:
        return render("login.html", served=True, here="", next=next, wrong=False)

    @router.post("/login")
    def log_in(
        request: Request,
        token: Annotated[str, Form()],
        next: Annotated[str, Form()] = "/",
    ) -> Response:
        room.rates.take(request, "login", LOGINS_PER_MINUTE)
        target = next if next.startswith("/") and not next.startswith(("//", "/\\")) else "/"
        if room.sessions is None:
            return RedirectResponse(target, 303)
        if not room.sessions.is_token(token.strip()):
            page = render("login.html", served=True, here="", next=target, wrong=True)
            return HTMLResponse(page, 403)
        https, embedded = request.url.scheme == "https", bool(room.config.serve.embed)
        cookie = session_cookie(room.sessions.begin(), https=https, embedded=embedded)
        return RedirectResponse(target, 303, {"Set-Cookie": cookie})

    return router


def add_api_page(app: FastAPI) -> None:
    """`/api` describes what `/openapi.json` says, without a script from elsewhere."""

    @app.get("/api", include_in_schema=False, response_class=HTMLResponse)
    def api() -> str:
        said = app.openapi()
        return render(
            "api.html",
            served=True,
            here="/api",
            api=said,
            operations=operations(said),
            shapes=shapes(said),
        )


def _turned(request: Request, wanted: Wanted, by: int) -> str:
    """The address of another page of the same results."""
    kept = {name: value for name, value in request.query_params.items() if value}
    return "?" + urlencode({**kept, "offset": max(0, wanted.offset + by)})
