"""Numbers for the card: margins, pairs across designers, how many of those look alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from emoji_pairs.concepts import Concept
from emoji_pairs.groups import rmse
from emoji_pairs.raster import margins
from emoji_pairs.sets import IconSet

# Two designers' drawings of one concept count as near-duplicates up to here.
DUPLICATE = 0.10


class Drawn(Protocol):
    """What is measured of a drawing."""

    @property
    def set(self) -> IconSet: ...
    @property
    def concept(self) -> Concept: ...
    @property
    def pixels(self) -> np.ndarray: ...


class Margin(NamedTuple):
    """Of one set: share of pictures that touch the canvas edge, median of the smallest margin and of the
    longer side of the drawing, in pixels."""

    set: str
    touching: float
    margin: float
    side: float


def margins_by_set(drawings: Sequence[Drawn]) -> list[Margin]:
    """One row a set, in the order of the drawings."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for drawing in drawings:
        sides = margins(Image.fromarray(drawing.pixels))
        if sides:
            left, top, right, bottom = sides
            size = drawing.pixels.shape[0]
            found[drawing.set.name].append((min(sides), size - min(left + right, top + bottom)))
    return [
        Margin(name, float(np.mean([m == 0 for m, _ in v])), *(float(x) for x in np.median(v, axis=0)))
        for name, v in found.items()
    ]


def cross_pairs(drawings: Sequence[Drawn]) -> Iterator[tuple[Drawn, Drawn]]:
    """Pairs of drawings of one concept by two designers."""
    by_concept: dict[str, list[Drawn]] = defaultdict(list)
    for drawing in drawings:
        by_concept[drawing.concept.code].append(drawing)
    for same in by_concept.values():
        for one, other in combinations(same, 2):
            if one.set.designer != other.set.designer:
                yield one, other


def duplicates(drawings: Sequence[Drawn]) -> tuple[int, int, dict[str, tuple[int, int]]]:
    """Cross-designer pairs, how many are near-duplicates, and both numbers by flag of the concept."""
    total = alike = 0
    flagged: dict[str, tuple[int, int]] = {}
    for one, other in cross_pairs(drawings):
        is_alike = rmse(one.pixels, other.pixels) <= DUPLICATE
        total, alike = total + 1, alike + is_alike
        if flag := one.concept.flag:
            pairs, hits = flagged.get(flag, (0, 0))
            flagged[flag] = (pairs + 1, hits + is_alike)
    return total, alike, flagged
