"""Category paths as a tree: `animal/mammal/cat` lies under `animal/mammal`, which lies under `animal`.

Depth counts segments from the root: the root `""` has depth 0, `animal` 1. The leaf of an image is its whole
path; a category may have images of its own and further categories below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError


def segments(path: str) -> tuple[str, ...]:
    """The path from the outermost category to the leaf. Raises: UserError if a segment is empty."""
    found = tuple(path.split("/"))
    if not all(part.strip() for part in found):
        raise UserError("category", "must be a path of names, like animal/cat, without empty ones", path)
    return found


def depth(path: str) -> int:
    return len(segments(path))


def parent(path: str) -> str:
    """One step towards the root; `""` for an outermost category."""
    return "/".join(segments(path)[:-1])


def ancestor(path: str, at: int) -> str:
    """The category at depth `at` on the way to `path`, which itself counts; `""` at depth 0.

    A path that is not that deep is returned whole.
    """
    if at < 0:
        raise UserError("depth", "must be 0 or more", at)
    return "/".join(segments(path)[:at])


def top(path: str) -> str:
    """The outermost category."""
    return segments(path)[0]


@dataclass(frozen=True)
class Taxonomy:
    """The categories that images have. `leaves` is sorted."""

    leaves: tuple[str, ...]

    @classmethod
    def of(cls, categories: Catalog | Iterable[str | None]) -> Taxonomy:
        """From a catalogue, or from its images' categories; nulls and repetitions count for nothing.

        Raises: UserError if a path has an empty segment.
        """
        paths: Iterable[str | None]
        if isinstance(categories, Catalog):
            paths = categories.table.column("category").unique().to_pylist()
        else:
            paths = categories
        leaves = {path for path in paths if path is not None}
        for leaf in leaves:
            segments(leaf)
        return cls(tuple(sorted(leaves)))

    def __len__(self) -> int:
        return len(self.leaves)

    def nodes(self, at: int) -> tuple[str, ...]:
        """The distinct ancestors at depth `at`, sorted."""
        return tuple(sorted({ancestor(leaf, at) for leaf in self.leaves}))

    def under(self, node: str) -> tuple[str, ...]:
        """The leaves at or below `node`, sorted; all of them for the root `""`."""
        return tuple(leaf for leaf in self.leaves if not node or leaf == node or leaf.startswith(f"{node}/"))

    def siblings(self, at: int | None = None) -> dict[str, tuple[str, ...]]:
        """For each leaf the other leaves with the same ancestor at depth `at`, by default its own parent.

        A leaf that is not deeper than `at` has no siblings: nothing above it is that specific.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        shared: dict[str, str] = {}
        for leaf in self.leaves:
            if at is None:
                shared[leaf] = parent(leaf)
            elif depth(leaf) > at:
                shared[leaf] = ancestor(leaf, at)
            if leaf in shared:
                groups[shared[leaf]].append(leaf)
        return {
            leaf: tuple(other for other in groups[shared[leaf]] if other != leaf) if leaf in shared else ()
            for leaf in self.leaves
        }


def codes(catalog: Catalog, at: int | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each row's category, or its ancestor at depth `at`, as a number into the sorted names also returned.

    Returns: (N,) int64, -1 for a null category; and the names.
    """
    encoded = catalog.array("category").combine_chunks().dictionary_encode()
    paths = [path if at is None else ancestor(path, at) for path in encoded.dictionary.to_pylist()]
    names = tuple(sorted(set(paths)))
    number = {name: code for code, name in enumerate(names)}
    table = np.array([number[path] for path in paths] + [-1], dtype=np.int64)
    return table[encoded.indices.fill_null(len(paths)).to_numpy()], names
