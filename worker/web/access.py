"""Who may ask for what: one gate before every request, and headers on every answer.

Pure ASGI: answers that never end (`web.live`) pass through as they come.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.web.token import SESSION_S, Sessions
from worker.web.trouble import said

COOKIE = "screen-session"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OPEN = ("/login", "/healthz", "/ping")  # say nothing of any film
_PASSED_ON = (
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"),
)
_SAFE = ("GET", "HEAD", "OPTIONS")
_NOT_HERE = "without a token only this machine may ask, by its own name and through no proxy"
_COME_IN = (
    "send 'Authorization: Bearer TOKEN', or log in: at /login, in another window if something was "
    "typed here; then send it again, nothing was kept"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
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
        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, self._with_headers(scope, send))

    def _refusal(self, request: Request) -> Response | None:
        headers, path = request.headers, request.scope["path"]
        if self._access.sessions is None and not _is_asked_here(headers):
            return said(request, 403, _NOT_HERE, slug="foreign-host")
        is_safe = request.method in _SAFE
        if not (_is_visit(headers) if is_safe else _is_same_origin(headers)):
            return said(request, 403, "another site may not send this", slug="foreign-origin")
        if self._may_enter(path, headers):
            return None
        if "text/html" in headers.get("accept", "") and is_safe:
            asked = path + f"?{request.scope['query_string'].decode('latin-1')}".rstrip("?")
            return RedirectResponse(f"/login?next={quote(asked)}", 303)
        wanted = {"WWW-Authenticate": "Bearer"}
        return said(request, 401, _COME_IN, wanted, slug="token-wanted")

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
    return _parts(f"//{host}").hostname in LOOPBACK


def _is_asked_here(headers: Headers) -> bool:
    """Whether a browser or script on this machine asks, by this machine's own name.

    A foreign name that leads here is DNS rebinding; a proxy asks for others, whoever they are.
    """
    passed_on = any(name in headers for name in _PASSED_ON)
    return is_this_machine(headers.get("host", "")) and not passed_on


def _is_same_origin(headers: Headers) -> bool:
    """Whether our own page, or no browser at all, sends this.

    Browsers say where a request comes from (Fetch Metadata; Origin where that is not known); what
    says neither is a script, which cannot borrow anybody's session.
    """
    if (site := headers.get("sec-fetch-site")) is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or _parts(origin).netloc == headers.get("host")


def _is_visit(headers: Headers) -> bool:
    """Whether another site only leads here, and does not ask behind its reader's back."""
    cross = headers.get("sec-fetch-site") == "cross-site"
    return not cross or headers.get("sec-fetch-mode") == "navigate"


def _parts(address: str) -> SplitResult:
    """The parts of an address; of one that is none, no parts."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _frames(embed: Iterable[str]) -> str:
    return f"frame-ancestors {' '.join(embed) or chr(39) + 'none' + chr(39)}"
