"""The page in real headless Chromium against the real server: judging, and that nothing is ever lost."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from .browser import Served, Watched, build, chromium, watched


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build("emoji-pairs", tmp_path_factory.mktemp("pairs") / "set", relation="cross_domain", count=60)
    pairs = pa.ipc.open_file(folder / "pairs.arrow").read_all()
    ids = [
        sorted(two) for two in zip(*(pairs.column(n).to_pylist() for n in ("anchor", "partner")), strict=True)
    ]
    doubt = {
        "anchor": [two[0] for two in ids],
        "partner": [two[1] for two in ids],
        "doubt": [1 - i / 100 for i in range(len(ids))],
        "rank": list(range(1, len(ids) + 1)),
        "evidence": [["looks like another thing"]] * len(ids),
    }
    (folder / "audit").mkdir()
    pq.write_table(pa.table(doubt), folder / "audit" / "doubt.parquet")
    return folder


@pytest.fixture(scope="module")
def served(emoji: Path) -> Iterator[Served]:
    """For tests that need no more than a reviewer of their own."""
    with Served(emoji) as server:
        yield server


@pytest.fixture
def own(emoji: Path, tmp_path: Path) -> Path:
    """A copy of the set that nobody has judged."""
    import shutil

    copy = tmp_path / "own"
    shutil.copytree(emoji, copy, ignore=shutil.ignore_patterns("curation*"))
    return copy


def ids_of(served: Served, addresses: tuple[str, str]) -> tuple[str, ...]:
    """The image ids of the two pictures in front, from the catalogue itself."""
    table = pa.ipc.open_file(served.folder / "catalog.arrow").read_all()
    rows = [int(re.findall(r"/images/(\d+)", address)[0]) for address in addresses]
    return tuple(sorted(table.column("image_id")[row].as_py() for row in rows))


def test_keys_reach_the_log_in_order_with_reasons_and_note(browser: Any, served: Served) -> None:
    with watched(browser, served, "keys") as one:
        seen = []
        for keys in ("y", "2", "w d u", "t", "1"):
            seen.append(ids_of(served, one.pair()))
            one.press(keys)
            if keys == "t":
                one.page.keyboard.type("no 1 way")  # letters in a note are no verdicts
                one.page.keyboard.press("Escape")
                seen.pop()
        one.press("n")
        one.saved()
        assert one.text("#count") == "5 of 60"
        events = served.events("keys")
        assert [event["to_verdict"] for event in events] == ["yes", "no", "unsure", "yes", "no"]
        assert [(event["anchor"], event["partner"]) for event in events][:4] == seen
        assert [sorted(json.loads(event["reasons"])) for event in events] == [
            [],
            [],
            ["near-duplicate", "wrong-label"],
            [],
            [],
        ]
        assert [event["note"] for event in events] == ["", "", "", "no 1 way", ""]
        assert {event["queue"] for event in events} == {"sample"}
        assert one.text("#said") == "Pair 5, saved no"
        assert one.text("#next").startswith("Pair 6. Picture A: ")


def test_undo_goes_back_over_any_number_and_beyond_a_reload(browser: Any, served: Served) -> None:
    with watched(browser, served, "undo") as one:
        first = one.pair()
        one.press("y")
        second = one.pair()
        one.press("o n y")
        one.press("z")
        one.press("Control+z")
        assert one.pair() == second
        assert one.page.get_attribute(".reason[aria-pressed=true]", "class") and "offensive" in one.text(
            ".reason[aria-pressed=true]"
        )
        one.press("u")  # corrected; its reason still stands
        one.saved()
        assert served.said("undo") == [
            ("verdict", "yes"),
            ("verdict", "no"),
            ("verdict", "yes"),
            ("undo", None),
            ("undo", None),
            ("verdict", "unsure"),
        ]
        assert json.loads(served.events("undo")[-1]["reasons"]) == ["offensive"]
        one.page.reload()
        one.press("Backspace")
        one.until("document.getElementById('said').textContent === 'Taken back'")
        one.press("Backspace")
        one.until("document.getElementById('count').textContent.startsWith('0 of')")
        assert one.pair() == first
        one.press("Backspace")
        one.page.wait_for_selector("#message:visible")
        assert one.text("#message-text") == "Nothing left to undo"
        one.trouble = [line for line in one.trouble if "409" not in line]
        progress = served.ask("pairs?queue=sample&reviewer=undo")
        assert progress["done"] == 0


def test_the_name_is_asked_once_and_remembered(browser: Any, served: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.address)
    page.wait_for_selector("#naming[open]")
    page.keyboard.press("y")  # goes into the name, and judges nothing
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    assert page.is_visible("#naming")  # a name there must be
    page.keyboard.type("Zoë O’Neil")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stage[aria-busy=false]")
    page.keyboard.press("y")
    page.wait_for_selector("text=1 of 60")
    page.reload()
    page.wait_for_selector("text=1 of 60")
    assert page.inner_text("#who-name") == "Zoë O’Neil" and page.is_hidden("#naming")
    assert served.said("Zoë O’Neil") == [("verdict", "yes")]
    context.close()


def test_a_reload_resumes_where_one_was(browser: Any, served: Served) -> None:
    with watched(browser, served, "resume") as one:
        one.press("y n y")
        there = one.pair()
        one.saved()
        one.page.reload()
        assert one.pair() == there
        assert one.text("#count") == "3 of 60" and one.text("#which") == "Pair 4"
        one.press("s")  # later, without a verdict
        assert one.pair() != there and one.text("#which") == "Pair 5"
        one.press("z")
        assert one.pair() == there
        assert len(served.events("resume")) == 3


def test_two_browsers_at_once_give_agreement_and_a_third_adjudicates(browser: Any, own: Path) -> None:
    left, right = list("yyynun"), list("yynnuy")
    with (
        Served(own) as served,
        watched(browser, served, "ada") as ada,
        watched(browser, served, "ben") as ben,
        watched(browser, served, "eve") as eve,
    ):
        for a, b in zip(left, right, strict=True):
            assert ada.pair() == ben.pair()
            ada.press(a)
            ben.press(b)
        ada.saved()
        ben.saved()
        same = sum(a == b for a, b in zip(left, right, strict=True)) / len(left)
        ours, theirs = Counter(left), Counter(right)
        chance = sum(ours[v] * theirs[v] for v in "ynu") / len(left) ** 2
        eve.page.reload()
        eve.ready()
        panel = eve.text("#panel")
        assert re.search(r"ada – ben\s+6\s+66\.7 %\s+" + f"{(same - chance) / (1 - chance):.2f}", panel), (
            panel
        )
        assert "2 conflicts" in panel
        assert "ben" not in eve.text("main") and eve.page.is_hidden("#known")
        eve.page.click("#adjudicate")
        eve.until("document.getElementById('queue-name').textContent === 'Conflicts'")
        eve.ready()
        assert {"ada", "ben"} <= set(eve.text("#known").split())
        eve.press("n")
        eve.press("y")
        eve.page.wait_for_selector("#instead h3")
        eve.saved()
        assert served.said("eve") == [("adjudication", "no"), ("adjudication", "yes")]
        assert served.ask("state?reviewer=eve")["conflicts"] == 0


def test_a_server_killed_midway_loses_no_verdict(browser: Any, own: Path) -> None:
    served = Served(own)
    with served, watched(browser, served, "kept", clean=False) as one:
        one.press("y n")
        one.saved()
        served.end(signal.SIGKILL)
        one.press("u y z n n")  # five more entries, none of which anybody hears
        one.page.wait_for_selector("#saved[data-state=offline]")
        assert one.text("#saved") == "Offline, 5 kept here"
        asked: list[str] = []
        one.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        with one.page.expect_event("close"):
            one.page.close(run_before_unload=True)  # leaving warns, and the browser keeps them
        assert asked == ["beforeunload"]
        with served:
            one.open()
            one.saved()
            assert served.said("kept") == [
                ("verdict", "yes"), ("verdict", "no"), ("verdict", "unsure"), ("verdict", "yes"),
                ("undo", None), ("verdict", "no"), ("verdict", "no"),
            ]  # fmt: skip
            assert one.text("#count") == "5 of 60"
            served.end(signal.SIGKILL)
            one.press("y")
        with served:  # back under an open page: it notices by itself
            one.saved()
            assert len(served.events("kept")) == 8


def test_a_full_disk_keeps_the_verdict_and_says_so_in_one_line(browser: Any, served: Served) -> None:
    with watched(browser, served, "full", clean=False) as one:
        full = {
            "status": 507,
            "content_type": "application/json",
            "body": json.dumps({"error": "curation.sqlite cannot be written (disk full)"}),
        }
        one.page.route("**/api/verdicts", lambda route: route.fulfill(**full))
        one.press("y n")
        one.page.wait_for_selector("#message:visible")
        assert "curation.sqlite cannot be written (disk full)" in one.text("#message-text")
        one.page.unroute("**/api/verdicts")
        one.saved()
        assert served.said("full") == [("verdict", "yes"), ("verdict", "no")]
        assert one.page.is_hidden("#message")


def test_another_set_at_the_same_address_gets_no_verdict_of_this_one(
    browser: Any, served: Served, own: Path
) -> None:
    with watched(browser, served, "moved", clean=False) as one:
        state = served.ask("state?reviewer=moved")
        state["set"]["manifest_hash"] = "another"
        refusal = {
            "status": 400,
            "content_type": "application/json",
            "body": json.dumps({"error": "pair is of another set"}),
        }
        one.page.route("**/api/verdicts", lambda route: route.fulfill(**refusal))
        one.page.route("**/api/state*", lambda route: route.fulfill(status=200, json=state))
        one.press("y")
        one.page.wait_for_selector("#saved[data-state=offline]")
        assert "another set" in str(one.page.get_attribute("#saved", "title"))
        one.page.unroute("**/api/verdicts")
        one.page.unroute("**/api/state*")
        one.saved()
        assert served.said("moved") == [("verdict", "yes")]


def test_names_that_are_markup_do_nothing(browser: Any, tmp_path: Path) -> None:
    evil = "<img src=x onerror='window.hacked=1'>"
    for name in (evil, "<script>window.hacked=1<", "plain"):
        folder = tmp_path / "images" / f"{name} class"
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (24, 24), (40 * i, 90, 200)).save(folder / f"{name}{i}.png")
    folder = build(f"folder:{tmp_path / 'images'}", tmp_path / "set", relation="same_category")
    with Served(folder) as served, watched(browser, served, evil) as one:
        assert one.text("#who-name") == evil
        assert any(
            evil in text for text in one.page.eval_on_selector_all("img", "(all) => all.map((i) => i.alt)")
        )
        one.press("e q")
        assert evil in one.text("#class-list")
        one.page.keyboard.press("Escape")
        one.press("t")
        one.page.keyboard.type(evil)
        one.page.keyboard.press("Enter")
        size = int(one.text("#count").split()[-1])
        one.press(" ".join("y" * size))
        one.page.wait_for_selector("#instead h3")
        assert one.text("#instead h3") == "Queue done"
        one.saved()
        assert served.events(evil)[0]["note"] == evil
        one.page.click("text=Look at my verdicts")
        one.ready()
        assert "Your verdict until now" in one.text("#known")
        assert one.page.evaluate("window.hacked") is None
        assert one.page.eval_on_selector_all("img", "(all) => all.every((i) => i.src.includes('/images/'))")


def test_judging_is_blind_until_evidence_is_asked_for(browser: Any, served: Served) -> None:
    with watched(browser, served, "blind") as one:
        one.press("q")
        one.page.click("[data-queue=doubtful]")
        one.ready()
        assert "looks like another thing" not in one.page.content() and "oubt 1" not in one.text("main")
        one.press("e")
        assert "looks like another thing" in one.text("#known") and "Doubt 1.00" in one.text("#known")
        one.press("y")
        one.saved()
        assert served.events("blind")[0]["queue"] == "doubtful"
        one.page.reload()  # asked for anew each time
        one.ready()
        assert one.text("#queue-name") == "Most doubtful first" and one.page.is_hidden("#known")


def test_a_pair_nobody_could_see_is_not_judged(browser: Any, served: Served) -> None:
    with watched(browser, served, "unseen", clean=False) as one:
        lost: Watched = one
        lost.page.route(re.compile(r"/images/"), lambda route: route.abort())
        lost.page.keyboard.press("q")
        lost.page.click("[data-queue=all]")
        lost.page.wait_for_selector(".lost")
        lost.page.keyboard.press("y")
        assert "could not be loaded" in lost.text("#message-text")
        lost.page.keyboard.press("u")
        lost.saved()
        assert served.said("unseen") == [("verdict", "unsure")]
