"""Access control and limits of the review page: checks that precede every request.

Invariant: a request without a session reaches nothing but the entrance; secrets are compared in constant time, never
logged, and never part of an address that a server is sent.
"""

import hmac
import ipaddress
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

BODY_BYTES = 4096
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/enter", "/enter.js", "/page.css")  # what a browser needs to show the entrance
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


@dataclass(eq=False)
class Session:
    """One browser that was let in."""

    reviewer: str = ""


@dataclass(eq=False)
class SessionStore:
    """The token, links that let one browser in each, and the sessions of those that are in.

    Attributes
    ----------
    token : str
        Lets in whoever knows it; it stands in a file that only its owner can read.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    _links: set[str] = field(default_factory=set, repr=False)
    _sessions: dict[str, Session] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def link(self) -> str:
        """A code that lets one browser in, once."""
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._links.add(code)
        return code

    def admit(self, secret: str, reviewer: str = "") -> str | None:
        """Cookie of a new session for the token or an unused link's code; None for anything else."""
        with self._lock:
            used = [code for code in self._links if _same(code, secret)]
            if not used and not _same(self.token, secret):
                return None
            self._links.difference_update(used)
            cookie = secrets.token_urlsafe(32)
            self._sessions[cookie] = Session(reviewer)
            return cookie

    def session(self, cookie: str) -> Session | None:
        """The session of a cookie."""
        with self._lock:
            return self._sessions.get(cookie)


class Guard:
    """ASGI middleware: refuses what comes from elsewhere, is too large, or has no session."""

    def __init__(
        self, app: Any, sessions: SessionStore, cookie: str, hosts: tuple[str, ...], any_address: bool
    ) -> None:
        self._app, self._sessions, self._cookie = app, sessions, cookie
        self._hosts, self._any_address = frozenset(hosts), any_address

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        refusal = self._refusal(scope, headers)
        if refusal is None:
            body, whole = await _body(receive)
            if not whole:
                refusal = (413, f"a request of more than {BODY_BYTES} bytes")
        if refusal is not None:
            to_entrance = refusal[0] == 401 and scope["path"] == "/" and scope["method"] == "GET"
            await _refuse(send, *refusal, *([(b"location", b"/enter")] if to_entrance else []))
            return
        scope.setdefault("state", {})["session"] = self._session(headers)

        async def replay() -> Any:
            nonlocal body
            if body is not None:
                content, body = body, None
                return {"type": "http.request", "body": content, "more_body": False}
            return await receive()

        async def secured(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_SECURITY_HEADERS]
            await send(message)

        await self._app(scope, replay, secured)

    def _refusal(self, scope: Any, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._known(hosts[0]):
            return 421, "a host name that is not this page's; start it with --host to serve another"
        origins = headers.get("origin", [])
        if origins and origins != [f"http://{hosts[0]}"]:
            return 403, "a request from another page"
        if headers.get("sec-fetch-site", ["none"])[0] in ("cross-site", "same-site") and scope["method"] != "GET":
            return 403, "a request from another page"
        length = headers.get("content-length", ["0"])[0]
        if not length.isdigit() or int(length) > BODY_BYTES:
            return 413, f"a request of more than {BODY_BYTES} bytes"
        if scope["path"] not in OPEN and self._session(headers) is None:
            return 401, "no session; open the link that `ganlab review` printed, or /enter with its token"
        return None

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None or "@" in host or "/" in host:
            return False
        return name in self._hosts or (self._any_address and _is_address(name))

    def _session(self, headers: dict[str, list[str]]) -> Session | None:
        for line in headers.get("cookie", []):
            for pair in line.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self._cookie and (session := self._sessions.session(value)) is not None:
                    return session
        return None


_SECURITY_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY.items()]


async def _body(receive: Any) -> tuple[bytes | None, bool]:
    """The request's body, and whether it is whole; reading stops where it gets too long."""
    content = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return content, True
        content += message.get("body", b"")
        if len(content) > BODY_BYTES:
            return None, False
        if not message.get("more_body", False):
            return content, True


async def _refuse(send: Any, status: int, reason: str, *more: tuple[bytes, bytes]) -> None:
    body = f"refused: {reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *more,
        *_SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 303 if more else status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
