"""Who may talk to the curation server: checks of every request before the server sees it.

- The Host header must name an address the server is bound to (a page elsewhere could otherwise rebind its own
  name to this machine and read everything), or that of the proxy that was named.
- Outside loopback a request needs a cookie, which the token in the printed address is exchanged for, once.
- A POST must come from this very origin, or the proxy's, and carry JSON of bounded size.
- Every answer forbids scripts, styles, frames and connections from elsewhere.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse, RedirectResponse, Response

from sempairs.errors import UserError

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
# A name, or an address in brackets, and nothing after it but a port.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]:/?#@\\]+))(?::\d{1,5})?")
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host in _LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


@dataclass(frozen=True)
class Outer:
    """Where people reach the server through a proxy: scheme, host (with its port, unless it is the scheme's
    own), name (without), and prefix, the path before the page's ("" or "/review")."""

    scheme: str
    host: str
    name: str
    prefix: str

    @property
    def origin(self) -> str:
        """As browsers send it."""
        return f"{self.scheme}://{self.host}"

    @property
    def address(self) -> str:
        return f"{self.origin}{self.prefix}/"


def outer(address: str) -> Outer:
    """Reads "https://label.example.org/review". Raises: UserError if it is not such an address."""
    try:
        parts = urlsplit(address.strip())
        name, port = (parts.hostname or ""), parts.port
    except ValueError:
        parts, name, port = urlsplit(""), "", None
    prefix = parts.path.rstrip("/")
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if (
        parts.scheme not in _PORTS
        or not name
        or not plain
        or not re.fullmatch(r"(/(?!\.+(/|$))[\w.~-]+)*", prefix, re.ASCII)
    ):
        rule = "must be the outer address of the page"
        raise UserError("--origin", rule, address, "write it like https://label.example.org or …/review")
    host = f"[{name}]" if ":" in name else name
    shown = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return Outer(parts.scheme, shown, name, prefix)


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
    """An ASGI application around another. host: what the server is bound to; tokens: None on loopback; proxy:
    the address outside, where there is one."""

    def __init__(self, app: App, *, host: str, tokens: Tokens | None, proxy: Outer | None = None) -> None:
        self._app, self._tokens, self._proxy = app, tokens, proxy
        self._any = _is_address(host) and ipaddress.ip_address(host).is_unspecified
        self._names = {host.lower(), *(_LOOPBACK if self._any or is_loopback(host) else ())}
        if not is_loopback(host):
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        if proxy is not None:
            self._names.add(proxy.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        scope = self._inside(scope)
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

    def _inside(self, scope: Scope) -> Scope:
        """The request without the proxy's prefix, which some proxies leave on the path."""
        prefix = self._proxy.prefix if self._proxy else ""
        path = scope["path"]
        if not prefix or not path.startswith(f"{prefix}/"):
            return scope
        return {**scope, "path": path[len(prefix) :], "raw_path": scope.get("raw_path", b"")[len(prefix) :]}

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further; None for one that does."""
        headers = scope["headers"]
        host = _header(headers, b"host")
        if host is None or not self._is_ours(host):
            remedy = "use the address it printed, or name a proxy's by `sempairs curate --origin`"
            return _no(421, f"this server does not answer under that name; {remedy}")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _no(405, "use GET or POST")
        if self._proxy and self._proxy.prefix == scope["path"]:  # its links would lead beside it
            more = scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{self._proxy.prefix}/{'?' if more else ''}{more}", status_code=308)
        if self._tokens is not None:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if scope["path"] == "/" and "token" in query:
                return self._exchange(query["token"][-1], scope)
            if not self._tokens.knows(_cookie(headers, self._tokens.cookie)):
                return _no(401, "open the address with its token that `sempairs curate` printed")
        if scope["method"] == "POST":
            origin = _header(headers, b"origin")
            if origin is None or origin not in self._origins(scope, host):
                outside = origin if origin and len(origin) < 200 and origin.isprintable() else "https://…"
                remedy = (
                    f"behind a proxy, start `sempairs curate` with --origin {outside} (and its path, if any)"
                )
                return _no(403, f"a change must come from this page itself; {remedy}")
            kind = (_header(headers, b"content-type") or "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return _no(415, "a change must be sent as application/json")
        return None

    def _origins(self, scope: Scope, host: str) -> set[str]:
        return {f"{scope.get('scheme', 'http')}://{host}", *([self._proxy.origin] if self._proxy else [])}

    def _exchange(self, token: str, scope: Scope) -> Response:
        assert self._tokens is not None
        session = self._tokens.exchange(token)
        if session is None:
            return _no(403, "that token was used already or is none; `sempairs curate` printed a new one")
        # To the page it was asked for at, whatever a proxy calls that.
        there = f"{self._proxy.prefix}/" if self._proxy else "./"
        answer = RedirectResponse(there, status_code=303)
        secure = self._proxy is not None and self._proxy.scheme == "https"
        answer.set_cookie(
            self._tokens.cookie, session, httponly=True, samesite="strict", path="/", secure=secure
        )
        return answer

    def _is_ours(self, host: str) -> bool:
        """Any port will do: a forwarded one is another, and a foreign page's name gives it away."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1] or match[2]
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
