"""Which images hang together: by the same file, the same pixels, or any other column. For millions of images:
nearly all their hashes differ, so only those that do not are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.table import Catalog

Int = NDArray[np.int64]


def repeated(catalog: Catalog, column: str, rows: Int) -> Int:
    """A number for the value of a text column in each of `rows`, (n,); -1 where no other row has it."""
    keys = np.empty(len(rows), dtype=np.int64)
    known = np.empty(len(rows), dtype=bool)
    start = 0
    for piece in catalog.pieces(column, rows):
        part = slice(start, start + len(piece))
        keys[part] = np.fromiter(map(hash, piece.to_pylist()), dtype=np.int64, count=len(piece))
        known[part] = piece.is_valid().to_numpy(zero_copy_only=False)
        start += len(piece)
    items = np.flatnonzero(known)
    items = items[np.argsort(keys[items], kind="stable")]
    same = np.diff(keys[items]) == 0
    items = np.sort(
        items[np.concatenate([same, [False]]) | np.concatenate([[False], same])] if len(items) else items
    )
    # Equal hashes need not mean equal values.
    codes: dict[str, int] = {}
    out = np.full(len(rows), -1, dtype=np.int64)
    texts = (text for piece in catalog.pieces(column, rows[items]) for text in piece.to_pylist())
    out[items] = [codes.setdefault(text, len(codes)) for text in texts]
    return out


def components(n: int, *codes: Int, edges: Sequence[tuple[Int, Int]] = ()) -> Int:
    """For each of n items the smallest item it is linked with, (n,), links being followed as far as they go.

    Items are linked where they have the same code >= 0 in one of `codes`, or by an edge.
    """
    left, right, nodes = [a for a, _ in edges], [b for _, b in edges], n
    for code in codes:
        known = np.flatnonzero(code >= 0)
        if len(known):
            left.append(known)
            right.append(nodes + code[known])
            nodes += int(code.max()) + 1
    if not left:
        return np.arange(n)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Only what is linked at all goes into the graph; its items come first, in their order.
    linked, ends = np.unique(np.concatenate([*left, *right]), return_inverse=True)
    half = len(ends) // 2
    shape = (len(linked), len(linked))
    graph = coo_array((np.ones(half, dtype=np.int8), (ends[:half], ends[half:])), shape=shape)
    label = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    out = np.arange(n)
    items = linked < n
    out[linked[items]] = linked[first[inverse]][items]
    return out
