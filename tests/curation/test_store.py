"""The event log: what is said is kept, whatever happens, and what stands is what a simple model says."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.curation.ledger import CODE, Ledger
from sempairs.curation.store import ADJUDICATOR, Event, EventLog, standing_verdicts
from sempairs.errors import UserError
from sempairs.pairs.verdicts import VERDICT_SCHEMA, check_verdicts

PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def verdict(reviewer, pair, word, *, ruling=False, kind=None, reviewer_kind="person", **more):
    kind = kind or ("adjudication" if ruling else "verdict")
    queue = "conflicts" if ruling else "all"
    name = more.pop("uuid", None) or str(uuid.uuid4())
    return Event(name, reviewer, reviewer_kind, kind, *pair, word, queue=queue, adjudication=ruling, **more)


def undo(log, reviewer, number):
    return log.undo(Event(str(uuid.uuid4()), reviewer, "person", "undo", "", "", None, undoes=number))


@pytest.fixture
def log(tmp_path):
    found = EventLog(tmp_path / "curation.sqlite", ["set"])
    yield found
    found.close()


def numbers(first, second):
    return np.array(
        [PAIRS.index(p) if p in PAIRS else -1 for p in zip(first, second, strict=True)], dtype=np.int64
    )


STEP = st.one_of(
    st.tuples(
        st.sampled_from(["say", "say", "rule", "import"]),
        st.sampled_from(["Ann", "Bob"]),
        st.sampled_from(PAIRS),
        st.sampled_from(["yes", "no", "unsure"]),
    ),
    st.tuples(st.just("undo"), st.sampled_from(["Ann", "Bob"])),
)


@settings(max_examples=40)
@given(st.lists(STEP, max_size=25), st.integers(0, 25))
def test_any_run_of_verdicts_and_undos_stands_as_in_a_simple_model(steps, read_at):
    stands: dict[tuple, str] = {}  # (reviewer, ruling, pair) -> verdict
    past: dict[str, list] = {"Ann": [], "Bob": []}  # what each undo would put back
    with tempfile.TemporaryDirectory() as place:
        log = EventLog(Path(place) / "log.sqlite", ["set"])
        live = Ledger(len(PAIRS), numbers)
        for at, step in enumerate(steps):
            if at == read_at:  # an index may be built at any time
                live = Ledger(len(PAIRS), numbers)
                live.feed(log.since())
            act, reviewer = step[:2]
            if act == "undo":
                stack = live.seats[reviewer].stack if reviewer in live.seats else []
                assert len(stack) == len(past[reviewer])
                if not stack:
                    continue
                key, before = past[reviewer].pop()
                undo(log, reviewer, stack[-1])
                stands.pop(key, None)
                if before is not None:
                    stands[key] = before
            else:
                key = reviewer, act == "rule", step[2]
                past[reviewer].append((key, stands.get(key)))
                stands[key] = step[3]
                if act == "import":
                    past[reviewer].clear()
                log.append(
                    [verdict(reviewer, step[2], step[3], ruling=act == "rule", kind={"import": act}.get(act))]
                )
            live.feed(log.since(live.last))
        log.close()
        fresh = EventLog(Path(place) / "log.sqlite", ["set"])
        again = Ledger(len(PAIRS), numbers)
        again.feed(fresh.since())
        fresh.close()
        table = standing_verdicts(Path(place) / "log.sqlite")
    check_verdicts(table, "the table")
    told = {
        (
            r["reviewer"].removesuffix(ADJUDICATOR),
            r["reviewer"].endswith(ADJUDICATOR),
            (r["anchor"], r["partner"]),
        ): r["verdict"]
        for r in table.to_pylist()
    }
    assert told == stands
    for ledger in (live, again):
        for name, seat in ledger.seats.items():
            assert len(seat.stack) == len(past[name])
            for number, pair in enumerate(PAIRS):
                assert seat.verdict[number] == CODE[stands.get((name, False, pair))]
                assert seat.ruling[number] == CODE[stands.get((name, True, pair))]
        for code, word in enumerate(("yes", "no", "unsure")):
            expected = [sum(stands.get((n, False, p)) == word for n in past) for p in PAIRS]
            assert ledger.said[code].tolist() == expected
    assert (live.ruling == again.ruling).all()


def test_an_event_says_who_when_from_and_to(log):
    log.append([verdict("Ann", ("a", "b"), "yes", reasons=("unclear",), note="hm")])
    second = log.append([verdict("Ann", ("a", "b"), "no")])[0]
    taken = undo(log, "Ann", second.id)
    assert (second.id, second.from_verdict, second.to_verdict, second.stands) == (2, "yes", "no", 2)
    assert (taken.kind, taken.from_verdict, taken.to_verdict, taken.undoes, taken.stands) == (
        "undo",
        "no",
        "yes",
        2,
        1,
    )
    assert second.at.endswith("+00:00") and second.manifest_hash == "set"
    row = standing_verdicts(log.path).to_pylist()
    assert [(r["verdict"], r["reasons"], r["note"]) for r in row] == [("yes", ["unclear"], "hm")]


def test_an_event_sent_twice_counts_once(log):
    event = verdict("Ann", ("a", "b"), "yes")
    first, again = log.append([event])[0], log.append([event])[0]
    assert first == again and log.last() == 1


def test_what_is_acknowledged_has_been_synced(log):
    assert log._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert log._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: each commit syncs the log


def test_rows_are_never_changed_or_deleted(log):
    log.append([verdict("Ann", ("a", "b"), "yes")])
    with sqlite3.connect(log.path) as other:
        for statement in ("DELETE FROM events", "UPDATE events SET to_verdict = 'no'"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                other.execute(statement)
        with pytest.raises(sqlite3.Error):
            other.execute("INSERT OR REPLACE INTO events SELECT * FROM events")
    other.close()


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE events SET to_verdict = 'no' WHERE id = 2",
        "DELETE FROM events WHERE id = 2",
        "DELETE FROM events WHERE id = 3",
        "UPDATE events SET reviewer = 'Bob' WHERE id = 3",
        "UPDATE events SET at = '2020-01-01' WHERE id = 1",
    ],
)
def test_a_log_edited_behind_its_back_is_refused(tmp_path, edit):
    path = tmp_path / "log.sqlite"
    log = EventLog(path, ["set"])
    log.append([verdict("Ann", pair, "yes") for pair in PAIRS])
    log.close()
    db = sqlite3.connect(path)
    db.executescript(f"DROP TRIGGER no_update; DROP TRIGGER no_delete; {edit};")
    db.close()
    for use in (lambda: EventLog(path, ["set"]), lambda: standing_verdicts(path)):
        with pytest.raises(UserError, match="was edited or cut short"):
            use()


def test_damaged_foreign_and_later_files_are_one_line(tmp_path, log):
    log.append([verdict("Ann", pair, "yes", note="x" * 1000) for pair in PAIRS])
    log.close()
    whole = log.path.read_bytes()
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"my notes, not a database" * 400)
    cut = tmp_path / "cut.sqlite"
    cut.write_bytes(whole[: len(whole) // 2])
    other = tmp_path / "other.sqlite"
    sqlite3.connect(other).executescript("CREATE TABLE notes (x)")
    later = tmp_path / "later.sqlite"
    shutil.copy(log.path, later)
    sqlite3.connect(later).executescript("PRAGMA user_version = 9")
    for path, rule in ((noise, "damaged"), (cut, "damaged"), (other, "no log of"), (later, "later version")):
        for use in (lambda p=path: EventLog(p, ["set"]), lambda p=path: standing_verdicts(p)):
            with pytest.raises(UserError, match=rule) as caught:
                use()
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="another set of pairs"):
        EventLog(log.path, ["else"])
    EventLog(log.path, ["new", "set"]).close()  # a set that was curated from that one


def test_a_full_disk_is_one_line_and_nothing_is_half_written(log):
    log.append([verdict("Ann", PAIRS[0], "yes")])
    pages = log._db.execute("PRAGMA page_count").fetchone()[0]
    log._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [verdict(f"R{i}", pair, "no", note="x" * 900) for i in range(20) for pair in PAIRS]
    with pytest.raises(UserError, match="disk is full"):
        log.append(many)
    assert log.last() == 1
    log._db.execute("PRAGMA max_page_count = 100000")
    assert log.append(many[:1])[0].id == 2
    assert standing_verdicts(log.path).num_rows == 2


def test_an_event_that_was_appended_outlives_kill_9(tmp_path):
    script = (
        "import os, sys, uuid\n"
        "from sempairs.curation.store import Event, EventLog\n"
        "log = EventLog(sys.argv[1], ['set'])\n"
        "for i in range(5):\n"
        "    log.append([Event(str(uuid.uuid4()), 'Ann', 'person', 'verdict', 'a', f'b{i}', 'yes')])\n"
        "    print(i, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "log.sqlite"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert done.returncode == -9 and done.stdout.split() == list("01234")
    # Without opening it for writing, and then with.
    assert standing_verdicts(path).num_rows == 5
    log = EventLog(path, ["set"])
    assert log.last() == 5
    log.close()


def test_two_processes_may_append(tmp_path):
    path = tmp_path / "log.sqlite"
    one, two = EventLog(path, ["set"]), EventLog(path, ["set"])
    ledger = Ledger(len(PAIRS), numbers)
    for log, name in ((one, "Ann"), (two, "Bob"), (one, "Ann")):
        log.append([verdict(name, PAIRS[0], "yes")])
    ledger.feed(one.since())
    assert one.last() == two.last() == 3 and ledger.said[0, 0] == 2
    one.close()
    two.close()
    EventLog(path, ["set"]).close()


def test_events_about_other_pairs_are_kept_and_not_counted(log):
    log.append([verdict("Ann", ("a", "b"), "yes"), verdict("Ann", ("x", "y"), "no")])
    ledger = Ledger(len(PAIRS), numbers)
    ledger.feed(log.since())
    assert ledger.outside == {("x", "y")} and ledger.progress()["judged"] == 1
    assert standing_verdicts(log.path).num_rows == 2


def test_no_log_is_an_empty_table(tmp_path):
    table = standing_verdicts(tmp_path)
    assert table.num_rows == 0 and table.schema == VERDICT_SCHEMA
    EventLog(tmp_path / "curation.sqlite", ["set"]).close()
    assert standing_verdicts(tmp_path).schema == VERDICT_SCHEMA
