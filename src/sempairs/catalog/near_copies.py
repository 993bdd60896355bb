"""Near-copies: one picture recompressed, resized, grey, mirrored, turned by quarters or cropped.

A picture is kept as a sketch of 1,152 bytes: brightness at 32 x 32 and two colour differences at 8 x 8, of
the whole picture, squeezed square, on white. The search has two steps.

1. Candidates. The lowest cosine coefficients (6 x 6, of unit length, without the mean) of 46 windows of each
   sketch, whole or cropped, are compared with those of every other whole sketch in its 8 positions: mirrored
   and turned, a cosine transform changes signs and places only. Few pictures: all with all. Many: k-means
   lists of the windows, of which the nearest are looked into.
2. Verification. Position and size of the window are refined by least squares on the pixels (Lucas and Kanade
   1981), first at 16 x 16, then at 32 x 32. What then differs is measured in units of what an edge that lies
   a seventh of a pixel off would differ, overall and in the worst block, and in colour unless one of the two
   is grey. `difference` is the largest of the three over its limit: up to 1 is a near-copy.

Two drawings that are each other's mirror image (an arrow up, an arrow down) are near-copies by this rule:
that is what an augmentation makes of them. Pictures without features (a plain ground) and those smaller than
16 pixels are compared with none. `benchmarks/near_copies.py` measures what is found, and found wrongly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sempairs import keyed
from sempairs.progress import bar

SIDE, COLOUR = 32, 8
SKETCH_BYTES = SIDE * SIDE + 2 * COLOUR * COLOUR
#: Pictures with a shorter side than this say too little: at 8 pixels many digits look the same.
SMALLEST = 16
#: Standard deviation of brightness (range 1) below which a picture has no features.
PLAIN = 0.03

WAVES = 6
#: Cosine between windows from which two pictures are looked at more closely.
ALIKE = 0.8
#: Candidates of a picture among so many others at a time.
CANDIDATES = 8
PART = 50_000
# Offset and extent of windows along one side; a window of a picture is one of each.
_ALONG = ((0.0, 1.0), (0.0, 0.9), (0.1, 0.9), (0.0, 0.8), (0.1, 0.8), (0.2, 0.8))
_SQUARE = (*((x, y, 0.7) for x in (0.0, 0.15, 0.3) for y in (0.0, 0.15, 0.3)), (0.2, 0.2, 0.6))
# Limits of the three measures.
OVERALL, BLOCK, HUE = 1.6, 4.0, 0.15
#: What may be left at 16 x 16, as a share of the standard deviation.
ROUGH = 0.7
_EDGE, _NOISE = 0.15, 0.02
_GREY = 0.03
_EXACT = 2e11  # multiplications that are done outright

Int = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Real = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NearCopies:
    """Pairs (P,) of near-copies, the most alike first. left, right: rows of the sketches compared.

    difference: from 0 (equal) to 1. position: 0 to 7; 4 and more are transposed, then + 2 upside down, + 1
    mirrored. window: (P, 4), offset and extent along x and y of `left`'s picture within `right`'s.
    """

    left: Int
    right: Int
    difference: Real
    position: Int
    window: Real

    def __len__(self) -> int:
        return len(self.left)

    def how(self, at: int) -> str:
        """What a pair differs by, in words: "the same", "mirrored", "turned, cropped", …"""
        words = [("", "mirrored", "mirrored", "turned", "mirrored", "turned", "turned", "mirrored")[
            int(self.position[at])
        ]]  # fmt: skip
        x, width, y, height = (float(v) for v in self.window[at])
        moved = max(abs(x), abs(y), abs(x + width - 1), abs(y + height - 1)) > 0.03
        return ", ".join(word for word in [*words, "cropped" * moved] if word) or "the same"


def sketch(image: Image.Image) -> Bytes:
    """The sketch (1152,) of a picture, RGB or RGBA; all zeros, which is compared with none, if its shorter
    side has fewer than 16 pixels. A transparent picture that shows nothing on white is laid on black."""
    if min(image.size) < SMALLEST:
        return np.zeros(SKETCH_BYTES, dtype=np.uint8)
    if image.mode != "RGBA":
        return _reduced(image.convert("RGB"))
    for ground in (255, 0):
        under = Image.new("RGBA", image.size, (ground, ground, ground, 255))
        under.alpha_composite(image)
        found = _reduced(under.convert("RGB"))
        if ground == 0 or found[: SIDE * SIDE].std() >= 255 * PLAIN:
            break
    return found


def _reduced(image: Image.Image) -> Bytes:
    # Smaller first, where there is much to reduce: converting colours takes longer than averaging pixels.
    if min(image.size) >= 4 * SIDE:
        image = image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BOX)
    bands = image.convert("YCbCr").split()
    sides = (SIDE, COLOUR, COLOUR)
    parts = [b.resize((s, s), Image.Resampling.BILINEAR) for b, s in zip(bands, sides, strict=True)]
    return np.concatenate([np.asarray(part, dtype=np.uint8).ravel() for part in parts])


def has_features(sketches: Bytes) -> NDArray[np.bool_]:
    """Which sketches (N, 1152) can be compared, (N,)."""
    found = np.zeros(len(sketches), dtype=bool)
    for start in range(0, len(sketches), PART):
        part = slice(start, start + PART)
        found[part] = sketches[part, : SIDE * SIDE].astype(np.float32).std(axis=1) >= 255 * PLAIN
    return found


def near_copies(sketches: Bytes, against: Bytes | None = None, *, shown: bool = False) -> NearCopies:
    """All near-copies within `sketches` (N, 1152), left < right; or of `sketches` (left) in `against`.

    Memory: some 500 MB for any number of pictures, beside the sketches. Where there are many, candidates that
    lie in lists not looked into are missed; the rows chosen are the same on every call.
    """
    ours = np.flatnonzero(has_features(sketches))
    theirs = ours if against is None else np.flatnonzero(has_features(against))
    other = sketches if against is None else against
    found: list[_Found] = []
    if len(ours) and len(theirs):
        total = len(ours) + (0 if against is None else len(theirs))
        progress = bar(total=total, what="near-copies", unit="image") if shown else nullcontext()
        with progress as counter:
            found += _directed(sketches, ours, other, theirs, same=against is None, counter=counter)
            if against is not None:  # theirs may be cropped from ours, too
                turned = _directed(other, theirs, sketches, ours, same=False, counter=counter)
                found += [_reverse(part) for part in turned]
    return _gathered(found, same=against is None)


def compared(sketches: Bytes, left: Int, right: Int) -> Real:
    """The difference of given pairs of sketches, (P,): at most 1 for near-copies, infinite for what is none.

    As `near_copies`, but of these pairs alone, so none is missed for want of a place among the candidates.
    """
    usable = has_features(sketches)
    found = np.full(len(left), np.inf, dtype=np.float32)
    rows = np.flatnonzero(usable[left] & usable[right])
    places = _windows()
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        for one, other in ((left[part], right[part]), (right[part], left[part])):
            whole = _positions(_coefficients(sketches[one], 0.0, 1.0, 0.0, 1.0)).reshape(8, len(part), -1)
            windows = np.stack([_coefficients(sketches[other], *place) for place in places])
            cosine = np.einsum("gpd,wpd->pgw", whole, windows, optimize=True).reshape(len(part), -1)
            best = cosine.argmax(axis=1)
            near = np.flatnonzero(cosine[np.arange(len(part)), best] >= ALIKE)
            position, place = best[near] // len(places), best[near] % len(places)
            kept, difference, _ = _refined(
                sketches[one[near]], sketches[other[near]], position, places[place]
            )
            at = part[near[kept]]
            found[at] = np.minimum(found[at], difference)
    return found


class _Found(NamedTuple):
    left: Int
    right: Int
    difference: Real
    position: Int
    window: Real


def _directed(
    whole: Bytes, rows: Int, windows: Bytes, among: Int, *, same: bool, counter: Any
) -> Iterator[_Found]:
    """Near-copies of the whole pictures in windows of the others; same: not of a picture in itself."""
    places = _windows()
    for start in range(0, len(among), PART):
        members = among[start : start + PART]
        vectors = np.concatenate([_coefficients(windows[members], *place) for place in places])
        search = _Lists(vectors, len(rows) * 8)
        for first in range(0, len(rows), 512):
            part = rows[first : first + 512]
            queries = _positions(_coefficients(whole[part], 0.0, 1.0, 0.0, 1.0))
            query, vector, cosine = search.alike(queries)
            who, position = query % len(part), query // len(part)
            whom, place = vector % len(members), vector // len(members)
            keep = members[whom] != part[who] if same else np.ones(len(who), dtype=bool)
            keep &= cosine >= ALIKE
            kept = np.flatnonzero(keep)
            chosen = kept[_best(who[kept], whom[kept], cosine[kept])]
            who, position, whom, place = who[chosen], position[chosen], whom[chosen], place[chosen]
            left, right = part[who], members[whom]
            yield _verified(whole, left, windows, right, position, places[place])
            if counter is not None:
                counter.update(len(part) * len(members) / len(among))


def _best(who: Int, whom: Int, cosine: Real) -> Int:
    """Of each pair the best window and position; of each picture the `CANDIDATES` best others."""
    order = np.lexsort((-cosine, whom, who))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(who[order]) != 0) | (np.diff(whom[order]) != 0)
    order = order[first]
    order = order[np.lexsort((-cosine[order], who[order]))]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(who[order]) != 0])) if len(order) else order
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return order[rank < CANDIDATES]


@functools.cache
def _windows() -> NDArray[np.float64]:
    """(46, 4): offset and extent along x, then along y."""
    grid = [(*across, *down) for across in _ALONG for down in _ALONG]
    return np.array(grid + [(x, s, y, s) for x, y, s in _SQUARE])


@functools.cache
def _waves(offset: float, extent: float) -> Real:
    """(WAVES, SIDE): cosines over a part of a side, averaged over each pixel."""
    fine = 8
    place = ((np.arange(SIDE * fine) + 0.5) / (SIDE * fine) - offset) / extent
    inside = (place >= 0) & (place <= 1)
    waves = [np.where(inside, math.sqrt(1 + (u > 0)) * np.cos(math.pi * u * place), 0) for u in range(WAVES)]
    found: Real = (np.stack(waves).reshape(WAVES, SIDE, fine).sum(axis=2) / (extent * SIDE * fine)).astype(
        np.float32
    )
    return found


def _coefficients(sketches: Bytes, x: float, width: float, y: float, height: float) -> Real:
    """Unit vectors (N, 36) of a window's lowest waves, without the mean."""
    light = sketches[:, : SIDE * SIDE].astype(np.float32).reshape(-1, SIDE, SIDE) / np.float32(255)
    found = np.matmul(np.matmul(_waves(y, height), light), _waves(x, width).T)
    found[:, 0, 0] = 0
    flat = found.reshape(len(found), -1)
    unit: Real = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return unit


