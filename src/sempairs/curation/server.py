"""The curation server: the page, its API and the pictures of one set, over HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sempairs.curation.api import CurationApi, Refused, version
from sempairs.curation.lineage import refuse_release
from sempairs.curation.store import LOG, standing_verdicts
from sempairs.errors import UserError
from sempairs.files import folder_lock
from sempairs.pairs.sample import SAMPLE

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as absent:
    raise UserError(
        "curate", f"needs the package {absent.name}", remedy="pip install 'sempairs[curate]'"
    ) from None

from sempairs.catalog.images import UnreadableImage
from sempairs.curation.access import App, Guard, Outer, Tokens, is_loopback, outer
from sempairs.curation.images import SIZES, Thumbnails

PORT = 8765
STATIC = Path(__file__).parent / "static"
_KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_FOR_GOOD = "private, max-age=31536000, immutable"


def application(
    api: CurationApi, *, host: str = "127.0.0.1", tokens: Tokens | None = None, proxy: Outer | None = None
) -> App:
    """The ASGI application for the API of one set, its guard around it.

    tokens: needed for any host or proxy outside loopback, see `access`. proxy: its address outside.
    """
    assert tokens is not None or not _reached(host, proxy), "a server that others reach needs tokens"
    images = Thumbnails(api.subject.pairs.catalog)
    hashes = api.subject.pairs.catalog.table.column("file_hash")

    async def state(request: Request) -> Response:
        return await _told(api.state, request.query_params.get("reviewer", ""))

    async def pairs(request: Request) -> Response:
        ask = request.query_params
        limit = ask.get("limit", "20")
        number = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 6 else -1
        queue, reviewer = ask.get("queue", "all"), ask.get("reviewer", "")
        return await _told(lambda: api.page(queue, reviewer, after=ask.get("after"), limit=number))

    async def judge(request: Request) -> Response:
        return await _changed(request, api.judge)

    async def undo(request: Request) -> Response:
        return await _changed(request, api.undo)

    async def image(request: Request) -> Response:
        name = request.path_params["name"]
        size = request.query_params.get("size", "0")
        found = re.fullmatch(r"(\d{1,9})(?:-(\w{1,16}))?", name, re.ASCII)
        row = int(found[1]) if found else len(hashes)
        if found is None or row >= len(hashes):
            return _error(404, f"no picture {name[:40]!r} in this set")
        if size not in map(str, SIZES):
            return _error(400, f"size must be one of {', '.join(map(str, SIZES))}")
        tag = version(hashes[row].as_py())
        if found[2] not in (None, tag):
            return _error(404, "the picture is another one now; load the page again")
        etag = f'"{tag}-{size}"'
        headers = {"etag": etag, "cache-control": _FOR_GOOD if found[2] else "private, no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        try:
            data = await run_in_threadpool(images.of, row, int(size))
        except (UserError, UnreadableImage, OSError) as error:
            return _error(404, f"the picture cannot be read: {error}")
        return Response(data, media_type="image/webp", headers=headers)

    async def export(request: Request) -> Response:
        table = await run_in_threadpool(standing_verdicts, api.folder / LOG)

        def lines() -> Iterator[str]:
            for batch in table.to_batches(max_chunksize=1000):
                yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())

        headers = {"content-disposition": 'attachment; filename="verdicts.jsonl"'}
        return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)

    async def page(request: Request) -> Response:
        return _file("index.html")

    async def static(request: Request) -> Response:
        return _file(request.path_params["name"])

    async def failed(request: Request, error: Exception) -> Response:
        return _error(500, f"internal: {type(error).__name__}")

    async def absent(request: Request, error: Exception) -> Response:
        return _error(getattr(error, "status_code", 404), "there is nothing here")

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", static),
            Route("/api/state", state),
            Route("/api/pairs", pairs),
            Route("/api/verdicts", judge, methods=["POST"]),
            Route("/api/undo", undo, methods=["POST"]),
            Route("/api/export", export),
            Route("/images/{name}", image),
        ],
        exception_handlers={404: absent, 405: absent, 500: failed},
    )
    return Guard(app, host=host, tokens=tokens, proxy=proxy)


def serve(
    folder: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    origin: str | None = None,
    reviewer: str = "",
    sample: int = SAMPLE,
    say: Callable[[str], None] = print,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves a folder of pairs until Ctrl-C.

    say: gets lines for the user; ready: the address, once it listens. origin: the address that people reach
    it by through a proxy, such as "https://label.example.org/review".

    port 0: a free one. Raises: UserError if the folder is in use or cannot be written, the log is not sound,
    the address cannot be had, or `origin` is none.
    """
    proxy = None if origin is None else outer(origin)
    with contextlib.ExitStack() as stack:
        _hold(stack, Path(folder))
        bound = stack.enter_context(_socket(host, port))  # before there is a log that nobody writes to
        api = CurationApi(folder, sample=sample, reviewer=reviewer)
        stack.callback(api.close)
        number = bound.getsockname()[1]
        shown = host if not _unspecified(host) else socket.gethostname()
        inner = f"http://{f'[{shown}]' if ':' in shown else shown}:{number}/"
        base = proxy.address if proxy else inner
        more = f"reviewer={quote(api.reviewer)}" if api.reviewer else ""
        addresses: list[str] = []

        def renew(token: str) -> None:
            addresses.append(f"{base}?token={token}")
            if len(addresses) > 1:
                say(f"that address is used up; the next browser takes {addresses[-1]}")

        tokens = Tokens(number, renew) if _reached(host, proxy) else None
        address = addresses[-1] if tokens else base + (f"?{more}" if more else "")
        say(f"judging {api.folder}: {len(api.subject):,} pairs, {api.ledger.progress()['judged']:,} judged")
        if api.ledger.outside:
            count = len(api.ledger.outside)
            say(f"verdicts about {count:,} pairs that are no longer in the set are kept, and not counted")
        say(f"open {address} (Ctrl-C ends it; every verdict is kept)")
        if proxy:
            say(f"the proxy at {proxy.address} passes on to {inner}, with the path before it or without")
        config = uvicorn.Config(
            application(api, host=host, tokens=tokens, proxy=proxy), log_level="error", access_log=False,
            lifespan="off", timeout_graceful_shutdown=2, server_header=False, ws="none", http="auto",
        )  # fmt: skip
        ready(address)
        threading.Thread(target=api.warm, daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[bound])
        say(f"stopped; every verdict is in {api.folder / LOG}")


