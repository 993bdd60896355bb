"""Pairs mined from embeddings: against a definition in plain Python, and through files and back."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.embeddings import Embeddings
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.relations import neighbour as mining
from sempairs.pairs.relations.neighbour import mined
from sempairs.pairs.table import PairSet

several = settings(max_examples=60, deadline=None)


def catalog_of(rows: list[dict[str, Any]]) -> Catalog:
    base = {"uri": "u", "width": 1, "height": 1, "source": "s"}
    return Catalog.from_columns({name: [(base | row)[name] for row in rows] for name in base | rows[0]})


@st.composite
def worlds(draw: Any) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Images around a few centres, with copies of files and near-duplicates among them."""
    n = draw(st.integers(2, 24))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    centres = rng.normal(size=(4, 3))
    vectors = centres[rng.integers(4, size=n)] + 0.4 * rng.normal(size=(n, 3))
    splits, kinds = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rows = []
    for i in range(n):
        original = int(rng.integers(i)) if i and rng.random() < 0.3 else i
        copy = original != i and rng.random() < 0.5
        if original != i:  # a copy of the file, or almost the same picture
            vectors[i] = vectors[original] + (0 if copy else 0.01) * rng.normal(size=3)
        rows.append(
            {
                "image_id": f"{rng.integers(10**6):06d}{i}",
                "file_hash": rows[original]["file_hash"] if copy else f"f{i}",
                "category": f"k{rng.integers(kinds)}" if rng.random() < 0.8 else None,
                "split": ["train", "test", None][int(rng.integers(splits))],
            }
        )
    return rows, vectors


configs = st.fixed_dictionaries(
    {
        "top_k": st.integers(1, 6),
        "min_similarity": st.sampled_from([-1.0, 0.0, 0.7]),
        "max_similarity": st.sampled_from([0.9, 0.995, 1.0]),
        "mutual": st.booleans(),
        "same_category": st.sampled_from([None, True, False]),
        "seed": st.integers(0, 2),
    }
)


