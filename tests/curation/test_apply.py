"""Verdicts flow back into a set of pairs."""

from __future__ import annotations

import json
import shutil
import uuid

import numpy as np
import pytest

from sempairs.catalog import Catalog
from sempairs.curation.api import CurationApi
from sempairs.curation.apply import apply_verdicts
from sempairs.curation.decisions import decisions
from sempairs.curation.store import LOG, Event, EventLog, standing_verdicts
from sempairs.errors import UserError
from sempairs.files import read_json, sha256_file
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.sample import audit_sample, pair_key
from sempairs.pairs.table import PairSet, save_with_baselines
from sempairs.pairs.verdicts import read_verdicts


def judge(folder, verdicts, reviewer="Ann", kind="person"):
    """verdicts: (pair, verdict) each."""
    log = EventLog(folder / LOG, [PairSet.open(folder).manifest_hash])
    log.append(
        [
            Event(str(uuid.uuid4()), reviewer, kind, "import", *pair, verdict, queue="all")
            for pair, verdict in verdicts
        ]
    )
    log.close()


@pytest.fixture
def keys(folder):
    return pair_key(PairSet.open(folder))


def test_rejected_pairs_leave_and_baselines_match(folder, keys, tmp_path):
    judge(folder, [(keys[0], "no"), (keys[3], "yes"), (keys[5], "unsure"), (keys[7], "no")])
    judge(folder, [(keys[1], "no"), (keys[0], "yes")], "clip", "model")
    before, out = PairSet.open(folder), tmp_path / "new"
    done = apply_verdicts(folder, out)
    after = PairSet.open(out)
    gone = {keys[0], keys[7], keys[1]}
    assert set(pair_key(after)) == set(keys) - gone and len(after) == done.pairs.pairs_per_epoch == 9
    assert (done.before, done.rejected, done.dropped_open, done.outside) == (12, 3, 0, 0)
    assert after.config == before.config and set(after.relation) == {"same_category"}
    assert (after.catalog_hash, after.catalog_images) == (before.catalog_hash, before.catalog_images)
    for arm in ("augmented", "image_matched"):
        baseline = PairSet.open(out / arm)
        assert baseline.pairs_per_epoch == 9 and baseline.config.arm == arm
        images = set(baseline.table.column("anchor").to_pylist())
        assert images <= set(after.catalog.table.column("image_id").to_pylist())
    assert len(PairSet.open(out / "image_matched")) == 18
    # The very rows that stayed, direction and all, and never the folder they came from.
    old = {(r["anchor"], r["partner"]) for r in before.table.to_pylist()}
    assert {(r["anchor"], r["partner"]) for r in after.table.to_pylist()} <= old
    assert len(PairSet.open(folder)) == 12


def test_the_record_says_what_was_applied(folder, keys, tmp_path):
    judge(folder, [(keys[0], "no"), (keys[1], "yes")])
    judge(folder, [(keys[1], "yes"), (keys[2], "no")], "Bob")
    judge(folder, [(keys[4], "yes"), (keys[5], "no")], "clip", "model")
    out = tmp_path / "new"
    apply_verdicts(folder, out)
    record = read_json(out / "curation.json")
    assert record["pairs"] == {
        "before": 12,
        "kept": 9,
        "rejected": 3,
        "dropped_open": 0,
        "verdicts_outside": 0,
    }
    assert record["decisions"] == {
        "accepted": {"persons": 1, "adjudicated": 0, "machine": 1},
        "rejected": {"persons": 2, "adjudicated": 0, "machine": 1},
        "open": {"persons": 0, "adjudicated": 0, "machine": 0, "unjudged": 7},
    }
    assert record["verdicts"]["by_kind"] == {"model": 2, "person": 4}
    assert record["verdicts"]["reviewers"] == {"model": 1, "person": 2}
    assert record["verdicts"]["sha256"] == sha256_file(out / "verdicts.parquet")
    assert read_verdicts(out / "verdicts.parquet").equals(standing_verdicts(folder))
    assert record["agreement"]["pairs"] == 1 and record["open"] == "keep"
    assert record["from"] == [PairSet.open(folder).manifest_hash]
    assert record["manifest_hash"] == PairSet.open(out).manifest_hash
    again = tmp_path / "again"
    apply_verdicts(folder, again)
    for file in sorted(file.relative_to(out) for file in out.rglob("*") if file.is_file()):
        assert (out / file).read_bytes() == (again / file).read_bytes(), file


