"""Sets of mined pairs: saved, opened, described, trained on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sempairs.embeddings import Embeddings
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.stats import pair_stats, summary
from sempairs.pairs.table import PairSet, save_with_baselines


def config(table: str, **more: Any) -> PairsConfig:
    return PairsConfig(relation="neighbour", embeddings=table, **more)


#: Leaves about half of the images without a neighbour.
ALONE = {"alone": "pair_with_itself", "top_k": 1}


@pytest.mark.parametrize("mode", ["fixed", "redrawn"])
@pytest.mark.parametrize(
    "more",
    [
        {}, {"mixed": 0.5}, {"corrupted": 0.25}, {"count": 20}, {"per_class": 4}, ALONE,
        ALONE | {"mixed": 0.5}, ALONE | {"corrupted": 0.25}, ALONE | {"max_partners": 1},
    ],
)  # fmt: skip
def test_a_saved_set_trains_alike(groups_of_five: Any, mode: str, more: Any, tmp_path: Path) -> None:
    catalog, table = groups_of_five
    asked = config(table, mode=mode, **more)
    saved = save_with_baselines(tmp_path / "pairs", catalog, asked)
    opened = PairSet.open(tmp_path / "pairs")
    assert opened.manifest_hash == saved.manifest_hash
    assert opened.mining == saved.mining and opened.mining is not None
    arms = (
        "semantic",
        "augmented",
        *(("image_matched",) if mode == "fixed" and "corrupted" not in more else ()),
    )
    for arm in arms:
        direct = plan_pairs(catalog, asked.model_copy(update={"arm": arm}))
        again = plan_pairs(
            catalog, PairsConfig(relation="listed", file=str(tmp_path / "pairs"), mode=mode, arm=arm)
        )
        assert (direct.semantic_hash, direct.anchor_hash) == (again.semantic_hash, again.anchor_hash)
        assert direct.class_histogram() == again.class_histogram()
        np.testing.assert_array_equal(direct.meaning, again.meaning)
        assert again.selection.mining == opened.mining  # a run knows what its list was mined with
        for epoch in range(3):
            for one, other in zip(direct.epoch(epoch), again.epoch(epoch), strict=True):
                np.testing.assert_array_equal(one, other)
    assert (tmp_path / "pairs" / "augmented").exists() == (mode == "fixed")
    if mode == "fixed":
        assert PairSet.open(tmp_path / "pairs" / "image_matched").pairs_per_epoch == len(saved)


def test_a_fixed_set_may_be_redrawn_and_baselines_match(groups_of_five: Any, tmp_path: Path) -> None:
    catalog, table = groups_of_five
    save_with_baselines(tmp_path / "pairs", catalog, config(table))
    plan = plan_pairs(catalog, PairsConfig(relation="listed", file=str(tmp_path / "pairs"), mode="redrawn"))
    assert plan.n == 48  # of five images four are paired
    semantic, augmented = (PairSet.open(tmp_path / "pairs" / arm) for arm in ("", "augmented"))
    assert semantic.table.column("anchor").to_pylist() == augmented.table.column("anchor").to_pylist()


@pytest.mark.parametrize("mode", ["fixed", "redrawn"])
def test_images_without_a_neighbour_may_be_paired_with_themselves(
    groups_of_five: Any, mode: str, tmp_path: Path
) -> None:
    """The mined pairs stay as they are, every other image joins them; the baseline has the same anchors."""
    catalog, table = groups_of_five
    without, with_them = (
        plan_pairs(catalog, config(table, mode=mode, top_k=1, alone=alone))
        for alone in ("leave_out", "pair_with_itself")
    )
    few, every = without.epoch(3), with_them.epoch(3)
    own = every.anchor == every.partner
    shown = set(few.anchor) | set(few.partner)
    assert 0 < own.sum() < 60 and not (few.anchor == few.partner).any()
    assert set(every.anchor[own]) == set(range(60)) - shown
    assert set(every.anchor[~own]) == set(few.anchor)
    assert set(every.anchor) | set(every.partner) == set(range(60))
    if mode == "fixed":
        mined = set(zip(every.anchor[~own], every.partner[~own], strict=True))
        assert mined == set(zip(few.anchor, few.partner, strict=True))
    else:
        assert with_them.n == 60 and sorted(every.anchor) == list(range(60))
        # One mutual neighbour leaves nothing to draw.
        mined = {frozenset(pair) for pair in zip(every.anchor[~own], every.partner[~own], strict=True)}
        assert mined == {frozenset(pair) for pair in zip(few.anchor, few.partner, strict=True)}
    assert with_them.manifest_hash != without.manifest_hash
    augmented = plan_pairs(catalog, with_them.config.model_copy(update={"arm": "augmented"}))
    assert augmented.anchor_hash == with_them.anchor_hash and augmented.n == with_them.n
    assert augmented.semantic_hash == with_them.manifest_hash

    saved = PairSet.build(catalog, with_them.config)
    saved.save(tmp_path / "pairs")
    saved = PairSet.open(tmp_path / "pairs")  # which checks that pairs of one image say so
    names = Counter(saved.relation)
    assert set(names) == {"neighbour", "augmented"} and names["augmented"] == own.sum()
    assert saved.table.column("score").null_count == own.sum()
    stats = pair_stats(saved)
    assert stats.pairs_per_epoch == with_them.n and stats.images == 60
    assert stats.partners["most"] == 1  # one mutual neighbour, or itself
    assert stats.relations == {"neighbour": with_them.n - own.sum(), "augmented": own.sum()}
    assert stats.purity["concept"]["n"] == names["neighbour"]


def test_pairs_of_one_image_reach_the_method_as_such(groups_of_five: Any) -> None:
    """What `Views.distinct` is made of; with `max_partners` too, whose cut leaves more images alone."""
    catalog, table = groups_of_five
    asked = config(table, mode="redrawn", max_partners=1, alone="pair_with_itself")
    plan = plan_pairs(catalog, asked)
    first, second = plan.epoch(0), plan.epoch(1)
    assert plan.n == 60
    own = first.anchor == first.partner
    assert own.any() and not own.all()
    np.testing.assert_array_equal(own, second.anchor == second.partner)


def test_the_default_leaves_no_trace(groups_of_five: Any) -> None:
    catalog, table = groups_of_five
    pairs = PairSet.build(catalog, config(table))
    assert "alone" not in json.loads(pairs.table.column("params")[0].as_py())
    told = PairSet.build(catalog, config(table, alone="pair_with_itself"))
    assert json.loads(told.table.column("params")[0].as_py())["alone"] == "pair_with_itself"


def test_mixed_adds_mined_positives_to_augmented_ones(groups_of_five: Any) -> None:
    catalog, table = groups_of_five
    for mode in ("fixed", "redrawn"):
        plan = plan_pairs(catalog, config(table, mode=mode, mixed=0.5))
        own = [float((plan.epoch(e).anchor == plan.epoch(e).partner).mean()) for e in range(30)]
        assert 0.2 < np.mean(own) < 0.8
        assert (len(set(own)) > 1) == (mode == "redrawn")
    pairs = PairSet.build(catalog, config(table, mixed=0.5))
    names = Counter(pairs.relation)
    assert set(names) == {"neighbour", "augmented"} and sum(names.values()) == 24
    score = pairs.table.column("score")
    assert score.null_count == names["augmented"]


def test_what_was_mined_with_is_recorded(groups_of_five: Any, tmp_path: Path) -> None:
    catalog, table = groups_of_five
    pairs = save_with_baselines(tmp_path / "pairs", catalog, config(table, top_k=3, same_category=True))
    about = json.loads((tmp_path / "pairs" / "pairs.json").read_text())["mining"]
    assert about["embeddings"] == Embeddings.open(table).hash
    assert (about["encoder"], about["data"]) == ("e" * 64, "d" * 64)
    assert (about["label_used"], about["images"], about["copies"]) == ("category", 60, 0)
    assert about["searches"] == [
        {"index": "exact", "images": 60, "k": 3, "recall": 1.0, "queries": 0, "settings": {}}
    ]
    params = json.loads(pairs.table.column("params")[0].as_py())
    assert params == {
        "embeddings": about["embeddings"], "encoder": "e" * 64, "top_k": 3, "same_category": True
    }  # fmt: skip
    assert str(tmp_path) not in json.dumps(params)
    # The hash of the pairs is that of ids and relation alone.
    other = PairSet.build(catalog, config(table, top_k=3, same_category=True, index="ivf"))
    assert other.manifest_hash == pairs.manifest_hash


def test_runs_declare_the_encoder_that_mined_their_pairs(groups_of_five: Any) -> None:
    from sempairs.study.certificate import MEASURED, check_pair

    catalog, table = groups_of_five
    mining_facts = plan_pairs(catalog, config(table)).selection.mining
    assert plan_pairs(catalog, PairsConfig(relation="same_category")).selection.mining is None
    ours, theirs = {"pairs": {"mining": mining_facts, "n": 1}}, {"pairs": {"n": 1}}
    common: dict[str, Any] = {"contrast": "c", "method": "m", "seed": 0}
    undeclared = check_pair(ours, theirs, ["pairs.relation"], **common).undeclared
    assert "pairs.mining.encoder" in undeclared and "pairs.mining.embeddings" in undeclared
    assert not check_pair(ours, theirs, ["pairs.mining"], **common).undeclared
    assert "pairs.mining" in MEASURED


def test_purity_is_counted_against_labels(make: Any, embedded: Any, tmp_path: Path) -> None:
    catalog = make(
        "a b c d e f",
        category=["k", "k", "k", "m", "m", None],
        concept=["x", "x", None, None, "y", "y"],
        split=["train"] * 6,
    )
    vectors = np.array([[1, 0, 0], [1, 0.3, 0], [0, 1, 0], [0, 1, 0.3], [0, 0, 1], [0.3, 0, 1]])
    table = embedded(catalog, vectors, tmp_path / "e.parquet")
    save_with_baselines(tmp_path / "pairs", catalog, config(table, top_k=1))
    stats = pair_stats(PairSet.open(tmp_path / "pairs"))
    assert stats.purity == {"category": {"share": 0.5, "n": 2}, "concept": {"share": 1.0, "n": 2}}
    printed = dict(summary(stats))
    assert printed["purity by category"] == "50.0% of 2 pairs share it"
    assert printed["recall@1 of the search"] == "exact"
    assert printed["mined with"].startswith(f"encoder {'e' * 16}, embeddings ")
    assert not pair_stats(PairSet.open(tmp_path / "pairs" / "augmented")).purity
    assert not pair_stats(PairSet.build(catalog, PairsConfig(relation="same_category"))).purity


def test_the_command_builds_and_describes_mined_pairs(groups_of_five: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sempairs.cli.pairs import app

    catalog, table = groups_of_five
    catalog.save(tmp_path / "c.arrow")
    common = ["build", f"catalog:{tmp_path / 'c.arrow'}", "--relation", "neighbour", "--embeddings", table]
    options = ["--top-k", "3", "--min-similarity", "0.6", "--no-mutual", "--index", "exact"]
    result = CliRunner().invoke(app, [*common, *options, "--out", str(tmp_path / "one")])
    assert result.exit_code == 0, result.output
    assert "purity by concept" in result.stdout and "100.0% of 24 pairs share it" in result.stdout
    assert "recall@3 of the search" in result.stdout
    made = PairSet.open(tmp_path / "one").config
    assert (made.top_k, made.min_similarity, made.mutual, made.index) == (3, 0.6, False, "exact")
    options = ["--alone", "pair_with_itself"]
    result = CliRunner().invoke(app, [*common, *options, "--out", str(tmp_path / "all")])
    assert result.exit_code == 0, result.output
    assert PairSet.open(tmp_path / "all").pairs_per_epoch == 24 + 12  # of five images one is alone
    options = ["--mode", "redrawn", "--max-partners", "2", "--max-similarity", "0.99", "--same-category"]
    result = CliRunner().invoke(app, [*common, *options, "--out", str(tmp_path / "two")])
    assert result.exit_code == 0, result.output
    assert "label used in mining" in result.stdout
    again = CliRunner().invoke(app, ["stats", str(tmp_path / "two"), "--json"])
    assert json.loads(again.stdout)["partners"]["most"] == 2
