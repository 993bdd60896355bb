"""Results: an exact round trip, whole appends, and errors that name the line."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempairs.errors import UserError
from sempairs.evaluation.records import Result, append_results, read_results

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_json = st.recursive(st.none() | st.booleans() | st.integers() | _text, lambda x: st.lists(x, max_size=3))
results = st.builds(
    Result,
    run=_text,
    task=_text,
    protocol=_text,
    metric=_text,
    value=st.floats(0, 1),
    n=st.integers(1, 10**9),
    settings_hash=_text,
    selection=_text,
    primary=st.booleans(),
    extra=st.dictionaries(_text, _json, max_size=3),
)


def result(run: str = "run", value: float = 0.5) -> Result:
    return Result(run, "task", "linear-1", "accuracy", value, 10, "hash", "none", True, {"k": [1, None]})


@given(results)
def test_a_row_survives_its_line_unchanged(one: Result) -> None:
    line = one.to_json()
    assert "\n" not in line
    assert Result.from_json(line) == one


def test_appending_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    append_results(path, [result("a")])
    append_results(path, [result("b"), result("c")])
    assert [r.run for r in read_results(path)] == ["a", "b", "c"]


def test_a_line_cut_short_by_a_kill_is_no_row_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_results(path, [result("a")])
    whole = path.read_bytes()
    path.write_bytes(whole + result("lost").to_json().encode()[:40])
    assert [r.run for r in read_results(path)] == ["a"]
    append_results(path, [result("b")])
    assert path.read_bytes() == whole + result("b").to_json().encode() + b"\n"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    append_results(path, [result("a")])
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_results(path, [result("b")])
    assert path.read_bytes() == before


@pytest.mark.parametrize("room", [0, 1, 100, 5000])
def test_a_disk_that_fills_up_in_the_middle_of_a_row_keeps_none_of_it(tmp_path: Path, room: int) -> None:
    """The system's own limit on the size of files: it takes a part of what is written, then refuses."""
    path = tmp_path / "results.jsonl"
    append_results(path, [result("a")])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            append_results(path, [result("b" * 7000)])
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_writers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: append_results(path, [result(f"{i}"), result(f"{i}")]), range(40)))
    runs = [r.run for r in read_results(path)]
    assert sorted(runs) == sorted([str(i) for i in range(40)] * 2)
    assert runs[::2] == runs[1::2]  # each writer's rows stay together


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        (json.dumps(dataclasses.asdict(result()) | {"version": 99}), "schema version 1, got 99"),
        (json.dumps(dataclasses.asdict(result()) | {"more": 1}), "exactly the keys"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, rule: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(result().to_json() + "\n" + line + "\n")
    with pytest.raises(UserError, match=rule) as error:
        read_results(path)
    assert "line 2" in str(error.value)


def test_an_absent_or_binary_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_results(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(UserError, match="must be a text file"):
        read_results(tmp_path / "binary")


def test_a_number_that_is_none_is_a_programming_error() -> None:
    with pytest.raises(AssertionError):
        result(value=float("nan"))
