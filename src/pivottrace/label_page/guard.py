"""Every request passes here first: its host, its origin, its cookie and its header are checked."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pivottrace.label_page.access import Keys, same

HEADER = "x-pivottrace"
"""The header that the page sends beside its cookie. A form of another site cannot send it."""
# A browser gets these without a cookie: the frame of the page, its files, and the way in.
OPEN_PATHS = ("/", "/session")
OPEN_FOLDER = "/static/"
RESPONSE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        "img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def cookie_names(port: int) -> tuple[str, str]:
    """The names of the cookies of the session and of the person. Ports share a host's cookies."""
    return f"pivottrace_{port}", f"pivottrace_name_{port}"


class Guard:
    """Refuses requests that are not of the page itself, and adds the headers of safety.

    Args:
        app: The application behind it.
        hosts: The names, with port, that the server answers to.
        keys: The keys of the page.
        cookie: The name of the session's cookie.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], keys: Keys, cookie: str) -> None:
        self.app, self.hosts, self.keys, self.cookie = app, hosts, keys, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return  # there is nothing but requests here

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(RESPONSE_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        seat = self.keys.seat_of(read_cookie(headers, self.cookie))
        refusal = self._refusal(scope, headers, seat)
        scope.setdefault("state", {})["seat"] = seat
        if refusal is None:
            await self.app(scope, receive, send_safely)
        else:
            status, why = refusal
            await PlainTextResponse(why, status)(scope, receive, send_safely)

    def _refusal(self, scope: Scope, headers: Headers, seat: str | None) -> tuple[int, str] | None:
        """The status and the reason of a refusal; None if the request is the page's own."""
        method, path = scope["method"], scope["path"]
        origin = headers.get("origin")
        own = {f"http://{host}" for host in self.hosts}
        if headers.get("host") not in self.hosts:
            return 421, "The page has another host name."
        if origin is not None and origin not in own:
            return 403, "This request comes from another site."
        if method not in ("GET", "HEAD", "POST"):
            return 405, "This method is not known here."
        if method == "POST" and (
            origin is None or headers.get("content-type") != "application/json"
        ):
            return 403, "This request does not come from the page."
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return None
        if seat is None:
            return 401, "Open the link that `pivottrace label serve` has printed."
        if not same(headers.get(HEADER, ""), self.keys.header_for(seat)):
            return 403, "This request does not come from the page."
        return None


def read_cookie(headers: Headers, name: str) -> str | None:
    """The value of a cookie; None without it. Other programs of this machine may set any others."""
    return cookie_parser(headers.get("cookie", "")).get(name)
