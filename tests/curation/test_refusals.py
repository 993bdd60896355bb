"""What the curation server refuses, and how it says so."""

from __future__ import annotations

import json
import sqlite3
import uuid

import pytest
from starlette.testclient import TestClient

from sempairs.curation.access import Tokens, is_loopback, outer
from sempairs.curation.server import application
from sempairs.errors import UserError

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
        "/static/%2e%2e/api.py",
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
        value = value.replace("{hash}", api.direct.set_hash[:8])
    good = {"reviewer": "Ann", "pair": api.pairs("Ann")[0]["id"], "verdict": "yes", "reasons": [], "note": ""}
    body = {**good, "queue": "all", "event": str(uuid.uuid4()), field: value}
    headers = {"origin": HOST, "content-type": "application/json"}
    answer = api.client.post("/api/verdicts", content=json.dumps(body), headers=headers)
    assert answer.status_code == 400 and "\n" not in answer.json()["error"], answer.text
    assert api.direct.log.last() == 0


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
    db = api.direct.log._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    note = {"note": "x" * 2000}
    refused = [api.post("/api/verdicts", {**body, **note, "event": str(uuid.uuid4())}) for _ in range(9)][-1]
    assert refused.status_code == 507 and "disk is full" in refused.json()["error"]
    before = api.direct.log.last()
    db.execute("PRAGMA max_page_count = 100000")
    assert api.post("/api/verdicts", body).status_code == 200
    assert api.direct.log.last() == before + 1
    check = sqlite3.connect(api.direct.log.path)
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
    for host in (
        "evil.example", "127.0.0.1.evil.example", "", "evil.example:8765", "0.0.0.0", "10.0.0.1",
        "[::1].evil.example", "[::1]evil.example", "[::1", "::1]", "[::1]:80.evil.example", "127.0.0.1:evil",
        "127.0.0.1:80.evil.example", "localhost:80:80", "localhost@evil.example", "evil.example#localhost",
        "localhost/evil", "[localhost]", "127.0.0.1:", "[::1]:999999", "localhost, evil.example",
    ):  # fmt: skip
        assert api.client.get("/", headers={"host": host}).status_code == 421, host
    for host in ("localhost:8765", "127.0.0.1", "[::1]:9999", "LOCALHOST"):
        assert api.client.get("/api/state", headers={"host": host}).status_code == 200
    assert api.client.request("DELETE", "/api/verdicts").status_code == 405
    assert api.client.get("/api/verdicts").status_code == 405
    assert api.direct.log.last() == 0


def test_every_answer_carries_the_rules(api):
    for path in ("/", "/api/state", "/api/pairs?queue=x", "/images/0", "/nothing", "/static/index.html"):
        headers = api.client.get(path).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; img-src 'self'; script-src 'self'"
        )
        assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers
    for path in ("/api/state", "/api/export", "/api/pairs"):
        assert api.client.get(path).headers["cache-control"] == "no-store"


def test_outside_loopback_a_token_works_once(direct):
    shown: list[str] = []
    tokens = Tokens(8765, shown.append)
    app = application(direct, host="0.0.0.0", tokens=tokens)
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
    assert came.status_code == 303 and came.headers["location"] == "./"
    cookie = came.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert one.get("/").status_code == 200 and one.get("/api/state").status_code == 200
    two = TestClient(app, base_url=base, follow_redirects=False)
    assert two.get(f"/?token={shown[0]}").status_code == 403
    # The next browser takes the next token; the first one's cookie goes on working.
    assert len(shown) == 2 and two.get(f"/?token={shown[1]}").status_code == 303
    assert one.get("/").status_code == two.get("/").status_code == 200
    assert two.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("address", "origin", "page"),
    [
        ("https://label.example.org", "https://label.example.org", "https://label.example.org/"),
        ("https://label.example.org/", "https://label.example.org", "https://label.example.org/"),
        (
            " HTTPS://Label.Example.org:443/a/b/ ",
            "https://label.example.org",
            "https://label.example.org/a/b/",
        ),
        ("http://10.0.0.7:8080/x-1", "http://10.0.0.7:8080", "http://10.0.0.7:8080/x-1/"),
        ("http://[::1]:80/", "http://[::1]", "http://[::1]/"),
        ("https://[fe80::1]:99", "https://[fe80::1]:99", "https://[fe80::1]:99/"),
    ],
)
def test_the_address_outside(address, origin, page):
    found = outer(address)
    assert (found.origin, found.address) == (origin, page)


