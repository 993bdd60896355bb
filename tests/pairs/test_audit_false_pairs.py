"""The false-pair rate: which verdicts count, and whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sempairs.catalog import Catalog
from sempairs.curation.decisions import decisions
from sempairs.pairs.audit import audit
from sempairs.pairs.audit.false_pairs import FalsePairs, false_pairs, standing_verdicts
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.sample import audit_sample
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import VERDICT_SCHEMA

Say = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def subject(drawings: Catalog) -> Subject:
    return Subject.of(PairSet.build(drawings, PairsConfig(relation="same_category")))


def _order(subject: Subject) -> list[tuple[str, str]]:
    return [subject.key(int(row)) for row in audit_sample(subject.pairs, 10_000)]


def _said(key: tuple[str, str], verdict: str, who: str = "ann", **other: str) -> dict[str, Any]:
    base = {
        "anchor": key[0], "partner": key[1], "verdict": verdict, "reviewer": who, "reviewer_kind": "person",
        "reasons": [], "note": "", "queue": "sample", "at": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    return base | other


def _rate(subject: Subject, rows: list[dict[str, Any]], size: int) -> FalsePairs:
    return false_pairs(subject, pa.Table.from_pylist(rows, VERDICT_SCHEMA), size)


def test_the_rate_is_that_of_the_sample_with_its_exact_interval(subject: Subject) -> None:
    order = _order(subject)
    answers = ["no", "yes", "yes", "unsure", "yes", "no", "yes", "yes"]
    rows = [_said(key, answer) for key, answer in zip(order, answers, strict=False)]
    rows += [_said(key, "no", queue="doubtful") for key in order[8:]]  # doubtful pairs: outside the sample
    found = _rate(subject, rows, 8)
    person = found.by["person"]
    assert (found.sample_size, person.reviewed, person.false, person.unsure) == (8, 8, 2, 1)
    exact = binomtest(2, 7).proportion_ci(0.95, "exact")
    assert (person.rate, person.low, person.high) == pytest.approx((2 / 7, exact.low, exact.high))
    strict = binomtest(3, 8).proportion_ci(0.95, "exact")
    assert person.strict_rate == 3 / 8
    assert (person.strict_low, person.strict_high) == pytest.approx((strict.low, strict.high))
    assert found.elsewhere == len(order) - 8 > 0 and found.unknown == 0


def test_behind_a_gap_nothing_counts(subject: Subject) -> None:
    order = _order(subject)
    rows = [_said(key, "no" if i > 3 else "yes") for i, key in enumerate(order[:8]) if i != 3]
    person = _rate(subject, rows, 8).by["person"]
    assert (person.reviewed, person.false, person.beyond) == (3, 0, 4)


def test_a_verdict_counts_wherever_it_was_given_if_the_pair_is_sampled(subject: Subject) -> None:
    order = _order(subject)
    person = _rate(subject, [_said(order[0], "no", queue="doubtful")], 5).by["person"]
    assert (person.reviewed, person.rate) == (1, 1.0)


def test_persons_models_and_rules_are_kept_apart(subject: Subject) -> None:
    order = _order(subject)
    rows = [_said(key, "yes") for key in order[:3]]
    rows += [_said(key, "no", "clip", reviewer_kind="model") for key in order[:6]]
    found = _rate(subject, rows, 6).by
    assert {kind: (r.reviewed, r.rate) for kind, r in found.items()} == {
        "person": (3, 0.0),
        "model": (6, 1.0),
    }


def test_no_verdict_no_rate(subject: Subject) -> None:
    assert false_pairs(subject, None, 5).by == {}
    unsure = _rate(subject, [_said(_order(subject)[0], "unsure")], 5).by["person"]
    assert (unsure.reviewed, unsure.rate, unsure.low, unsure.strict_rate) == (1, None, None, 1.0)


def test_verdicts_on_other_pairs_are_counted_and_left_out(subject: Subject) -> None:
    found = _rate(subject, [_said(("a", "b"), "no")], 5)
    assert (found.by, found.unknown) == ({}, 1)


KEY = ("a", "b")
CASES = {
    "majority": (["yes", "yes", "no"], "yes"),
    "unsure does not vote": (["no", "unsure", "unsure"], "no"),
    "a tie is open": (["yes", "no"], "unsure"),
    "nobody sure": (["unsure"], "unsure"),
}


@pytest.mark.parametrize(("answers", "stands"), CASES.values(), ids=CASES)
def test_what_stands(answers: list[str], stands: str) -> None:
    rows = [_said(KEY, answer, f"r{i}") for i, answer in enumerate(answers)]
    assert standing_verdicts(rows) == {KEY: stands}


@given(st.permutations(range(4)))
def test_the_latest_adjudication_stands_above_any_majority(order: list[int]) -> None:
    rows = [_said(KEY, "yes", "ann"), _said(KEY, "yes", "bob")]
    rows += [_said(KEY, "yes", "cid (adjudication)", queue="conflicts", at="2030-01-02T00:00:00Z")]
    rows += [_said(KEY, "no", "dan (adjudication)", queue="conflicts", at="2030-01-03T00:00:00Z")]
    assert standing_verdicts(rows[i] for i in order) == {KEY: "no"}


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["yes", "no", "unsure"]), st.booleans()),
        unique_by=lambda row: (row[0], row[2]), min_size=1,
    )
)  # fmt: skip
def test_what_stands_is_what_curation_decides(answers: list[tuple[str, str, bool]]) -> None:
    rows = [
        _said(KEY, verdict, who + (" (adjudication)" if ruled else ""), queue="conflicts" if ruled else "all",
              at=f"2030-01-0{i + 1}T00:00:00Z")
        for i, (who, verdict, ruled) in enumerate(answers)
    ]  # fmt: skip
    decided = decisions(pa.Table.from_pylist(rows, VERDICT_SCHEMA)).to_pylist()[0]["decision"]
    assert {"yes": "accepted", "no": "rejected", "unsure": "open"}[standing_verdicts(rows)[KEY]] == decided


def test_an_audit_refuses_a_table_of_something_else(drawings: Catalog) -> None:
    pairs = PairSet.build(drawings, PairsConfig(relation="same_category"))
    with pytest.raises(ValueError, match="verdicts must have the columns"):
        audit(pairs, verdicts=pa.table({"anchor": ["a"]}), pixels=False)
