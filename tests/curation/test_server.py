"""The API as the page uses it."""

from __future__ import annotations

import io
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient

from sempairs.catalog.pictures import Pictures
from sempairs.curation.api import CurationApi
from sempairs.curation.images import Thumbnails
from sempairs.curation.server import application
from sempairs.curation.store import LOG, Event, EventLog, standing_verdicts
from sempairs.errors import UserError
from sempairs.pairs.sample import audit_sample, pair_key
from sempairs.pairs.table import PairSet

HOST = "http://127.0.0.1:8765"


def ids(pair):
    return pair["anchor"]["id"], pair["partner"]["id"]


def test_judging_a_queue_from_start_to_end(api):
    seen = []
    while page := api.get("/api/pairs", queue="sample", reviewer="Ann", limit=5)["pairs"]:
        for pair in page:
            seen.append(ids(pair))
            api.say("Ann", pair["id"], "yes", "sample", reasons=["unclear"], note="so-so")
    pairs = api.direct.subject.pairs
    keys = pair_key(pairs)
    assert seen == [keys[row] for row in audit_sample(pairs, 400)] and len(set(seen)) == 12
    state = api.get("/api/state", reviewer="Ann")
    assert state["progress"] == {"pairs": 12, "judged": 12, "yes": 12, "no": 0, "unsure": 0}
    assert {q["id"]: (q["done"], q["size"]) for q in state["queues"]} == {
        "sample": (12, 12), "all": (12, 12), "conflicts": (0, 0), "mine": (12, 12),
    }  # fmt: skip
    assert state["undo"] == 12 and state["reviewers"] == [{"name": "Ann", "kind": "person", "verdicts": 12}]
    mine = api.pairs("Ann", "mine")
    assert [ids(pair) for pair in mine] == seen[::-1]
    assert mine[0]["verdict"] == {"verdict": "yes", "reasons": ["unclear"], "note": "so-so"}


def test_pages_follow_one_another_and_skip_what_is_judged(api):
    first = api.get("/api/pairs", queue="all", reviewer="Ann", limit=4)
    assert [pair["position"] for pair in first["pairs"]] == [1, 2, 3, 4]
    api.say("Ann", first["pairs"][1]["id"], "no")
    second = api.get("/api/pairs", queue="all", reviewer="Ann", limit=20, after=first["next"])
    assert [pair["position"] for pair in second["pairs"]] == list(range(5, 13)) and second["next"] is None
    again = api.get("/api/pairs", queue="all", reviewer="Ann", limit=20)
    assert [pair["position"] for pair in again["pairs"]] == [1, *range(3, 13)]
    assert (again["done"], again["size"]) == (1, 12)
    # Another reviewer has all of them still, and the overlap queue has what Ann judged.
    assert len(api.pairs("Bob")) == 12
    assert [ids(p) for p in api.pairs("Bob", "by:Ann")] == [ids(first["pairs"][1])]


def test_undo_goes_back_over_any_number_of_verdicts(api):
    pairs = api.pairs("Ann")
    api.say("Ann", pairs[0]["id"], "yes", note="first")
    api.say("Ann", pairs[1]["id"], "no")
    assert api.say("Ann", pairs[0]["id"], "unsure")["undo"] == 3
    api.say("Bob", pairs[0]["id"], "no")
    taken = api.undo("Ann").json()
    assert taken["undo"] == 2 and ids(taken["pair"]) == ids(pairs[0])
    assert taken["pair"]["verdict"] == {"verdict": "yes", "reasons": [], "note": "first"}
    assert ids(api.undo("Ann").json()["pair"]) == ids(pairs[1])
    last = api.undo("Ann").json()
    assert last["undo"] == 0 and last["pair"]["verdict"] is None and last["pair"]["position"] == 1
    refused = api.undo("Ann")
    assert refused.status_code == 409 and refused.json() == {"error": "nothing is left to undo"}
    assert api.get("/api/state", reviewer="Bob")["undo"] == 1