def _hold(stack: contextlib.ExitStack, place: Path) -> None:
    """Makes this the only process that serves a folder of pairs. Raises: UserError."""
    refuse_release(place)
    if not (place / "pairs.json").is_file():
        remedy = "see `sempairs pairs build`"
        raise UserError(str(place), "is no folder of pairs (it has no pairs.json)", remedy=remedy)
    try:
        stack.enter_context(folder_lock(place))
    except OSError as error:
        remedy = "copy the folder to where you may write: verdicts are kept in it"
        raise UserError(str(place), f"cannot be written ({error.strerror})", remedy=remedy) from None


def _socket(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol is named so that asyncio sends small answers at once; otherwise each waits 40 ms.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(100)
    except (OSError, OverflowError, UnicodeError) as error:
        rule = f"cannot be listened on ({getattr(error, 'strerror', None) or error})"
        raise UserError(
            f"{host}:{port}", rule, remedy="choose another with --port; 0 takes a free one"
        ) from None
    return bound


def _reached(host: str, proxy: Outer | None) -> bool:
    """Whether others than this machine can reach the page."""
    return not is_loopback(host) or (proxy is not None and not is_loopback(proxy.name))


def _unspecified(host: str) -> bool:
    return host in ("0.0.0.0", "::")


async def _told(work: Callable[..., Any], *arguments: Any) -> Response:
    """The answer of `work`, done in a thread; what it refuses as one line."""
    try:
        return JSONResponse(await run_in_threadpool(work, *arguments))
    except Refused as error:
        return _error(409, str(error))
    except UserError as error:
        # The log is for this machine to look after, no mistake in the request: the page keeps its verdict.
        return _error(507 if error.field.endswith(LOG) else 400, str(error))


async def _changed(request: Request, work: Callable[[dict[str, Any]], Any]) -> Response:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        return _error(400, "the request is no JSON")
    if not isinstance(body, dict):
        return _error(400, "the request must be an object")
    return await _told(work, body)


def _file(name: str) -> Response:
    """A file of the page. Only those that are there by name: no path is built from what was asked."""
    found = {file.name: file for file in STATIC.iterdir() if file.suffix in _KINDS and file.is_file()}
    if name not in found:
        return _error(404, "there is nothing here")
    headers = {"cache-control": "no-cache"}
    return FileResponse(found[name], media_type=_KINDS[found[name].suffix], headers=headers)


def _error(status: int, line: str) -> Response:
    return JSONResponse({"error": " ".join(line.split())}, status)
