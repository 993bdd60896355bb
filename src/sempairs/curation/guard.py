"""Who may talk to the curation server: checks of every request before the server sees it.

- The Host header must name an address the server is bound to (a page elsewhere could otherwise rebind its own
  name to this machine and read everything).
- Outside loopback a request needs a cookie, which the token in the printed address is exchanged for, once.
- A POST must come from this very origin and carry JSON of bounded size.
- Every answer forbids scripts, styles, frames and connections from elsewhere.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, RedirectResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY = 64 << 10
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host in _LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


class Tokens:
    """One-time tokens for cookies. renew(token) is called with each new token, the first one too."""

    def __init__(self, port: int, renew: Callable[[str], None]) -> None:
        self.cookie = f"sempairs-{port}"  # cookies of one host are shared by its ports
        self._renew = renew
        self._sessions: list[str] = []
        self._next()

    def exchange(self, token: str) -> str | None:
        """The value of a fresh cookie, or None. The token is spent; another takes its place."""
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        self._sessions.append(secrets.token_urlsafe(32))
        self._next()
        return self._sessions[-1]

    def knows(self, session: str) -> bool:
        given = session.encode()
        return any(hmac.compare_digest(given, known.encode()) for known in self._sessions)

    def _next(self) -> None:
        self._token = secrets.token_urlsafe(32)
        self._renew(self._token)


class Guard:
    """An ASGI application around another. host: what the server is bound to; tokens: None on loopback."""

    def __init__(self, app: App, *, host: str, tokens: Tokens | None) -> None:
        self._app, self._tokens = app, tokens
        self._any = _is_address(host) and ipaddress.ip_address(host).is_unspecified
        self._names = {host.lower(), *(_LOOPBACK if self._any or is_loopback(host) else ())}
        if not is_loopback(host):
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        answer = self._refusal(scope)
        whole: list[MutableMapping[str, Any]] = []
        if answer is None and scope["method"] == "POST":
            body = await _body(receive)
            if body is None:
                answer = _no(413, f"a request may have at most {BODY // 1024} KiB")
            else:
                whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def once() -> MutableMapping[str, Any]:
            return whole.pop() if whole else await receive()

        async def sealed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                extra = {**HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items() if k.encode() not in present),
                ]
            await send(message)

        await (answer or self._app)(scope, once, sealed)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further; None for one that does."""
        headers = scope["headers"]
        host = _header(headers, b"host")
        if host is None or not self._is_ours(host):
            return _no(421, "this server does not answer under that name; use the address it printed")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _no(405, "use GET or POST")
        if self._tokens is not None:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if scope["path"] == "/" and "token" in query:
                return self._exchange(query["token"][-1], scope)
            if not self._tokens.knows(_cookie(headers, self._tokens.cookie)):
                return _no(401, "open the address with its token that `sempairs curate` printed")
        if scope["method"] == "POST":
            origin = _header(headers, b"origin")
            if origin != f"{scope.get('scheme', 'http')}://{host}":
                return _no(403, "a change must come from this page itself")
            kind = (_header(headers, b"content-type") or "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return _no(415, "a change must be sent as application/json")
        return None

    def _exchange(self, token: str, scope: Scope) -> Response:
        assert self._tokens is not None
        session = self._tokens.exchange(token)
        if session is None:
            return _no(403, "that token was used already or is none; `sempairs curate` printed a new one")
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self._tokens.cookie, session, httponly=True, samesite="strict", path="/")
        return answer

    def _is_ours(self, host: str) -> bool:
        """Any port will do: a forwarded one is another, and a foreign page's name gives it away."""
        name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
        # Bound to every address, it may be called by any: an address cannot be rebound as a name can.
        return name.lower() in self._names or (self._any and _is_address(name))


async def _body(receive: Receive) -> bytes | None:
    """The whole body, None where it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        if len(body) > BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _no(status: int, line: str) -> Response:
    return JSONResponse({"error": line}, status)


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    found = [value for key, value in headers if key.lower() == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _cookie(headers: Iterable[tuple[bytes, bytes]], name: str) -> str:
    for part in (_header(headers, b"cookie") or "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
