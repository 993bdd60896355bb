"""Numbers of small sets, worked out by hand."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from sempairs.catalog import Catalog
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.stats import pair_stats, summary
from sempairs.pairs.table import PairSet, save_with_baselines


def test_a_list_of_four_pairs(make: Any, tmp_path: Path) -> None:
    catalog = make(
        "a b c d e f unused",
        category=["k", "k", "k", "k", "m", "m", "m"],
        domain=["x", "y", "x", "x", "y", None, "z"],
    )
    file = tmp_path / "list.csv"
    file.write_text("anchor,partner\na,b\na,c\na,d\ne,f\n")
    stats = pair_stats(PairSet.build(catalog, PairsConfig(relation="listed", file=str(file))), batch_size=3)
    assert (stats.pairs_per_epoch, stats.images, stats.catalog_images, stats.meanings) == (4, 6, 7, 2)
    assert stats.relations == {"listed": 4}
    assert stats.classes == {"k": 3, "m": 1}
    assert stats.multiplicity == {1: 5, 3: 1}
    assert stats.domain_pairs == {"x – x": 2, "x – y": 1, "unknown – y": 1}
    assert stats.class_balance["least"] == 1 and stats.class_balance["most"] == 3
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert stats.class_balance["evenness"] == pytest.approx(entropy / math.log(2))
    # Batches of three of the four pairs, all equally likely; each shared meaning is two negatives.
    meanings = "kkkm"
    same = [
        2 * sum(meanings[j] == meanings[i] for j in batch if j != i)
        for batch in combinations(range(4), 3)
        for i in batch
    ]
    assert stats.same_meaning == pytest.approx(sum(same) / len(same))
    assert stats.negatives == 4


def test_a_pool(drawings: Catalog) -> None:
    stats = pair_stats(
        PairSet.build(drawings, PairsConfig(relation="cross_domain", mode="redrawn")), batch_size=36
    )
    assert stats.pairs_per_epoch == stats.images == 36
    assert stats.multiplicity == {2: 36}
    assert sum(stats.domain_pairs.values()) == 36
    assert set(stats.domain_pairs) == {"a – b", "a – c", "b – c"}
    # The whole pool: two other anchors of one's concept, each two negatives.
    assert stats.same_meaning == pytest.approx(4)
    assert stats.class_balance["evenness"] == pytest.approx(1)


def test_modified_sets_count_by_relation(drawings: Catalog) -> None:
    stats = pair_stats(PairSet.build(drawings, PairsConfig(relation="cross_domain", corrupted=0.25)))
    assert stats.relations == {"corrupted": 3, "cross_domain": 9}
    pool = PairsConfig(relation="cross_domain", mode="redrawn", corrupted=0.25)
    assert pair_stats(PairSet.build(drawings, pool)).relations == {"corrupted": 9, "cross_domain": 27}


def test_baselines(drawings: Catalog, tmp_path: Path) -> None:
    save_with_baselines(tmp_path / "pairs", drawings, PairsConfig(relation="cross_domain"))
    stats = pair_stats(PairSet.open(tmp_path / "pairs" / "image_matched"))
    assert (stats.arm, stats.pairs_per_epoch, stats.images) == ("image_matched", 12, 24)
    assert stats.relations == {"augmented": 24}
    assert set(stats.domain_pairs) <= {"a – a", "b – b", "c – c"}


def test_the_table_is_compact_and_complete(drawings: Catalog) -> None:
    stats = pair_stats(PairSet.build(drawings, PairsConfig(relation="cross_domain")))
    rows = dict(summary(stats))
    assert rows["images covered"] == "24 of 36 (66.7%)"
    assert rows["classes"] == "6: 2 pairs each, evenness 1.000"
    assert rows["partners an image"] == "1"
    assert len(rows) <= 14


def test_many_domain_pairs_are_summed_up(make: Any) -> None:
    names = [f"{i:02d}" for i in range(40)]
    catalog = make(names, concept=["c"] * 40, domain=[f"d{i}" for i in range(40)])
    stats = pair_stats(PairSet.build(catalog, PairsConfig(relation="cross_domain")))
    assert ("domain: 10 further", "10") in summary(stats)


def test_a_batch_needs_two_pairs(drawings: Catalog) -> None:
    with pytest.raises(UserError, match="--batch-size must be at least 2, got 1"):
        pair_stats(PairSet.build(drawings, PairsConfig(relation="cross_domain")), batch_size=1)
