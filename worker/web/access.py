"""Who may ask for what: one gate before every request, and headers on every answer.

Pure ASGI: answers that never end (`web.live`) pass through as they come.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.web.token import SESSION_S, Sessions

COOKIE = "screen-session"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OPEN = ("/login", "/healthz", "/ping")  # say nothing of any film
_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """The rules: `sessions` are `None` where no token is asked for, on this machine alone.

    `embed` are origins that may show pages in a frame.
    """

    sessions: Sessions | None
    embed: tuple[str, ...] = ()


class Gate:
    """Lets a request pass, or answers it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._headers = {**_HEADERS, "Content-Security-Policy": _frames(access.embed)}
        if not access.embed:
            self._headers["X-Frame-Options"] = "DENY"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":  # no web sockets here; the life of the server is its own
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, self._with_headers(scope, send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._access.sessions is None and not is_this_machine(headers.get("host", "")):
            # A foreign name that leads to this machine is DNS rebinding.
            return refuse(403, "foreign-host", "without a token only this machine may ask")
        if scope["method"] not in _SAFE and not _is_same_origin(headers):
            return refuse(403, "foreign-origin", "another site may not send this")
        if self._may_enter(scope["path"], headers):
            return None
        if "text/html" in headers.get("accept", "") and scope["method"] in _SAFE:
            asked = scope["path"] + f"?{scope['query_string'].decode('latin-1')}".rstrip("?")
            return RedirectResponse(f"/login?next={quote(asked)}", 303)
        wanted = {"WWW-Authenticate": "Bearer"}
        return refuse(401, "token-wanted", "send 'Authorization: Bearer TOKEN', or log in", wanted)

    def _may_enter(self, path: str, headers: Headers) -> bool:
        sessions = self._access.sessions
        if sessions is None or path in _OPEN:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and sessions.is_token(token.strip()):
            return True
        return sessions.holds(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))

    def _with_headers(self, scope: Scope, send: Send) -> Callable[[Message], Awaitable[None]]:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        return send_with_headers


def refuse(
    status: int, slug: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error as scripts read it."""
    return JSONResponse({"error": slug, "message": message}, status, headers)


def session_cookie(proof: str, *, https: bool, embedded: bool) -> str:
    """The Set-Cookie header of a session.

    Within a frame of another site a browser sends only cookies that say SameSite=None and, kept
    apart for each of these sites, Partitioned; `web.access` refuses what such a site sends itself.
    """
    kind = "SameSite=None; Partitioned; Secure" if embedded else "SameSite=Lax"
    secure = "; Secure" if https and not embedded else ""
    return f"{COOKIE}={proof}; Path=/; HttpOnly; Max-Age={SESSION_S}; {kind}{secure}"


def is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine by its own address, with any port."""
    return urlsplit(f"//{host}").hostname in LOOPBACK


def _is_same_origin(headers: Headers) -> bool:
    """Whether our own page, or no browser at all, sends this.

    Browsers say where a request comes from (Fetch Metadata; Origin where that is not known); what
    says neither is a script, which cannot borrow anybody's session.
    """
    if (site := headers.get("sec-fetch-site")) is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _frames(embed: Iterable[str]) -> str:
    return f"frame-ancestors {' '.join(embed) or chr(39) + 'none' + chr(39)}"
