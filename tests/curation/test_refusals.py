"""What the curation server refuses, and how it says so."""

from __future__ import annotations

import json
import sqlite3
import uuid

import pytest
from starlette.testclient import TestClient

from sempairs.curation.guard import Tokens, is_loopback
from sempairs.curation.server import application

HOST = "http://127.0.0.1:8765"


def ids(pair):
    return pair["anchor"]["id"], pair["partner"]["id"]


@pytest.mark.parametrize(
    "path",
    [
        "/images/24",
        "/images/-1",
        "/images/1e3",
        "/images/0-else",
        "/images/..%2f..%2fetc%2fpasswd",
        "/images/٣",
        "/static/..%2fserver.py",
        "/static/../server.py",
        "/static/%2e%2e/desk.py",
        "/static/none.js",
        "/static/",
        "/pairs.json",
        "/..%2f..%2fpairs.json",
        "/api/else",
        "/static/index.html%00.js",
        "/images/99999999999999",
    ],
)
def test_nothing_outside_the_set_is_served(api, path):
    answer = api.client.get(path)
    assert answer.status_code == 404 and set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reviewer", ""),
        ("reviewer", " Ann"),
        ("reviewer", "A" * 61),
        ("reviewer", "A\nB"),
        ("reviewer", None),
        ("reviewer", "Ann (adjudication)"),
        ("reviewer", "\u202eAnn"),
        ("reviewer", "\ud800"),
        ("pair", "12-00000000"),
        ("pair", "99-{hash}"),
        ("pair", "-1-{hash}"),
        ("pair", 3),
        ("pair", "x"),
        ("verdict", "maybe"),
        ("verdict", None),
        ("verdict", ["yes"]),
        ("reasons", ["because"]),
        ("reasons", "unclear"),
        ("reasons", [["unclear"]]),
        ("note", "x" * 2001),
        ("note", None),
        ("note", "\udfff"),
        ("queue", "else"),
        ("queue", "class:bird"),
        ("queue", None),
        ("event", "1"),
        ("event", None),
    ],
)
def test_what_is_no_verdict_is_refused_in_one_line(api, field, value):
    if isinstance(value, str):
        value = value.replace("{hash}", api.desk.set_hash[:8])
    good = {"reviewer": "Ann", "pair": api.pairs("Ann")[0]["id"], "verdict": "yes", "reasons": [], "note": ""}
    body = {**good, "queue": "all", "event": str(uuid.uuid4()), field: value}
    headers = {"origin": HOST, "content-type": "application/json"}
    answer = api.client.post("/api/verdicts", content=json.dumps(body), headers=headers)
    assert answer.status_code == 400 and "\n" not in answer.json()["error"], answer.text
    assert api.desk.log.last() == 0


def test_hostile_names_are_only_names(api):
    name = "<script>alert(1)</script> & \"'; DROP TABLE events"
    pair = api.pairs(name)[0]
    api.say(name, pair["id"], "yes", note="</script><img src=x onerror=alert(1)>\n\0x"[:-2])
    state = api.get("/api/state", reviewer="Bob")
    assert state["reviewers"][0]["name"] == name and len(api.pairs("Bob", f"by:{name}")) == 1
    exported = api.client.get("/api/export")
    assert json.loads(exported.text)["reviewer"] == name
    assert "attachment" in exported.headers["content-disposition"]
    assert exported.headers["content-type"].startswith("application/x-ndjson")


def test_bodies_that_are_none(api):
    headers = {"origin": HOST, "content-type": "application/json"}
    for content, status in (
        (b"{", 400), (b"[]", 400), (b"\xff", 400), (b"[" * 60_000, 400), (b" " * 70_000, 413), (b"", 400),
    ):  # fmt: skip
        answer = api.client.post("/api/verdicts", content=content, headers=headers)
        assert answer.status_code == status and set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("queue=x", "queue"),
    ],
)
def test_questions_that_are_none(api, query, field):
    answer = api.client.get(f"/api/pairs?reviewer=Ann&{query}")
    assert answer.status_code == 400 and answer.json()["error"].startswith(field)


