"""How machines do on pairs whose truth is known, from a table to the card of a release."""

from __future__ import annotations

import pytest

from sempairs.curation.apply import apply_verdicts
from sempairs.curation.exchange import import_verdicts
from sempairs.curation.known_pairs import Known, machines_on, read_known
from sempairs.curation.store import standing_verdicts
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.pairs.sample import pair_key
from sempairs.pairs.table import PairSet


@pytest.fixture
def keys(folder):
    return pair_key(PairSet.open(folder))


@pytest.fixture
def screened(folder, keys, tmp_path):
    """A model says no to pairs 0 to 2, unsure to 3, yes to 4 and 5; a rule no to 6; Ann yes to 0."""
    said = {"clip": ["no", "no", "no", "unsure", "yes", "yes"]}
    for reviewer, kind, rows in (
        ("clip", "model", list(zip(keys, said["clip"], strict=False))),
        ("size", "rule", [(keys[6], "no")]),
        ("Ann", "person", [(keys[0], "yes")]),
    ):
        file = tmp_path / "verdicts.csv"
        file.write_text("anchor,partner,verdict\n" + "".join(f"{a},{b},{v}\n" for (a, b), v in rows))
        import_verdicts(folder, file, reviewer=reviewer, kind=kind)
    return folder


def write(path, rows, header="anchor,partner,truth"):
    path.write_text(header + "\n" + "".join(",".join(row) + "\n" for row in rows))
    return path


def test_counts_by_kind_and_sort_of_pair(screened, keys, tmp_path):
    # Directions do not matter; pair 7 was judged by nobody, and the last is in no set.
    rows = [
        (*keys[0], "no", "planted", "", ""), (*keys[1][::-1], "yes", "planted", "", ""),
        (*keys[3], "no", "planted", "", ""), (*keys[4], "yes", "planted", "", ""),
        (*keys[6], "no", "small", "", ""), (*keys[7], "no", "small", "", ""),
        ("x", "y", "no", "small", "no", "model"), ("x", "z", "yes", "small", "unsure", "rule"),
    ]  # fmt: skip
    file = write(tmp_path / "known.csv", rows, "anchor,partner,truth,what,verdict,reviewer_kind")
    found = machines_on(read_known(file), standing_verdicts(screened))
    names = ("what", "false_pairs", "false_found", "true_pairs", "true_kept")
    assert {kind: [tuple(one[name] for name in names) for one in ones] for kind, ones in found.items()} == {
        "model": [("planted", 2, 1, 2, 1), ("small", 1, 1, 0, 0)],
        "rule": [("small", 1, 1, 1, 1)],
    }


def test_apply_records_it_and_says_it(screened, keys, tmp_path, sempairs):
    file = write(tmp_path / "known.csv", [(*keys[1], "no"), (*keys[4], "yes"), (*keys[5], "no")])
    status, out, errors = sempairs("verdicts", "apply", screened, "--out", tmp_path / "new", "--known", file)
    assert (status, errors) == (0, [])
    assert "model on pairs of known truth: 1 of 2 false found, 1 of 1 true kept" in out
    record = read_json(tmp_path / "new" / "curation.json")
    assert record["known"] == {
        "model": [
            {
                "what": "pairs of known truth", "false_pairs": 2, "false_found": 1, "true_pairs": 1,
                "true_kept": 1,
            }
        ]
    }  # fmt: skip
    assert record["verdicts"]["by_kind"] == {"model": 6, "person": 1, "rule": 1}


def test_no_machine_judged_any(screened, keys, tmp_path):
    known = [Known(keys[9], True, "a", None)]
    with pytest.raises(UserError, match="--known names no pair that a model or a rule judged"):
        apply_verdicts(screened, tmp_path / "new", known=known)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,b,true,,,", "row 1 truth must be yes or no, got 'true'"),
        ("a,a,yes,,,", "row 1 anchor and partner must be two image ids"),
        (",b,yes,,,", "row 1 anchor and partner must be two image ids"),
        ("a,b,yes,,maybe,", "row 1 verdict must be one of yes, no, unsure, got 'maybe'"),
        ("a,b,yes,,yes,person", "row 1 reviewer_kind must be one of model, rule, got 'person'"),
        ("a,b,yes,,,\nb,a,no,,,", "row 2 names a pair for the second time"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, said):
    file = tmp_path / "known.csv"
    file.write_text(f"anchor,partner,truth,what,verdict,reviewer_kind\n{row}\n")
    with pytest.raises(UserError) as caught:
        read_known(file)
    assert said in str(caught.value)


def test_a_table_without_truth(tmp_path):
    file = write(tmp_path / "known.csv", [("a", "b")], "anchor,partner")
    with pytest.raises(UserError, match="row 1 must have anchor, partner and truth"):
        read_known(file)