def test_open_pairs_are_dropped_on_demand_and_machines_passed_over(folder, keys, tmp_path):
    judge(folder, [(keys[0], "no"), (keys[1], "yes"), (keys[2], "unsure")])
    judge(folder, [(keys[4], "yes"), (keys[5], "no")], "clip", "model")
    done = apply_verdicts(folder, tmp_path / "one", keep_open=False)
    assert set(pair_key(done.pairs)) == {keys[1], keys[4]} and (done.rejected, done.dropped_open) == (2, 8)
    done = apply_verdicts(folder, tmp_path / "two", keep_open=False, persons_only=True)
    assert set(pair_key(done.pairs)) == {keys[1]} and (done.rejected, done.dropped_open) == (1, 10)
    done = apply_verdicts(folder, tmp_path / "three", persons_only=True)
    assert set(pair_key(done.pairs)) == set(keys) - {keys[0]}


def test_the_curated_set_trains_as_listed_with_its_matched_arms(folder, keys, tmp_path):
    judge(folder, [(keys[0], "no"), (keys[9], "no")])
    out = tmp_path / "new"
    curated = apply_verdicts(folder, out).pairs
    catalog = PairSet.open(folder).catalog
    config = PairsConfig(relation="listed", file=str(out))
    plan = plan_pairs(catalog, config)
    assert plan.manifest_hash == curated.manifest_hash
    first = plan.epoch(0)
    ids = catalog.column("image_id")
    shown = {tuple(sorted((ids[a], ids[b]))) for a, b in zip(first.anchor, first.partner, strict=True)}
    assert shown == set(keys) - {keys[0], keys[9]}
    arm = plan_pairs(catalog, config.model_copy(update={"arm": "augmented"})).epoch(0)
    assert (arm.anchor == first.anchor).all() and (arm.partner == arm.anchor).all()


def test_a_curated_set_is_judged_on_with_its_own_log(folder, keys, tmp_path):
    judge(folder, [(keys[0], "no"), (keys[1], "yes")])
    out = tmp_path / "new"
    apply_verdicts(folder, out)
    # The earlier log may be laid beside it: what left the set is kept, not counted, and said.
    shutil.copy(folder / LOG, out / LOG)
    direct = CurationApi(out)
    assert direct.ledger.outside == {keys[0]} and direct.ledger.progress()["judged"] == 1
    assert "1 pairs that left the set" in " ".join(direct.state("Ann")["hints"])
    direct.close()
    judge_again = apply_verdicts(out, tmp_path / "third", keep_open=False)
    assert set(pair_key(judge_again.pairs)) == {keys[1]} and judge_again.outside == 1
    record = read_json(tmp_path / "third" / "curation.json")
    assert record["from"] == [PairSet.open(out).manifest_hash, PairSet.open(folder).manifest_hash]
    # A set it has nothing to do with does not take the log.
    stranger = shutil.copytree(out, tmp_path / "stranger")
    (stranger / "curation.json").unlink()
    with pytest.raises(UserError, match="another set of pairs"):
        CurationApi(stranger)
    (stranger / "curation.json").write_text("[]")
    with pytest.raises(UserError, match="is not what `sempairs verdicts apply` writes"):
        CurationApi(stranger)


def test_what_cannot_be_applied_is_one_line(folder, keys, tmp_path):
    out = tmp_path / "new"
    with pytest.raises(UserError, match="has no verdict about a pair of the set"):
        apply_verdicts(folder, out)
    judge(folder, [(key, "no") for key in keys])
    with pytest.raises(UserError, match="would have no pair left"):
        apply_verdicts(folder, out)
    with pytest.raises(UserError, match="not a baseline"):
        apply_verdicts(folder / "augmented", out)
    assert not out.exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes").write_text("mine")
    judge(folder, [(keys[0], "yes")])
    with pytest.raises(UserError, match="new or empty folder"):
        apply_verdicts(folder, tmp_path / "used")
    assert [file.name for file in (tmp_path / "used").iterdir()] == ["notes"]