def reference(rows: list[dict[str, Any]], vectors: np.ndarray, config: dict[str, Any]) -> dict[Any, float]:
    """Pairs of ids and their cosines, from the words of the documentation."""
    unit = np.asarray(vectors, dtype=np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = np.minimum(unit.astype(float) @ unit.T.astype(float), 1)
    first: dict[Any, int] = {}
    for i in sorted(range(len(rows)), key=lambda i: rows[i]["image_id"]):
        first.setdefault((rows[i]["split"], rows[i]["file_hash"]), i)
    nearest = {}
    for i in first.values():
        others = [j for j in first.values() if j != i and rows[j]["split"] == rows[i]["split"]]
        others = [j for j in others if cosine[i, j] <= config["max_similarity"]]
        nearest[i] = sorted(others, key=lambda j: -cosine[i, j])[: config["top_k"]]
    found = {}
    for i, listed in nearest.items():
        for j in listed:
            if cosine[i, j] < config["min_similarity"] or (config["mutual"] and i not in nearest[j]):
                continue
            one, other = rows[i]["category"], rows[j]["category"]
            unfit = None in (one, other) or (one == other) != config["same_category"]
            if config["same_category"] is not None and unfit:
                continue
            a, b = sorted((rows[i]["image_id"], rows[j]["image_id"]))
            found[a, b] = float(cosine[i, j])
    return found


def close_calls(rows: list[dict[str, Any]], vectors: np.ndarray, config: dict[str, Any]) -> bool:
    """Whether a limit or a tie is so near that rounding decides."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = [(row["split"], row["file_hash"]) for row in rows]
    at = sorted({key: i for i, key in enumerate(keys)}.values())
    values = (unit @ unit.T)[np.ix_(at, at)][np.triu_indices(len(at), 1)]
    limits = [config["min_similarity"], config["max_similarity"]]
    return bool((np.diff(np.sort(np.concatenate([values, limits]))) < 2e-6).any())


@several
@given(worlds(), configs)
def test_the_mined_pairs_are_those_of_the_definition(
    embedded: Any, world: Any, config: dict[str, Any]
) -> None:
    rows, vectors = world
    assume(not close_calls(rows, vectors, config))
    assume(config["same_category"] is None or any(row["category"] for row in rows))
    expected = reference(rows, vectors, config)
    with tempfile.TemporaryDirectory() as place:
        catalog = catalog_of(rows)
        table = embedded(catalog, vectors, Path(place) / "e.parquet")
        full = PairsConfig(relation="neighbour", embeddings=table, **config)
        index = ImageIndex(catalog)
        edges, about = mined(index, full)
        found = zip(edges.left, edges.right, edges.cosine, strict=True)
        got = {(index.ids[a], index.ids[b]): float(c) for a, b, c in found}
        assert got == pytest.approx(expected)
        assert about["label_used"] == (None if config["same_category"] is None else "category")
        if not expected:
            with pytest.raises(UserError, match=r"pairs.relation neighbour finds no pair"):
                PairSet.build(catalog, full)
            return
        # Fixed: the best pair, then the best of the images left, and so on.
        pairs = PairSet.build(catalog, full)
        taken: set[str] = set()
        greedy = {}
        for pair, score in sorted(expected.items(), key=lambda item: -item[1]):
            if not taken & set(pair):
                greedy[pair] = score
                taken |= set(pair)
        columns = (pairs.table.column(name).to_pylist() for name in ("anchor", "partner", "score"))
        assert {tuple(sorted((a, b))): s for a, b, s in zip(*columns, strict=True)} == pytest.approx(greedy)
        # Redrawn: each image with all it is a neighbour of.
        pool = plan_pairs(catalog, full.model_copy(update={"mode": "redrawn"}))
        degree = Counter(name for pair in expected for name in pair)
        assert pool.n == len(degree)
        names = catalog.column("image_id")
        for epoch in range(3):
            drawn = pool.epoch(epoch)
            for a, b in zip(names[drawn.anchor], names[drawn.partner], strict=True):
                assert tuple(sorted((a, b))) in expected


@several
@given(worlds(), configs, st.sampled_from(["fixed", "redrawn"]), st.randoms(use_true_random=False), st.data())
def test_the_order_of_rows_decides_nothing(
    embedded: Any, world: Any, config: Any, mode: str, random: Any, data: Any
) -> None:
    rows, vectors = world
    limits = {
        "count": data.draw(st.none() | st.integers(2, 8)),
        "per_class": data.draw(st.none() | st.integers(2, 4)),
        "max_partners": data.draw(st.none() | st.integers(1, 3)),
    }
    with tempfile.TemporaryDirectory() as place:
        table = embedded(catalog_of(rows), vectors, Path(place) / "e.parquet")
        order = list(range(len(rows)))
        random.shuffle(order)
        turned = embedded(catalog_of([rows[i] for i in order]), vectors[order], Path(place) / "t.parquet")
        assert Embeddings.open(table).hash == Embeddings.open(turned).hash
        random.shuffle(order)
        full = {"relation": "neighbour", "mode": mode, **config, **limits}
        try:
            one = PairSet.build(catalog_of(rows), PairsConfig(embeddings=table, **full))
        except UserError:
            assume(False)
            raise
        other = PairSet.build(catalog_of([rows[i] for i in order]), PairsConfig(embeddings=turned, **full))
        assert one.manifest_hash == other.manifest_hash
        assert one.table.equals(other.table)
        one.validate()
        check_limits(one, limits)


def check_limits(pairs: PairSet, limits: dict[str, Any]) -> None:
    anchor, partner = pairs.anchor, pairs.partner
    assert (pairs.index.picture[anchor] != pairs.index.picture[partner]).all()
    degree = np.bincount(np.concatenate([anchor, partner]))
    category = pairs.index.labels("category")
    if pairs.config.mode == "fixed":
        assert degree.max() == 1
        shown = anchor
    else:
        shown = np.unique(np.concatenate([anchor, partner]))
        assert pairs.pairs_per_epoch == len(shown)
        if limits["max_partners"]:
            assert degree.max() <= limits["max_partners"]
    if limits["count"]:
        assert len(shown) <= limits["count"]
    if limits["per_class"]:
        assert category.known[shown].all()
        assert np.bincount(category.codes[shown]).max() <= limits["per_class"]


def config(table: str, **more: Any) -> PairsConfig:
    return PairsConfig(relation="neighbour", embeddings=table, **more)


def test_images_without_labels_in_a_pool_mean_themselves(make: Any, embedded: Any, tmp_path: Path) -> None:
    names = [f"{i:02d}" for i in range(20)]
    vectors = np.array([[np.cos(i / 10), np.sin(i / 10)] for i in range(20)])  # a chain: all hang together
    catalog = make(names, split=["train"] * 20)
    table = embedded(catalog, vectors, tmp_path / "e.parquet")
    asked = config(table, top_k=2, max_similarity=1, mode="redrawn", mutual=False)
    plan = plan_pairs(catalog, asked)
    assert len(set(plan.meaning.tolist())) == plan.n == 20
    fixed = plan_pairs(catalog, asked.model_copy(update={"mode": "fixed"}))
    assert len(set(fixed.meaning.tolist())) == fixed.n


def test_near_duplicates_take_no_place_among_the_nearest(make: Any, embedded: Any, tmp_path: Path) -> None:
    """30 almost equal pictures and one less alike: that one is everybody's nearest."""
    names = [f"{i:02d}" for i in range(31)]
    vectors = np.array([[1, 1e-3 * i, 0] for i in range(30)] + [[1, 0, 0.6]])
    catalog = make(names, split=["train"] * 31)
    table = embedded(catalog, vectors, tmp_path / "e.parquet")
    edges, _ = mined(ImageIndex(catalog), config(table, top_k=1, mutual=False))
    assert {(a, b) for a, b in zip(edges.left.tolist(), edges.right.tolist(), strict=True)} == {
        (i, 30) for i in range(30)
    }


def test_a_crowd_of_near_duplicates_is_searched_so_far(
    monkeypatch: pytest.MonkeyPatch, make: Any, embedded: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(mining, "WIDEST", 8)
    vectors = np.array([[1, 1e-3 * i, 0] for i in range(30)] + [[1, 0, 0.6], [1, 0.1, 0.6]])
    catalog = make([f"{i:02d}" for i in range(32)], split=["train"] * 32)
    table = embedded(catalog, vectors, tmp_path / "e.parquet")
    edges, _ = mined(ImageIndex(catalog), config(table, top_k=1, mutual=False))
    # Those in the crowd see nothing but the crowd; each of the two outside skips the other.
    assert len(edges) == 2 and set(edges.right.tolist()) == {30, 31}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": None}, "pairs.embeddings must be a valid string, got None"),
        ({"relation": "augmented"}, "pairs.embeddings is not a known key"),
        ({"min_similarity": 1.7}, "pairs.min_similarity must be less than or equal to 1, got 1.7"),
        ({"min_similarity": 0.99}, "pairs.max_similarity must be above min_similarity, got 0.98"),
        ({"top_k": 0}, "pairs.top_k must be greater than or equal to 1, got 0"),
        ({"index": "flat"}, "pairs.index must be 'auto', 'exact', 'ivf' or 'hnsw', got 'flat'"),
        ({"max_partners": 0}, "pairs.max_partners must be greater than or equal to 1"),
        ({"embeddings": "absent.parquet"}, "absent.parquet does not exist; write it with `sempairs embed`"),
        (
            {"min_similarity": 0.9799},
            r"finds no pair in 60 images: .* from 0.9799 to 0.98 \(of the nearest ones",
        ),
        ({"alone": "drop"}, "pairs.alone must be 'leave_out' or 'pair_with_itself', got 'drop'"),
        ({"alone": "pair_with_itself", "count": 9}, "pairs.alone must be leave_out where count or per_class"),
        ({"mode": "redrawn", "count": 1}, "pairs.count must be at least 2 for redrawn pairs, got 1"),
    ],
)
def test_mistakes_are_one_line(groups_of_five: Any, change: dict[str, Any], message: str) -> None:
    from sempairs.config import validate
    from sempairs.pairs.config import PairsSection

    catalog, table = groups_of_five
    asked = {"relation": "neighbour", "embeddings": table} | change
    with pytest.raises(UserError, match=message) as caught:
        plan_pairs(catalog, validate(PairsSection, {"pairs": asked}).pairs)
    assert "\n" not in str(caught.value)


def test_a_table_of_other_images_is_refused(groups_of_five: Any, make: Any, tmp_path: Path) -> None:
    table = groups_of_five[1]
    more = make("00 99", split=["train"] * 2, file_hash=["file 00", "file 99"])
    with pytest.raises(UserError, match=r"e.parquet lacks 1 of 2 images, got '99'; run `sempairs embed`"):
        plan_pairs(more, config(table))
    changed = make("00 01", split=["train"] * 2, file_hash=["file 00", "new"])
    with pytest.raises(UserError, match="was made when an image was another file, got '01'"):
        plan_pairs(changed, config(table))
    unlabelled = make("00 01", split=["train"] * 2)
    with pytest.raises(UserError, match=r"pairs.same_category needs a category .*, got True"):
        plan_pairs(unlabelled, config(table, same_category=True))
    with pytest.raises(UserError, match=r"pairs.per_class needs a category or concept"):
        plan_pairs(unlabelled, config(table, per_class=3, min_similarity=0))