def _positions(vectors: Real) -> Real:
    """The coefficients of all 8 mirrored and turned versions, (8 * N, 36), position by position."""
    grid = vectors.reshape(-1, WAVES, WAVES)
    odd = (-1.0) ** np.arange(WAVES, dtype=np.float32)
    signs, found = (np.ones_like(odd), odd), []
    for transposed in (grid, grid.transpose(0, 2, 1)):
        for down in signs:
            found += [(transposed * down[:, None] * across).reshape(len(vectors), -1) for across in signs]
    return np.concatenate(found).astype(np.float32)


class _Lists:
    """Unit vectors (N, D) to search: outright, or by the k-means lists that lie nearest."""

    def __init__(self, vectors: Real, queries: int) -> None:
        self.vectors = torch.from_numpy(vectors)
        n, width = vectors.shape
        self.lists: list[Tensor] | None = None
        if float(n) * queries * width > _EXACT:
            count = max(1, min(8192, round(2 * math.sqrt(n))))
            draw = keyed.uniform(0, "near-copies", occurrence=np.arange(n))[:, 0]
            sample = self.vectors[torch.from_numpy(np.argsort(draw, kind="stable")[: 40 * count].copy())]
            self.centres = _centres(sample, count)
            own = _nearest(self.vectors, self.centres, 1)[:, 0]
            order = torch.argsort(own, stable=True)
            self.lists = list(order.tensor_split(torch.bincount(own, minlength=count).cumsum(0)[:-1]))

    def alike(self, queries: Real) -> tuple[Int, Int, Real]:
        """Query, vector and cosine of those that are alike: of each query (and list) the nearest ones."""
        asked = torch.from_numpy(queries)
        if self.lists is None:
            step = max(1, (64 << 20) // len(self.vectors))
            parts = [
                self._top(asked, torch.arange(at, min(at + step, len(asked))), None)
                for at in range(0, len(asked), step)
            ]
        else:
            near = _nearest(asked, self.centres, min(8, len(self.centres)))
            which = near.ravel()
            order = torch.argsort(which, stable=True)
            ends = torch.bincount(which, minlength=len(self.centres)).cumsum(0)[:-1]
            parts = [
                self._top(asked, rows // near.shape[1], members)
                for rows, members in zip(order.tensor_split(ends), self.lists, strict=True)
                if len(rows) and len(members)
            ]
        query, vector, cosine = (torch.cat(values).numpy() for values in zip(*parts, strict=True))
        return query, vector, cosine

    def _top(self, asked: Tensor, rows: Tensor, members: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        against = self.vectors if members is None else self.vectors[members]
        cosine, place = (asked[rows] @ against.T).topk(min(4 * CANDIDATES, len(against)), dim=1)
        line, column = torch.nonzero(cosine >= ALIKE, as_tuple=True)
        chosen = place[line, column]
        return rows[line], chosen if members is None else members[chosen], cosine[line, column]


def _centres(vectors: Tensor, count: int, rounds: int = 6) -> Tensor:
    """k-means of unit vectors; an empty list keeps its centre."""
    centres = vectors[:count].clone()
    for _ in range(rounds):
        own = _nearest(vectors, centres, 1)[:, 0]
        sums = torch.zeros_like(centres).index_add_(0, own, vectors)
        length = sums.norm(dim=1, keepdim=True)
        centres = torch.where(length > 1e-6, sums / length.clamp(min=1e-6), centres)
    return centres


def _nearest(vectors: Tensor, centres: Tensor, count: int) -> Tensor:
    step = max(1, (32 << 20) // len(centres))
    return torch.cat(
        [(vectors[at : at + step] @ centres.T).topk(count, dim=1)[1] for at in range(0, len(vectors), step)]
    )


def _verified(
    whole: Bytes, left: Int, windows: Bytes, right: Int, position: Int, place: NDArray[np.float64]
) -> _Found:
    """Those candidates that are near-copies."""
    kept: list[_Found] = []
    for start in range(0, len(left), 1024):
        at = slice(start, start + 1024)
        rows, difference, window = _refined(whole[left[at]], windows[right[at]], position[at], place[at])
        good = difference <= 1
        rows = rows[good]
        kept.append(
            _Found(left[at][rows], right[at][rows], difference[good], position[at][rows], window[good])
        )
    if kept:
        return _Found(*(np.concatenate(values) for values in zip(*kept, strict=True)))
    none = np.empty(0, dtype=np.int64)
    return _Found(none, none, np.empty(0, np.float32), none, np.empty((0, 4), np.float32))


def _refined(
    whole: Bytes, windows: Bytes, position: Int, place: NDArray[np.float64]
) -> tuple[Int, Real, Real]:
    """Of pairs of sketches (B, 1152) those that are alike at 16 x 16: which, their difference and window."""
    one, other = _turned(_planes(whole), position), _planes(windows)
    window = torch.from_numpy(place.astype(np.float32))
    light, under = _smooth(one[:, :1]), _smooth(other[:, :1])
    window, rough = _aligned(F.avg_pool2d(light, 2), F.avg_pool2d(under, 2), window, rounds=4)
    close = torch.nonzero(rough < ROUGH)[:, 0]
    if not len(close):
        return close.numpy(), np.empty(0, np.float32), np.empty((0, 4), np.float32)
    window, _ = _aligned(light[close], under[close], window[close], rounds=5)
    difference = _difference(one[close], other[close], window)
    return close.numpy(), difference.numpy(), window.numpy()


def _planes(sketches: Bytes) -> Tensor:
    """Brightness and two colour differences, (B, 3, SIDE, SIDE) in [0, 1] and [-.5, .5]."""
    values = torch.from_numpy(sketches.astype(np.float32) / np.float32(255))
    light = values[:, : SIDE * SIDE].reshape(-1, 1, SIDE, SIDE)
    colour = values[:, SIDE * SIDE :].reshape(-1, 2, COLOUR, COLOUR) - 128 / 255
    if not len(values):
        return light.expand(0, 3, SIDE, SIDE)
    wide = F.interpolate(colour, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return torch.cat([light, wide], dim=1)


def _turned(planes: Tensor, position: Int) -> Tensor:
    found = torch.empty_like(planes)
    for number in range(8):
        rows = torch.from_numpy(np.flatnonzero(position == number))
        part = planes[rows]
        part = part.transpose(2, 3) if number & 4 else part
        part = part.flip(2) if number & 2 else part
        found[rows] = part.flip(3) if number & 1 else part
    return found


def _smooth(planes: Tensor) -> Tensor:
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] / 4 + padded[..., 1:-1, :] / 2 + padded[..., 2:, :] / 4
    return rows[..., :-2] / 4 + rows[..., 1:-1] / 2 + rows[..., 2:] / 4


def _slopes(light: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and downwards, a pixel each; 0 at the rim."""
    across, down = torch.zeros_like(light), torch.zeros_like(light)
    across[..., 1:-1] = (light[..., 2:] - light[..., :-2]) / 2
    down[..., 1:-1, :] = (light[..., 2:, :] - light[..., :-2, :]) / 2
    return across, down


def _cut(planes: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """The window (B, 4) of each picture at the picture's own size, and which pixels lie inside it."""
    side = planes.shape[-1]
    along = (torch.arange(side) + 0.5) / side
    x = window[:, 0:1] + window[:, 1:2] * along
    y = window[:, 2:3] + window[:, 3:4] * along
    grid = torch.stack(
        [(2 * x - 1)[:, None, :].expand(-1, side, -1), (2 * y - 1)[:, :, None].expand(-1, -1, side)], dim=-1
    )
    cut = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    inside = ((x >= 0) & (x <= 1))[:, None, :] & ((y >= 0) & (y <= 1))[:, :, None]
    return cut, inside.float()


def _aligned(one: Tensor, other: Tensor, window: Tensor, *, rounds: int) -> tuple[Tensor, Tensor]:
    """The window of `other` that shows `one`, both (B, 1, S, S), by Gauss-Newton steps; and what is left of
    `one` where that is taken off, as a share of its standard deviation."""
    side = one.shape[-1]
    across, down = _slopes(other)
    layers = torch.cat([other, across * side, down * side], dim=1)
    along = (torch.arange(side) + 0.5) / side
    low, high = torch.tensor([-0.25, 0.5, -0.25, 0.5]), torch.tensor([0.5, 1.3, 0.5, 1.3])
    for _ in range(rounds):
        cut, inside = _cut(layers, window)
        x, y = cut[:, 1] * inside, cut[:, 2] * inside
        slopes = torch.stack([x, x * along, y, y * along[:, None]], dim=1).flatten(2)
        rest = ((one[:, 0] - cut[:, 0]) * inside).flatten(1)[..., None]
        normal = slopes @ slopes.transpose(1, 2)
        ridge = 1e-3 * normal.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-4
        normal = normal + ridge[:, None, None] * torch.eye(4)
        step = torch.linalg.solve(normal, slopes @ rest)[..., 0]
        window = torch.minimum(torch.maximum(window + step.clamp(-0.1, 0.1), low), high)
    cut, inside = _cut(other, window)
    rest = ((one - cut)[:, 0] ** 2 * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
    return window, rest.sqrt() / one.flatten(1).std(dim=1, correction=0).clamp(min=0.01)


def _difference(one: Tensor, other: Tensor, window: Tensor) -> Tensor:
    """The difference of pictures (B, 3, SIDE, SIDE) from windows of others, (B,); infinite for a window that
    no crop gives."""
    cut, inside = _cut(other, window)
    plain_one, plain_cut = _smooth(one), _smooth(cut)
    apart = plain_one - plain_cut
    slope = torch.maximum(
        sum((part**2 for part in _slopes(plain_one[:, 0])), torch.zeros(())),
        sum((part**2 for part in _slopes(plain_cut[:, 0])), torch.zeros(())),
    )
    light = apart[:, 0] ** 2 / (_NOISE**2 + (_EDGE**2) * slope) * inside
    share = inside.sum(dim=(1, 2)).clamp(min=1)
    overall = (light.sum(dim=(1, 2)) / share).sqrt()
    block = F.avg_pool2d(light[:, None], 4, 2).flatten(1).amax(dim=1).sqrt()
    hue = F.avg_pool2d((apart[:, 1:] ** 2).sum(dim=1, keepdim=True) * inside[:, None], 4, 2)
    colour = hue.flatten(1).amax(dim=1).sqrt()
    grey = (one[:, 1:].abs().flatten(1).amax(dim=1) < _GREY) | (
        other[:, 1:].abs().flatten(1).amax(dim=1) < _GREY
    )
    worst = torch.stack([overall / OVERALL, block / BLOCK, torch.where(grey, 0.0, colour / HUE)]).amax(dim=0)
    ratio = window[:, 1] / window[:, 3]
    spread = ((plain_one[:, 0] - plain_one[:, 0].mean(dim=(1, 2), keepdim=True)) ** 2).mean(dim=(1, 2)).sqrt()
    possible = (ratio > 0.7) & (ratio < 1 / 0.7) & (share >= 0.5 * SIDE * SIDE) & (spread >= PLAIN / 2)
    return torch.where(possible & worst.isfinite(), worst, torch.inf)


def _reverse(found: _Found) -> _Found:
    """The same seen from the other side: positions and windows undone."""
    undone = np.array([0, 1, 2, 3, 4, 6, 5, 7])[found.position]
    x, width, y, height = found.window.T
    back = np.stack([-x / width, 1 / width, -y / height, 1 / height], axis=1)
    for row, position in enumerate(undone):
        back[row] = _carried(back[row], int(position))
    return _Found(found.right, found.left, found.difference, undone, back.astype(np.float32))


def _carried(window: Real, position: int) -> Real:
    """A window of an untouched picture as one of the picture in `position`."""
    x, width, y, height = window
    if position & 4:
        x, width, y, height = y, height, x, width
    if position & 2:
        y = 1 - y - height
    if position & 1:
        x = 1 - x - width
    return np.array([x, width, y, height])


def _gathered(parts: list[_Found], *, same: bool) -> NearCopies:
    """Each pair once, by its smallest difference, the most alike first."""
    if same:
        parts = [_ordered(part) for part in parts]
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return NearCopies(none, none, np.empty(0, np.float32), none, np.empty((0, 4), np.float32))
    left, right, difference, position, window = (
        np.concatenate(values) for values in zip(*parts, strict=True)
    )
    order = np.lexsort((position, difference, right, left))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(left[order]) != 0) | (np.diff(right[order]) != 0)
    order = order[first]
    order = order[np.lexsort((right[order], left[order], difference[order]))]
    return NearCopies(left[order], right[order], difference[order], position[order], window[order])


def _ordered(found: _Found) -> _Found:
    """The same, with left < right."""
    swap = found.left > found.right
    back = _reverse(found)
    return _Found(
        np.where(swap, back.left, found.left),
        np.where(swap, back.right, found.right),
        found.difference,
        np.where(swap, back.position, found.position),
        np.where(swap[:, None], back.window, found.window),
    )