def test_pools_lists_and_modified_sets(folder, tmp_path):
    catalog = Catalog.from_columns(
        {
            "image_id": [f"i{i}" for i in range(8)],
            "file_hash": [f"f{i}" for i in range(8)],
            "uri": [f"i{i}" for i in range(8)],
            "width": [8] * 8,
            "height": [8] * 8,
            "source": ["folder:here"] * 8,
            "category": ["cat"] * 4 + ["dog"] * 4,
            "split": ["train"] * 8,
        }
    )
    pool = tmp_path / "pool"
    save_with_baselines(pool, catalog, PairsConfig(relation="same_category", mode="redrawn"))
    key = pair_key(PairSet.open(pool))[0]
    judge(pool, [(key, "no")])
    direct = CurationApi(pool)  # a draw of it can be judged all the same, the one that audits look at
    page = direct.page("sample", "Bob", after=None, limit=20)
    shown = [(pair["anchor"]["id"], pair["partner"]["id"]) for pair in page["pairs"]]
    keys = pair_key(PairSet.open(pool))
    assert shown == [keys[row] for row in audit_sample(PairSet.open(pool), 400)] and set(shown) == set(keys)
    direct.close()
    with pytest.raises(UserError, match=r"is a pool.*no pair to take out.*--mode fixed"):
        apply_verdicts(pool, tmp_path / "new")
    mixed = tmp_path / "mixed"
    save_with_baselines(mixed, catalog, PairsConfig(relation="same_category", mixed=0.7))
    judge(mixed, [(key, "no") for key in pair_key(PairSet.open(mixed)) if key[0] != key[1]])
    with pytest.raises(UserError, match="has modified pairs"):
        apply_verdicts(mixed, tmp_path / "new")
    # A redrawn list has pairs: a rejected one is an edge no more; images stay where they have others.
    listing = tmp_path / "list.csv"
    listing.write_text("anchor,partner,score\ni0,i1,.5\ni1,i2,.4\ni4,i5,.3\n")
    redrawn = tmp_path / "redrawn"
    save_with_baselines(redrawn, catalog, PairsConfig(relation="listed", file=str(listing), mode="redrawn"))
    judge(redrawn, [(("i0", "i1"), "no")])
    done = apply_verdicts(redrawn, tmp_path / "new")
    assert set(pair_key(done.pairs)) == {("i1", "i2"), ("i4", "i5")} and len(done.pairs.catalog) == 4
    assert PairSet.open(tmp_path / "new").manifest_hash == done.pairs.manifest_hash
    # Scores stay with their pairs.
    fixed = tmp_path / "fixed"
    save_with_baselines(fixed, catalog, PairsConfig(relation="listed", file=str(listing)))
    judge(fixed, [(("i1", "i2"), "no")])
    after = apply_verdicts(fixed, tmp_path / "scored").pairs
    assert np.allclose(after.table.column("score").to_numpy(), [0.5, 0.3])


def test_the_command_line_says_what_it_did(folder, keys, sempairs, tmp_path):
    judge(folder, [(keys[0], "no"), (keys[1], "yes")])
    status, out, _ = sempairs("verdicts", "apply", folder, "--out", tmp_path / "new")
    assert status == 0 and out.splitlines() == [
        "accepted  1: 1 persons", "rejected  1: 1 persons", "open      10: 10 unjudged",
        f"{tmp_path / 'new'}: 11 of 12 pairs; 1 rejected, 10 open kept",
    ]  # fmt: skip
    out = sempairs("verdicts", "apply", folder, "--out", tmp_path / "two", "--open", "drop")[1]
    assert out.splitlines()[-1] == f"{tmp_path / 'two'}: 1 of 12 pairs; 1 rejected, 10 open dropped"
    status, _, errors = sempairs("verdicts", "apply", folder, "--out", tmp_path / "3", "--open", "maybe")
    assert status == 2 and "--open must be keep or drop" in errors[0]
    table = decisions(standing_verdicts(folder))
    assert json.dumps(table.column("decision").to_pylist()) == '["rejected", "accepted"]'