@pytest.mark.parametrize(
    "address",
    ["", "label.example.org", "ftp://a.b", "https://", "https://a.b/?x", "https://a.b/#x", "https://u:p@a.b",
     "https://a.b/c d", "https://a.b:x", "https://a.b//c", "https://[::1", "https://a.b/../c", "null", "*"],
)  # fmt: skip
def test_what_is_no_address_outside_is_one_line(address, sempairs, folder):
    with pytest.raises(UserError, match="--origin must be the outer address"):
        outer(address)
    status, _, errors = sempairs("curate", folder, "--port", "0", "--origin", address)
    assert status == 2 and len(errors) == 1 and "--origin" in errors[0]


def _verdict(pair: str) -> dict[str, object]:
    return {"reviewer": "Ann", "pair": pair, "verdict": "yes", "queue": "all", "event": str(uuid.uuid4())}


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "label.example.org", "localhost"])
@pytest.mark.parametrize("path", ["", "/review"])
def test_behind_a_proxy_that_was_named_verdicts_are_taken(direct, host, path):
    """The proxy rewrites Host or keeps it, leaves its prefix on the path or takes it off."""
    shown: list[str] = []
    proxy = outer("https://label.example.org/review")
    app = application(direct, tokens=Tokens(8765, shown.append), proxy=proxy)
    one = TestClient(app, base_url=HOST, follow_redirects=False)
    outside = {"host": host, "x-forwarded-proto": "https", "x-forwarded-host": "label.example.org"}
    assert one.get(f"{path}/", headers=outside).status_code == 401
    came = one.get(f"{path}/?token={shown[0]}", headers=outside)
    assert came.status_code == 303 and came.headers["location"] == "/review/"
    assert "secure" in came.headers["set-cookie"].lower()
    cookie = came.headers["set-cookie"].partition(";")[0]
    outside["cookie"] = cookie
    assert "Same meaning?" in one.get(f"{path}/", headers=outside).text
    assert one.get(f"{path}/static/app.js", headers=outside).status_code == 200
    asked = one.get(f"{path}/api/pairs?queue=all&reviewer=Ann", headers=outside).json()["pairs"]
    assert one.get(path + asked[0]["anchor"]["url"], headers=outside).status_code == 200
    for origin, status in (
        ("https://label.example.org", 200), ("http://elsewhere.example.org", 403), ("null", 403),
        ("https://evil.example", 403), ("https://label.example.org.evil.example", 403), (None, 403),
    ):  # fmt: skip
        headers = outside | ({"origin": origin} if origin else {})
        answer = one.post(f"{path}/api/verdicts", json=_verdict(asked[0]["id"]), headers=headers)
        assert answer.status_code == status, (origin, answer.text)


def test_a_prefix_without_its_slash_leads_to_the_page(direct):
    app = application(direct, proxy=outer("http://127.0.0.1:9/review"))
    one = TestClient(app, base_url=HOST, follow_redirects=False)
    for query in ("", "?reviewer=Ann"):
        answer = one.get(f"/review{query}")
        assert answer.status_code == 308 and answer.headers["location"] == f"/review/{query}"
    assert one.get("/reviewer").status_code == 404
    assert one.get("/review/").status_code == one.get("/").status_code == 200


def test_a_proxy_that_was_not_named_is_told_what_to_do(api):
    outside = {"x-forwarded-proto": "https", "x-forwarded-host": "label.example.org"}
    pair = api.pairs("Ann")[0]["id"]
    headers = {**outside, "origin": "https://label.example.org"}
    answer = api.client.post("/api/verdicts", json=_verdict(pair), headers=headers)
    assert answer.status_code == 403
    assert "behind a proxy" in answer.json()["error"]
    assert "--origin https://label.example.org" in answer.json()["error"]
    answer = api.client.get("/", headers={"host": "label.example.org"})
    assert answer.status_code == 421 and "--origin" in answer.json()["error"]


def test_a_proxy_others_can_reach_needs_a_token(direct):
    with pytest.raises(AssertionError, match="tokens"):
        application(direct, proxy=outer("https://label.example.org"))


def test_which_addresses_are_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.8.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))