def test_a_full_disk_is_said_and_the_verdict_can_be_sent_again(api, monkeypatch):
    pair, name = api.pairs("Ann")[0], str(uuid.uuid4())
    body = {"reviewer": "Ann", "pair": pair["id"], "verdict": "yes", "queue": "all", "event": name}
    db = api.desk.log._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    note = {"note": "x" * 2000}
    refused = [api.post("/api/verdicts", {**body, **note, "event": str(uuid.uuid4())}) for _ in range(9)][-1]
    assert refused.status_code == 507 and "disk is full" in refused.json()["error"]
    before = api.desk.log.last()
    db.execute("PRAGMA max_page_count = 100000")
    assert api.post("/api/verdicts", body).status_code == 200
    assert api.desk.log.last() == before + 1
    check = sqlite3.connect(api.desk.log.path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


def test_requests_from_elsewhere_are_refused(api):
    pair = api.pairs("Ann")[0]
    body = {
        "reviewer": "Ann",
        "pair": pair["id"],
        "verdict": "yes",
        "queue": "all",
        "event": str(uuid.uuid4()),
    }
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:8765"):
        assert api.post("/api/verdicts", body, origin=origin).status_code == 403
    assert api.client.post("/api/verdicts", json=body).status_code == 403
    plain = {"origin": HOST, "content-type": "text/plain"}
    assert api.client.post("/api/verdicts", content=json.dumps(body), headers=plain).status_code == 415
    for host in ("evil.example", "127.0.0.1.evil.example", "", "evil.example:8765", "0.0.0.0", "10.0.0.1"):
        assert api.client.get("/", headers={"host": host}).status_code == 421
    for host in ("localhost:8765", "127.0.0.1", "[::1]:9999", "LOCALHOST"):
        assert api.client.get("/api/state", headers={"host": host}).status_code == 200
    assert api.client.request("DELETE", "/api/verdicts").status_code == 405
    assert api.client.get("/api/verdicts").status_code == 405
    assert api.desk.log.last() == 0


def test_every_answer_carries_the_rules(api):
    for path in ("/", "/api/state", "/api/pairs?queue=x", "/images/0", "/nothing", "/static/index.html"):
        headers = api.client.get(path).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; img-src 'self'; script-src 'self'"
        )
        assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers
    for path in ("/api/state", "/api/export", "/api/pairs"):
        assert api.client.get(path).headers["cache-control"] == "no-store"


def test_outside_loopback_a_token_works_once(desk):
    shown: list[str] = []
    tokens = Tokens(8765, shown.append)
    app = application(desk, host="0.0.0.0", tokens=tokens)
    base = "http://10.1.2.3:8765"
    one = TestClient(app, base_url=base, follow_redirects=False)
    for path in (
        "/",
        "/api/state",
        "/images/0",
        "/static/app.js",
        "/?token=wrong",
        "/?token=",
        "/api/export",
    ):
        assert one.get(path).status_code in (401, 403)
    assert one.get("/api/state", headers={"cookie": f"{tokens.cookie}="}).status_code == 401
    came = one.get(f"/?token={shown[0]}")
    assert came.status_code == 303 and came.headers["location"] == "/"
    cookie = came.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert one.get("/").status_code == 200 and one.get("/api/state").status_code == 200
    two = TestClient(app, base_url=base, follow_redirects=False)
    assert two.get(f"/?token={shown[0]}").status_code == 403
    # The next browser takes the next token; the first one's cookie goes on working.
    assert len(shown) == 2 and two.get(f"/?token={shown[1]}").status_code == 303
    assert one.get("/").status_code == two.get("/").status_code == 200
    assert two.get("/", headers={"host": "evil.example"}).status_code == 421


def test_which_addresses_are_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.8.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))
