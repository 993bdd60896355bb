"""What the tests of the page share: a set of pairs, its server in a process of its own, a watched page."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from sempairs.catalog.sources import open_source
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import save_with_baselines

CHROMIUM = shutil.which("chromium")


def build(source: str, folder: Path, **pairs: Any) -> Path:
    """A folder of pairs of a source."""
    save_with_baselines(folder, open_source(source).scan().catalog, PairsConfig(**pairs))
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """`sempairs curate` on a folder, at one port however often it is restarted."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder, self.port, self.more = folder, free_port(), more
        self.address = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Served:
        command = [sys.executable, "-m", "sempairs", "curate", str(self.folder), "--port", str(self.port)]
        command += self.more
        self.process = subprocess.Popen(
            command, env={**os.environ, "SEMPAIRS_QUIET": "1"}, stdout=subprocess.PIPE
        )
        for _ in range(400):
            assert self.process.poll() is None, "the server ended"
            try:
                self.ask("state?reviewer=")
                return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(signal.SIGTERM)

    def end(self, how: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(20)

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}/api/{path}", timeout=20) as answer:
            return json.load(answer)

    def events(self, reviewer: str) -> list[dict[str, Any]]:
        """The log's events of a reviewer, in order, as they lie on disk."""
        db = sqlite3.connect(f"file:{self.folder / 'curation.sqlite'}?mode=ro", uri=True)
        db.row_factory = sqlite3.Row
        rows = db.execute("SELECT * FROM events WHERE reviewer = ? ORDER BY id", [reviewer]).fetchall()
        db.close()
        return [dict(row) for row in rows]

    def said(self, reviewer: str) -> list[tuple[str, str]]:
        """(kind, verdict) of each event."""
        return [(event["kind"], event["to_verdict"]) for event in self.events(reviewer)]


class Proxy:
    """A reverse proxy at one port that passes `PREFIX/…` on, with or without the prefix, to another port of
    this machine, whose name it puts in place of its own."""

    def __init__(self, prefix: str, to: int, *, strip: bool) -> None:
        class Passing(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                if not self.path.startswith(f"{prefix}/"):
                    self.send_error(404)
                    return
                path = self.path.removeprefix(prefix) if strip else self.path
                body = self.rfile.read(int(self.headers.get("content-length") or 0)) or None
                link = http.client.HTTPConnection("127.0.0.1", to, timeout=20)
                link.request(self.command, path, body, {**self.headers, "Host": f"127.0.0.1:{to}"})
                answer = link.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name not in ("content-length", "date", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                self.do_GET()

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Passing)
        self.address = f"http://127.0.0.1:{self._server.server_port}{prefix}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Watched:
    """One browser profile at the page. `trouble`: console errors, exceptions, requests to elsewhere."""

    def __init__(self, browser: Any, served: Served, reviewer: str, **options: Any) -> None:
        self.served, self.reviewer, self.trouble = served, reviewer, list[str]()
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.open()

    def open(self, **more: Any) -> Any:
        page = self.context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda line: line.type == "error" and self.trouble.append(line.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda request: self._outside(request.url))
        page.goto(f"{self.served.address}/?reviewer={self.reviewer}")
        self.page = page
        self.ready()
        return page

    def _outside(self, url: str) -> None:
        if not url.startswith(self.served.address + "/"):
            self.trouble.append(f"outside: {url}")

    def until(self, expression: str) -> None:
        """Until a JavaScript expression is true. (Playwright's own waiting needs `eval`.)"""
        end = time.monotonic() + 15
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"never so: {expression}"
            time.sleep(0.02)

    def ready(self) -> None:
        """Until both pictures of a pair are there."""
        self.until(
            "document.querySelector('#stage[aria-busy=false]')"
            " && document.querySelectorAll('.frame img').length === 2"
        )

    def press(self, keys: str) -> None:
        for key in keys.split():
            self.ready()
            self.page.keyboard.press(key)

    def saved(self) -> None:
        """Until the server has everything."""
        self.until("Object.keys(localStorage).every((key) => !key.startsWith('sempairs/unsent/'))")
        self.page.wait_for_selector("#saved[data-state=saved]")

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def pair(self) -> tuple[str, str]:
        """Addresses of the two pictures in front."""
        self.ready()
        found = self.page.eval_on_selector_all(".frame img", "(all) => all.map((i) => i.src)")
        return found[0], found[1]


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched(
    browser: Any, served: Served, reviewer: str, *, clean: bool = True, **options: Any
) -> Iterator[Watched]:
    """clean: nothing may be wrong at the end."""
    one = Watched(browser, served, reviewer, **options)
    try:
        yield one
        if clean:
            assert one.trouble == []
    finally:
        one.context.close()
