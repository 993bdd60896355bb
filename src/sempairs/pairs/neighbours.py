"""Each vector's nearest others by cosine: exact by matrix products, or by faiss where there are many.

IVF: Johnson, Douze, Jégou, arXiv:1702.08734. HNSW: Malkov, Yashunin, arXiv:1603.09320. An index finds most of
the true neighbours: how many is measured on a keyed sample of the vectors against the exact answer, and the
search is widened until it is surely what was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed, progress
from sempairs.errors import UserError

Float32 = NDArray[np.float32]
Int = NDArray[np.int64]
Kind = Literal["exact", "ivf", "hnsw"]

STREAM = "neighbours"
TRAINING, QUERIES = range(2)
#: Above so many vectors `auto` is IVF: a matrix product of 50,000 with themselves takes under a minute.
EXACT_ROWS = 50_000
#: faiss' own least for k-means.
POINTS_PER_LIST = 39
#: Vectors whose neighbours are compared with the exact ones.
SAMPLE = 1000
# A block of similarities takes about this much memory.
_BLOCK_BYTES = 256 << 20
_SEARCHED = 1 << 15
_LADDER = tuple(sorted({2**i for i in range(15)} | {3 * 2**i for i in range(14)}))
# Cosines this close are equal: float32 products differ by so much with the order of their sums.
_EQUAL = 1e-5
# Standard errors below a mean: a lower bound of 95 %.
_SURE = 1.645


@dataclass(frozen=True)
class IndexReport:
    """How the neighbours were searched, and how many of the true ones were found.

    recall: of the k nearest, over `queries` vectors; an equally near one counts. settings: of the index.
    seconds: of train, add, tune and search.
    """

    kind: Kind
    vectors: int
    width: int
    k: int
    recall: float = 1.0
    queries: int = 0
    settings: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)


class Searcher:
    """An index of unit vectors (N, D) float32, searched by its own rows.

    Raises: UserError if `kind` needs faiss and it is not installed, or HNSW does not reach `recall`.
    """

    def __init__(
        self,
        vectors: Float32,
        k: int,
        *,
        kind: Literal["auto", "exact", "ivf", "hnsw"] = "auto",
        recall: float = 0.95,
        seed: int = 0,
    ) -> None:
        assert vectors.ndim == 2 and vectors.dtype == np.float32 and k >= 1
        self.vectors = np.ascontiguousarray(vectors)
        n, width = vectors.shape
        chosen: Kind = ("exact" if n <= EXACT_ROWS else "ivf") if kind == "auto" else kind
        if n <= 2 * k:
            chosen = "exact"
        self.report = IndexReport(chosen, n, width, k)
        self._index: Any = None
        if chosen != "exact":
            self._build(chosen, recall, seed)

    def nearest(self, rows: Int, k: int, *, shown: bool = False) -> tuple[Int, Float32]:
        """The k nearest others of the given rows, nearest first: (B, k) rows, -1 where there are no more, and
        cosines, -inf there. Of equal cosines the exact search puts the lower row first."""
        found = np.full((len(rows), k), -1, dtype=np.int64)
        cosine = np.full((len(rows), k), -np.inf, dtype=np.float32)
        began = perf_counter()
        with (
            progress.bar(total=len(rows), what="neighbours", unit="image") if shown else nullcontext() as bar
        ):
            for part in self._parts(rows):
                found[part], cosine[part] = self._search(rows[part], k)
                if bar is not None:
                    bar.update(len(part))
        spent = self.report.seconds
        spent["search"] = spent.get("search", 0.0) + perf_counter() - began
        return found, cosine

    def _parts(self, rows: Int) -> Iterator[Int]:
        """Positions in `rows`, a block at a time; of an IVF those of one list together, as they search the
        same lists, which then stay in the cache."""
        order = np.arange(len(rows))
        step = _SEARCHED
        if self.report.kind == "exact":
            step = max(1, _BLOCK_BYTES // (4 * len(self.vectors)))
        elif self.report.kind == "ivf":
            order = np.argsort(self._list[rows], kind="stable")
        for start in range(0, len(rows), step):
            yield order[start : start + step]

    def _search(self, rows: Int, k: int) -> tuple[Int, Float32]:
        if self._index is None:
            return exact(self.vectors, rows, k)
        # One more, as each vector finds itself.
        cosine, found = self._index.search(self.vectors[rows], min(k + 1, len(self.vectors)))
        cosine = np.where((found < 0) | (found == rows[:, None]), -np.inf, cosine)
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        cosine, found = (np.take_along_axis(part, order, axis=1) for part in (cosine, found))
        return _padded(np.where(np.isneginf(cosine), -1, found), cosine, k)

    def _build(self, kind: Kind, recall: float, seed: int) -> None:
        faiss = _faiss(kind, len(self.vectors))
        build = self._ivf if kind == "ivf" else self._hnsw
        with _threads(faiss, 1 if kind == "hnsw" else None):
            settings = build(faiss, seed)
        began = perf_counter()
        self.report = replace(self.report, settings=settings)
        self._tune(kind, recall, seed)
        self.report.seconds["tune"] = perf_counter() - began

    def _ivf(self, faiss: Any, seed: int) -> dict[str, int]:
        n, width = self.vectors.shape
        lists = lists_for(n)
        points = min(n, POINTS_PER_LIST * lists)
        began = perf_counter()
        quantizer = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFFlat(quantizer, width, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = seed % 2**31
        index.train(self.vectors[_sample(n, points, seed, TRAINING)])
        trained = perf_counter()
        # What `index.add` does, but the list of each vector is kept for `_parts`.
        own: Int = quantizer.search(self.vectors, 1)[1].ravel()
        index.add_core(n, faiss.swig_ptr(self.vectors), None, faiss.swig_ptr(own))
        self._index, self._list, self._quantizer = index, own, quantizer
        self.report.seconds.update(train=trained - began, add=perf_counter() - trained)
        return {"lists": lists, "training_points": points}

    def _hnsw(self, faiss: Any, seed: int) -> dict[str, int]:
        """Built by one thread: with several, the graph depends on which comes first."""
        del seed
        links, width = 32, 80
        began = perf_counter()
        index = faiss.IndexHNSWFlat(self.vectors.shape[1], links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = width
        index.add(self.vectors)
        self._index = index
        self.report.seconds["add"] = perf_counter() - began
        return {"links": links, "construction": width}

    def _tune(self, kind: Kind, recall: float, seed: int) -> None:
        """The narrowest search that reaches `recall`, as surely as a sample tells."""
        n, k = len(self.vectors), self.report.k
        rows = _sample(n, min(n, SAMPLE), seed, QUERIES)
        step = max(1, _BLOCK_BYTES // (4 * n))
        parts = [exact(self.vectors, rows[at : at + step], k)[1] for at in range(0, len(rows), step)]
        border = np.concatenate(parts)[:, -1:]
        name = "probes" if kind == "ivf" else "ef"
        most = self._index.nlist if kind == "ivf" else 1024
        reached = 0.0
        for width in sorted({min(width, most) for width in _LADDER}):
            if kind == "ivf":
                self._index.nprobe = width
            elif width <= k:
                continue
            else:
                self._index.hnsw.efSearch = width
            shares = (self._search(rows, k)[1] >= border - _EQUAL).mean(axis=1)
            reached, error = float(shares.mean()), float(shares.std()) / math.sqrt(len(rows))
            settings = {**self.report.settings, name: width}
            self.report = replace(self.report, settings=settings, recall=reached, queries=len(rows))
            # A sample flatters the first width that looks wide enough, hence the lower bound.
            if reached - _SURE * error >= recall:
                return
        if kind == "hnsw":
            remedy = "lower it, or use pairs.index=ivf or exact"
            rule = f"is out of reach of hnsw here ({reached:.3f} on {len(rows)} images)"
            raise UserError("pairs.recall", rule, recall, remedy)


def lists_for(n: int) -> int:
    """Lists of an IVF of n vectors: about 4 sqrt(n), a power of two, and no more than can be trained."""
    power = round(math.log2(4 * math.sqrt(n)))
    return max(1, min(1 << power, n // POINTS_PER_LIST))


def exact(vectors: Float32, rows: Int, k: int) -> tuple[Int, Float32]:
    """The k nearest others of some rows of unit `vectors` (N, D), against all: as `Searcher.nearest`.

    Memory: a matrix (B, N); give few rows at a time.
    """
    import torch

    base = torch.from_numpy(vectors)
    cosine = base[torch.from_numpy(rows)] @ base.T
    cosine[torch.arange(len(rows)), torch.from_numpy(rows)] = -math.inf
    few = min(k, len(vectors) - 1)
    if not few:
        return _padded(np.empty((len(rows), 0), np.int64), np.empty((len(rows), 0), np.float32), k)
    # One more than is asked for, as topk gives equal ones in any order: such rows are done in full.
    top, found = torch.topk(cosine, few + 1)
    for row in torch.nonzero((top[:, 1:] == top[:, :-1]).any(1)).ravel():
        order = torch.argsort(cosine[row], descending=True, stable=True)[: few + 1]
        found[row], top[row] = order, cosine[row][order]
    return _padded(found[:, :few].numpy(), top[:, :few].numpy(), k)


def _padded(found: Int, cosine: Float32, k: int) -> tuple[Int, Float32]:
    more = ((0, 0), (0, k - found.shape[1]))
    return (
        np.pad(found, more, constant_values=-1),
        np.pad(cosine, more, constant_values=-np.inf).astype(np.float32),
    )


def _sample(n: int, size: int, seed: int, slot: int) -> Int:
    """Distinct rows, sorted; by keys, so the same for every machine."""
    draw = keyed.uniform(seed, STREAM, occurrence=np.arange(n), slot=slot)[:, 0]
    return np.sort(np.argsort(draw, kind="stable")[:size])


def _faiss(kind: str, n: int) -> Any:
    try:
        import faiss
    except ImportError:
        remedy = "pip install 'sempairs[mine]', or ask for pairs.index=exact"
        raise UserError("pairs.index", f"needs faiss for {n:,} images", kind, remedy) from None
    return faiss


@contextmanager
def _threads(faiss: Any, count: int | None) -> Iterator[None]:
    """faiss limited to `count` threads for a while."""
    before = faiss.omp_get_max_threads()
    try:
        if count is not None:
            faiss.omp_set_num_threads(count)
        yield
    finally:
        faiss.omp_set_num_threads(before)
