"""Which concepts must share a split, and which split each group of them gets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from emoji_pairs.concepts import Concept, plain_form
from sempairs import keyed

# Root mean square difference, of white-composited RGB and of alpha (both on [0, 1]), up to which two pictures
# count as one: 5 levels of 255, which no one sees side by side.
NEAR = 0.02
_MARGIN = 1e-4
_BLOCK = 1024
_TENTHS = {"train": 7, "validation": 1, "test": 2}


class NearPair(NamedTuple):
    """Two pictures of different concepts and how far apart they are, as `rmse` has it."""

    first: int
    second: int
    distance: float


def near_pairs(pictures: np.ndarray, concepts: Sequence[str], limit: float = NEAR) -> list[NearPair]:
    """Pairs of pictures (N, S, S, 4 uint8 RGBA) of different concepts at most `limit` apart, nearest first.

    Candidates come from 2 x 2 box means, whose distance is never the larger one; each is then measured
    exactly in whole numbers, so the result does not depend on the order of floating-point sums.
    """
    n, side = pictures.shape[:2]
    features = np.empty((n, (side // 2) ** 2 * 4), np.float32)
    for start in range(0, n, _BLOCK):
        block = _on_white(pictures[start : start + _BLOCK]).astype(np.float32) / 65025
        small = (
            block.reshape(len(block), side // 2, 2, side // 2, 2, 4).mean((2, 4)).reshape(len(block), -1, 4)
        )
        small[..., :3] /= np.sqrt(3)
        features[start : start + _BLOCK] = small.reshape(len(block), -1) / (side // 2)
    square = (features**2).sum(1)
    code = np.unique(np.asarray(concepts), return_inverse=True)[1]
    found: list[NearPair] = []
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        gap = square[rows, None] + square[None, start:] - 2 * features[rows] @ features[start:].T
        here, there = np.nonzero(gap < 2 * limit**2 + _MARGIN)
        for i, j in zip(here + start, there + start, strict=True):
            if i < j and code[i] != code[j]:
                distance = rmse(pictures[i], pictures[j])
                if distance <= limit:
                    found.append(NearPair(int(i), int(j), distance))
    return sorted(found, key=lambda pair: (pair.distance, pair.first, pair.second))


def rmse(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two RGBA pictures (S, S, 4 uint8): the larger RMSE of RGB on white and of alpha, in [0, 1].

    White drawings look alike on white, so alpha counts as well.
    """
    square = (_on_white(one) - _on_white(other)) ** 2
    pixels = one.shape[0] * one.shape[1]
    colour, alpha = int(square[..., :3].sum()) / (3 * pixels), int(square[..., 3].sum()) / pixels
    return float(np.sqrt(max(colour, alpha)) / 65025)


def _on_white(pictures: np.ndarray) -> np.ndarray:
    """RGB over white and alpha, as whole numbers of 1 / 65025, int64 (..., 4)."""
    rgb, alpha = pictures[..., :3].astype(np.int64), pictures[..., 3:].astype(np.int64)
    return np.concatenate([rgb * alpha + 255 * (255 - alpha), 255 * alpha], axis=-1)


def split_groups(concepts: Iterable[str], alike: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group of each concept, named after its smallest code.

    Linked, also over others, are the pairs in `alike` (one picture for both) and sequences that differ only
    in gender or direction.
    """
    parent = {code: code for code in concepts}

    def root(code: str) -> str:
        while parent[code] != code:
            parent[code] = parent[parent[code]]
            code = parent[code]
        return code

    forms: dict[str, str] = {}
    same_form = [(code, forms.setdefault(plain_form(code), code)) for code in parent]
    for one, other in chain(alike, same_form):
        first, second = sorted((root(one), root(other)))
        if first != second:
            parent[second] = first
    return {code: root(code) for code in list(parent)}


def assign(groups: Mapping[str, str], concepts: Mapping[str, Concept], seed: int = 0) -> dict[str, str]:
    """Split of each group: 70 / 10 / 20 percent of the concepts for train, validation and test, within each
    subgroup as far as whole groups allow.

    Groups are laid out by subgroup and, within one, by a keyed hash of their name; each goes to the split
    that is furthest behind, so any stretch of the order, and with it any subgroup, has its share. The first
    group of a subgroup is for training, so that no subgroup is tested that could not be learnt.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for code, group in groups.items():
        members[group].append(code)
    names = sorted(members)
    keys = dict(zip(names, keyed.text_key(seed, "splits", names).tolist(), strict=True))
    strata = {name: _stratum([concepts[code] for code in members[name]]) for name in names}
    split: dict[str, str] = {}
    previous: tuple[str, str] | None = None
    owed = dict.fromkeys(_TENTHS, 0)  # tenths of a concept by which each split is behind
    for name in sorted(names, key=lambda name: (strata[name], keys[name])):
        size = len(members[name])
        owed = {key: owed[key] + tenths * size for key, tenths in _TENTHS.items()}
        split[name] = max(owed, key=owed.__getitem__) if strata[name] == previous else "train"
        previous = strata[name]
        owed[split[name]] -= 10 * size
    return split


def _stratum(concepts: Sequence[Concept]) -> tuple[str, str]:
    """Group and subgroup of most of the concepts."""
    tally = Counter((concept.group, concept.subgroup) for concept in concepts)
    return min(tally, key=lambda category: (-tally[category], category))