def test_a_request_sent_twice_counts_once(api):
    pairs = api.pairs("Ann")
    name = str(uuid.uuid4())
    first = api.say("Ann", pairs[0]["id"], "yes", event=name)
    assert api.say("Ann", pairs[0]["id"], "yes", event=name) == first == {"event": 1, "undo": 1}
    body = {"reviewer": "Ann", "pair": pairs[1]["id"], "verdict": "yes", "queue": "all", "event": name}
    assert api.post("/api/verdicts", body).status_code == 409
    body = {"reviewer": "Ann", "event": str(uuid.uuid4())}
    one, two = api.post("/api/undo", body), api.post("/api/undo", body)
    assert one.status_code == two.status_code == 200 and one.json() == two.json()
    assert api.direct.log.last() == 2
    assert api.post("/api/undo", {"reviewer": "Ann", "event": name}).status_code == 409


def test_conflicts_are_adjudicated(api):
    pairs = api.pairs("Ann")
    for pair, ann, bob in zip(pairs, ("yes", "no", "yes"), ("no", "no", "unsure"), strict=False):
        api.say("Ann", pair["id"], ann, note="mine")
        api.say("Bob", pair["id"], bob)
    state = api.get("/api/state", reviewer="Eve")
    assert state["conflicts"] == 1 and state["progress"]["unsure"] == 1
    assert state["agreement"]["pairs"] == 3 and state["agreement"]["percent"] == pytest.approx(1 / 3)
    assert state["agreement"]["cohen"][0]["a"] == "Ann" and state["agreement"]["fleiss"]["raters"] == 2
    (open_,) = api.pairs("Ann", "conflicts")
    assert ids(open_) == ids(pairs[0]) and open_["verdict"] is None
    assert open_["others"][0] == {
        "reviewer": "Ann", "kind": "person", "verdict": "yes", "reasons": [], "note": "mine",
    }  # fmt: skip
    assert [other["verdict"] for other in open_["others"]] == ["yes", "no"]
    api.say("Ann", open_["id"], "no", "conflicts")
    assert api.pairs("Bob", "conflicts") == []
    state = api.get("/api/state", reviewer="Ann")
    assert state["conflicts"] == 0 and state["progress"]["no"] == 2
    # The own verdict stays what it was, and so does the agreement.
    assert state["agreement"]["percent"] == pytest.approx(1 / 3)
    assert api.pairs("Ann", "mine")[2]["verdict"]["verdict"] == "yes"
    body = {"reviewer": "Eve", "pair": pairs[1]["id"], "verdict": "no", "queue": "conflicts"}
    assert api.post("/api/verdicts", {**body, "event": str(uuid.uuid4())}).status_code == 409
    back = api.undo("Ann").json()
    assert (
        back["queue"] == "conflicts" and back["pair"]["verdict"] is None and len(back["pair"]["others"]) == 2
    )
    assert len(api.pairs("Bob", "conflicts")) == 1


