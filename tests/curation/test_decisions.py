"""The one policy, and agreement from a table."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from sempairs.curation.decisions import agreement, decisions
from sempairs.curation.store import ADJUDICATIONS, ADJUDICATOR
from sempairs.pairs.verdicts import VERDICT_SCHEMA

WORDS = ("yes", "no", "unsure")


def table(rows):
    """Rows of (pair, reviewer, kind, verdict, queue)."""
    full = [
        {
            "anchor": f"a{pair}",
            "partner": f"b{pair}",
            "verdict": verdict,
            "reviewer": reviewer,
            "reviewer_kind": kind,
            "reasons": [],
            "note": "",
            "queue": queue,
            "at": f"2026-01-01T00:00:{at:02d}+00:00",
        }
        for at, (pair, reviewer, kind, verdict, queue) in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=VERDICT_SCHEMA)


@pytest.mark.parametrize(
    ("persons", "machines", "ruling", "expected"),
    [
        ("yes", "", "", ("accepted", "persons")),
        ("no", "yes yes", "", ("rejected", "persons")),
        ("yes no", "yes", "", ("open", "persons")),
        ("yes no no", "", "", ("rejected", "persons")),
        ("yes unsure unsure", "", "", ("accepted", "persons")),
        ("unsure", "no", "", ("open", "persons")),
        ("", "no", "", ("rejected", "machine")),
        ("", "yes no", "", ("open", "machine")),
        ("", "unsure", "", ("open", "machine")),
        ("yes no", "", "no", ("rejected", "adjudicated")),
        ("yes yes no", "yes", "no", ("rejected", "adjudicated")),
        ("yes no", "", "unsure", ("open", "adjudicated")),
        ("yes no", "", "yes no", ("rejected", "adjudicated")),  # the latest
    ],
)
def test_the_policy(persons, machines, ruling, expected):
    rows = [(1, f"p{i}", "person", verdict, "all") for i, verdict in enumerate(persons.split())]
    rows += [
        (1, f"m{i}", ("model", "rule")[i % 2], verdict, "import")
        for i, verdict in enumerate(machines.split())
    ]
    rows += [
        (1, f"p{i}{ADJUDICATOR}", "person", verdict, "conflicts") for i, verdict in enumerate(ruling.split())
    ]
    (found,) = decisions(table(rows)).to_pylist()
    assert (found["anchor"], found["partner"], found["decision"], found["by"]) == ("a1", "b1", *expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("AB"), st.sampled_from(WORDS)), max_size=20))
def test_no_person_that_judged_is_overruled_by_machines(votes):
    judged = {(pair, name): verdict for pair, name, verdict in votes}
    rows = [(pair, name, "person", verdict, "all") for (pair, name), verdict in judged.items()]
    rows += [(pair, "clip", "model", "no", "import") for pair in range(5)]
    found = {row["anchor"]: row for row in decisions(table(rows)).to_pylist()}
    assert len(found) == 5 and found["a4"]["decision"] == "rejected"
    for pair in range(4):
        words = [verdict for (p, _), verdict in judged.items() if p == pair]
        lead = words.count("yes") - words.count("no")
        expected = ("open", "accepted", "rejected")[(lead > 0) - (lead < 0)] if words else "rejected"
        assert found[f"a{pair}"]["decision"] == expected
        assert found[f"a{pair}"]["by"] == ("persons" if words else "machine")


def test_nothing_decided_is_an_empty_table():
    assert decisions(table([])).num_rows == 0
    assert agreement(table([])) == {"pairs": 0, "percent": None, "cohen": [], "fleiss": None}


def test_agreement_is_that_of_persons_own_verdicts():
    ann, bob = ["yes", "yes", "no", "no", "unsure"], ["yes", "no", "no", "yes", "unsure"]
    rows = [(i, "Ann", "person", verdict, "all") for i, verdict in enumerate(ann)]
    rows += [(i, "Bob", "person", verdict, "by:Ann") for i, verdict in enumerate(bob)]
    rows += [(1, f"Ann{ADJUDICATOR}", "person", "no", "conflicts")]
    rows += [(i, "clip", "model", "no", "import") for i in range(5)] + [(9, "Eve", "person", "no", "all")]
    found = agreement(table(rows))
    kappa = pytest.approx(cohen_kappa_score(ann, bob))
    assert found["pairs"] == 5 and found["percent"] == pytest.approx(0.6)
    assert found["cohen"] == [{"a": "Ann", "b": "Bob", "pairs": 5, "percent": 0.6, "kappa": kappa}]
    assert found["fleiss"]["pairs"] == 5 and found["fleiss"]["raters"] == 2


def test_kappa_is_none_where_all_say_one_thing():
    rows = [(i, name, "person", "yes", "all") for i in range(3) for name in ("Ann", "Bob", "Eve")]
    found = agreement(table(rows))
    assert found["percent"] == 1 and found["fleiss"] == {"pairs": 3, "raters": 3, "kappa": None}
    assert [one["kappa"] for one in found["cohen"]] == [None] * 3


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["yes", "no", "unsure"]), st.booleans(), st.integers(0, 9)
        ),
        max_size=12,
    )
)
def test_an_audit_and_a_curated_set_decide_alike(given_rows):
    from sempairs.pairs.audit.false_pairs import standing_verdicts as of_audit

    rows = [
        {
            "anchor": f"a{pair}", "partner": f"b{pair}", "verdict": verdict, "reviewer": f"r{i}",
            "reviewer_kind": "person", "reasons": [], "note": "", "at": f"2026-01-0{at}",
            "queue": ADJUDICATIONS if ruling else "all",
        }
        for i, (pair, verdict, ruling, at) in enumerate(given_rows)
    ]  # fmt: skip
    said = {"yes": "accepted", "no": "rejected", "unsure": "open"}
    decided = decisions(pa.Table.from_pylist(rows, VERDICT_SCHEMA)).to_pylist()
    assert {(r["anchor"], r["partner"]): r["decision"] for r in decided} == {
        pair: said[verdict] for pair, verdict in of_audit(rows).items()
    }
