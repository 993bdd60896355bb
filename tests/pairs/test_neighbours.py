"""The neighbour search: exact against a loop, indexes against exact."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempairs.errors import UserError
from sempairs.pairs import neighbours
from sempairs.pairs.neighbours import Searcher, exact, lists_for

faiss = pytest.importorskip("faiss", reason="the extra mine is not installed")


def clustered(n: int, width: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(2, n // 40), width))
    found = centres[rng.integers(len(centres), size=n)] + 0.8 * rng.normal(size=(n, width))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int8, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(-2, 2)),
    st.integers(1, 14),
)
def test_exact_is_a_loop_over_all_others(points: np.ndarray, k: int) -> None:
    # Small whole numbers: products are exact and there are many ties.
    vectors = points.astype(np.float32)
    n = len(vectors)
    found, cosine = Searcher(vectors, k).nearest(np.arange(n), k)
    for row in range(n):
        others = sorted(
            (-sum(int(a) * int(b) for a, b in zip(points[row], points[j], strict=True)), j)
            for j in range(n)
            if j != row
        )[:k]
        assert found[row].tolist() == [j for _, j in others] + [-1] * (k - len(others))
        assert cosine[row].tolist() == [-s for s, _ in others] + [-np.inf] * (k - len(others))


def test_blocks_and_subsets_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(300)
    whole = exact(vectors, np.arange(300), 5)
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 4 * 300 * 7)
    parts = Searcher(vectors, 5).nearest(np.arange(300), 5)
    np.testing.assert_array_equal(parts[0], whole[0])
    rows = np.array([7, 3, 299])
    np.testing.assert_array_equal(Searcher(vectors, 5).nearest(rows, 5)[0], whole[0][rows])


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_index_finds_what_it_says_it_finds(kind: Any) -> None:
    vectors = clustered(6000)
    rows = np.arange(6000)
    searcher = Searcher(vectors, 5, kind=kind, recall=0.95)
    found, cosine = searcher.nearest(rows, 5)
    truth = exact(vectors, rows, 5)[0]
    share = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found.tolist(), truth.tolist(), strict=True)])
    report = searcher.report
    assert (report.kind, report.queries) == (kind, 1000)
    assert report.recall >= 0.95
    assert share == pytest.approx(report.recall, abs=0.015)
    assert (found != rows[:, None]).all() and (np.diff(cosine, axis=1) <= 0).all()
    np.testing.assert_allclose(cosine, np.einsum("nd,nkd->nk", vectors, vectors[found]), atol=1e-5)
    again = Searcher(vectors, 5, kind=kind, recall=0.95)
    np.testing.assert_array_equal(again.nearest(rows, 5)[0], found)
    assert again.report == report
    some = np.array([5, 4000, 17])
    np.testing.assert_array_equal(searcher.nearest(some, 5)[0], found[some])


def test_a_higher_recall_widens_the_search() -> None:
    vectors = clustered(4000)
    low, high = (Searcher(vectors, 5, kind="ivf", recall=recall).report for recall in (0.5, 0.99))
    assert low.settings["probes"] < high.settings["probes"]
    assert low.recall < 0.99 <= high.recall
    assert low.settings["lists"] == 4000 // neighbours.POINTS_PER_LIST


def test_lists_grow_with_the_root_of_the_vectors() -> None:
    assert [lists_for(n) for n in (10, 1000, 50_000, 1_000_000, 10_000_000)] == [1, 25, 1024, 4096, 16384]


def test_copies_are_found_as_neighbours_and_never_oneself() -> None:
    vectors = np.repeat(clustered(50), 40, axis=0)
    for kind in ("exact", "ivf"):
        found, cosine = Searcher(vectors, 3, kind=kind).nearest(np.arange(2000), 3)  # type: ignore[arg-type]
        assert (found != np.arange(2000)[:, None]).all()
        np.testing.assert_allclose(cosine, 1, atol=1e-5)


def test_auto_is_exact_to_a_size_and_needs_faiss_above(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(400)
    assert Searcher(vectors, 5).report.kind == "exact"
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 399)
    assert Searcher(vectors, 5).report.kind == "ivf"
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        UserError, match=r"^pairs.index needs faiss for 400 images, got 'ivf'; pip install 'semp"
    ):
        Searcher(vectors, 5)
    assert Searcher(vectors, 5, kind="exact").report.kind == "exact"


def test_hnsw_says_when_it_cannot_reach_the_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_LADDER", (6,))
    with pytest.raises(
        UserError, match=r"^pairs.recall is out of reach of hnsw here \(0\.\d+ on 1000 images\)"
    ):
        Searcher(clustered(3000, width=64), 5, kind="hnsw", recall=0.9999)


def test_the_threads_of_faiss_are_left_as_they_were() -> None:
    before = faiss.omp_get_max_threads()
    Searcher(clustered(400), 5, kind="hnsw")
    assert faiss.omp_get_max_threads() == before