def test_queues_by_class_and_by_doubt(folder):
    pairs = PairSet.open(folder)
    keys = pair_key(pairs)
    order = np.random.default_rng(1).permutation(12)[:10]
    rows = [(*keys[row], 1 - rank / 12, rank, [f"because {rank}"]) for rank, row in enumerate(order, 1)]
    rows.append(("gone", "long", 0.0, 11, []))
    names = ("anchor", "partner", "doubt", "rank", "evidence")
    table = pa.table(
        {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    )
    (folder / "audit").mkdir()
    pq.write_table(table.take(pa.array(range(10, -1, -1))), folder / "audit" / "doubt.parquet")
    direct = CurationApi(folder)
    client = TestClient(application(direct), base_url=HOST)
    ask = {"queue": "doubtful", "reviewer": "Ann"}
    found = client.get("/api/pairs", params=ask).json()["pairs"]
    assert [ids(pair) for pair in found] == [keys[row] for row in order]
    assert found[2]["doubt"] == pytest.approx(0.75) and found[2]["evidence"] == ["because 3"]
    state = client.get("/api/state", params={"reviewer": "Ann"}).json()
    assert state["classes"] == [{"name": name, "pairs": 4} for name in ("cat", "dog", "owl")]
    assert "doubtful" in [queue["id"] for queue in state["queues"]] and state["hints"] == []
    owls = client.get("/api/pairs", params={**ask, "queue": "class:owl"}).json()["pairs"]
    assert len(owls) == 4 and {pair["category"] for pair in owls} == {"owl"}
    direct.close()
    (folder / "audit" / "doubt.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not what an audit writes"):
        CurationApi(folder)


def test_without_an_audit_there_is_a_hint(api):
    assert "pairs audit" in api.get("/api/state", reviewer="Ann")["hints"][0]
    assert api.get("/api/pairs", queue="doubtful", reviewer="Ann")["size"] == 0


def test_events_of_another_process_are_noticed(api, direct):
    pair = api.pairs("Ann")[0]
    other = EventLog(direct.folder / LOG, [direct.set_hash])
    other.append(
        [Event(str(uuid.uuid4()), "clip", "model", "import", *ids(pair), "no", note="sees two things")]
    )
    other.close()
    state = api.get("/api/state", reviewer="Ann")
    assert state["reviewers"] == [{"name": "clip", "kind": "model", "verdicts": 1}]
    # A model is no person: it takes part in no count of progress, agreement or conflicts.
    api.say("Ann", pair["id"], "yes")
    state = api.get("/api/state", reviewer="Ann")
    assert state["progress"]["judged"] == 1 and state["conflicts"] == 0 and state["agreement"]["pairs"] == 0
    body = {
        "reviewer": "clip",
        "pair": pair["id"],
        "verdict": "no",
        "queue": "all",
        "event": str(uuid.uuid4()),
    }
    assert "is a model here" in api.post("/api/verdicts", body).json()["error"]


def test_pictures_are_shown_as_they_are(api):
    catalog = api.direct.subject.pairs.catalog
    pictures = Pictures(catalog)
    for pair in api.pairs("Ann"):
        for image in (pair["anchor"], pair["partner"]):
            row = int(image["url"].split("/")[-1].split("-")[0])
            original = pictures.image(row)
            for size in (256, 512, 0):
                answer = api.client.get(image["url"], params={"size": size})
                assert (
                    answer.headers["content-type"] == "image/webp"
                    and "immutable" in answer.headers["cache-control"]
                )
                shown = Image.open(io.BytesIO(answer.content))
                assert max(shown.size) <= (size or 700)
                if original.size == (12, 16):
                    assert (np.asarray(shown.convert(original.mode)) == np.asarray(original)).all()
            etag = answer.headers["etag"]
            again = api.client.get(image["url"], params={"size": 0}, headers={"if-none-match": etag})
            assert again.status_code == 304 and not again.content
    wide = next(i for i in range(24) if catalog.table.column("width")[i].as_py() == 700)
    sizes = [
        Image.open(io.BytesIO(api.client.get(f"/images/{wide}?size={s}").content)).size[0]
        for s in (256, 512, 0)
    ]
    assert sizes == [256, 512, 700]


def test_thumbnails_are_kept_up_to_a_bound(direct):
    images = Thumbnails(direct.subject.pairs.catalog, kept=3000)
    first = images.of(0, 256)
    for row in range(24):
        images.of(row, 256)
        assert images._held == sum(map(len, images._found.values())) <= 3000
    assert images.of(0, 256) == first


def test_a_picture_that_is_gone_is_one_line(api, monkeypatch):
    row = 3
    gone = api.direct.folder / "gone.png"
    monkeypatch.setattr(Pictures, "image", lambda *_: Image.open(gone))
    answer = api.client.get(f"/images/{row}")
    assert answer.status_code == 404 and "cannot be read" in answer.json()["error"]


def test_two_browsers_at_once_lose_nothing(api):
    """Two reviewers judge, and one takes back, at the same time; each sees only the own verdicts change."""
    from concurrent.futures import ThreadPoolExecutor

    pairs = api.pairs("Ann")

    def work(reviewer, verdict):
        for pair in pairs:
            api.say(reviewer, pair["id"], verdict)
        if reviewer == "Eve":
            for _ in pairs[4:]:
                assert api.undo(reviewer).status_code == 200

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, *who) for who in (("Ann", "yes"), ("Bob", "no"), ("Eve", "no"))]:
            done.result()
    assert api.direct.log.last() == 12 + 12 + 12 + 8
    state = api.get("/api/state", reviewer="Eve")
    assert state["conflicts"] == 12 and state["undo"] == 4
    assert [one["verdicts"] for one in state["reviewers"]] == [12, 12, 4]
    rows = standing_verdicts(api.direct.folder).to_pylist()
    assert sorted((row["reviewer"], row["verdict"]) for row in rows) == sorted(
        [("Ann", "yes")] * 12 + [("Bob", "no")] * 12 + [("Eve", "no")] * 4
    )
