"""The parameters of views: drawn by key, so that no batch, worker or order of work changes them.

Every operation owns fixed columns of one keyed draw a view, whether a recipe uses it or not: leaving jitter
out leaves the crops as they were. What few views need (further attempts at a crop, backgrounds) has draws of
its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs.keyed import uniform
from sempairs.views.config import Recipe

STREAM = "views"
# Operations of the keyed draw: the table below, then what only some views need.
TABLE, CROP_RETRY, SIDE, BACKGROUND = range(4)
# Slots: the global crop of the anchor and that of the partner, further global crops from 2 on, local crops.
SLOTS, FURTHER, LOCAL = (0, 1), 2, 1 << 10
# Columns of the table. Fixed for good: a new operation takes columns from 15 on, or an operation of its own.
CROP, FLIP, JITTER, GRAY, BLUR, SOLARISE = slice(0, 4), 4, slice(5, 11), 11, slice(12, 14), 14
COLUMNS = 15

ATTEMPTS = 10  # at a crop, as in torchvision
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = np.array(list(permutations(range(4))))
# A background's columns: two colours, then a grid of GRID x GRID shades between them.
GRID = 5

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class ViewParameters:
    """What is done to each of V views; those of B pairs lie slot by slot: B anchors, then their B partners.

    box: (V, 4) top, left, height, width in pixels of the store. order: (V, 4), which of brightness 0,
    contrast 1, saturation 2, hue 3 comes first, second, ...; factors: (V, 4), indexed by those numbers.
    sigma: (V,) pixels, 0 for no blur. background: (V, 6 + GRID * GRID) in [0, 1), None where not asked for.
    """

    box: Int
    flip: Bool
    jitter: Bool
    order: Int
    factors: Float
    gray: Bool
    sigma: Float
    solarise: Bool
    background: Float | None

    def take(self, rows: Int) -> ViewParameters:
        """Those of the views at `rows`, in that order."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        taken: dict[str, Any] = {name: None if value is None else value[rows] for name, value in values}
        return ViewParameters(**taken)


def draw_parameters(
    recipe: Recipe,
    *,
    size: int,
    seed: int,
    epoch: int,
    occurrence: Int,
    slots: Sequence[int] = SLOTS,
    opposite: Collection[int] = (),
    background: bool = False,
) -> ViewParameters:
    """Those of the views in `slots` of the pairs at `occurrence` (B,); `size` is the store's, in pixels.

    opposite: of further slots, those that have the partner's side instead of one of their own.
    """

    def draw(slot: int, operation: int, n: int, rows: Int = occurrence) -> Float:
        return uniform(seed, STREAM, epoch=epoch, occurrence=rows, slot=slot, operation=operation, n=n)

    table = np.concatenate([draw(slot, TABLE, COLUMNS) for slot in slots])
    if recipe.crop_scale is None:
        box = np.tile(np.array([0, 0, size, size]), (len(table), 1))
    else:
        box, found = crop_box(table[:, None, CROP], recipe.crop_scale, recipe.crop_aspect, size)
        again = np.flatnonzero(~found)
        if len(again):
            failed = [occurrence[~part] for part in found.reshape(len(slots), -1)]
            retries = [
                draw(s, CROP_RETRY, 4 * (ATTEMPTS - 1), of) for s, of in zip(slots, failed, strict=True)
            ]
            draws = np.concatenate(retries).reshape(len(again), ATTEMPTS - 1, 4)
            box[again] = crop_box(draws, recipe.crop_scale, recipe.crop_aspect, size)[0]
    # The usual slots that these share the side of, and those that draw one.
    usual = [1 if slot in opposite else slot for slot in slots]
    side = np.repeat(usual, len(occurrence)) % 2
    if recipe.sides[0] != recipe.sides[1]:
        # One coin a pair, shared by its first two views; each further view has its own.
        coins = [draw(slot if slot >= FURTHER else 0, SIDE, 1)[:, 0] < 0.5 for slot in usual]
        side ^= np.concatenate(coins)
    blur = np.array([of_side.blur for of_side in recipe.sides])[side]
    solarise = np.array([of_side.solarise for of_side in recipe.sides])[side]
    jitter, (least, most) = table[:, JITTER], recipe.blur_sigma
    centre, spread = np.array([1.0, 1.0, 1.0, 0.0]), np.array(recipe.jitter_strength)
    low = np.maximum(centre - spread, [0.0, 0.0, 0.0, -0.5])
    texture = 6 + GRID * GRID
    return ViewParameters(
        box=box,
        flip=table[:, FLIP] < recipe.flip,
        jitter=jitter[:, 0] < recipe.jitter,
        order=ORDERS[(jitter[:, 1] * len(ORDERS)).astype(np.int64)],
        factors=low + (centre + spread - low) * jitter[:, 2:],
        gray=table[:, GRAY] < recipe.gray,
        sigma=(table[:, BLUR][:, 0] < blur) * (least + (most - least) * table[:, BLUR][:, 1]),
        solarise=table[:, SOLARISE] < solarise,
        background=np.concatenate([draw(s, BACKGROUND, texture) for s in slots]) if background else None,
    )


def crop_box(
    draws: Float, scale: tuple[float, float], aspect: tuple[float, float], size: int
) -> tuple[Int, Bool]:
    """The first attempt at a crop that fits, (B, 4) top, left, height, width, and which rows have one.

    draws: (B, attempts, 4). The law of torchvision's `RandomResizedCrop.get_params` on a square image: area
    uniform in `scale`, log of the aspect ratio uniform, sides rounded; where nothing fits, the whole image.
    """
    area = size * size * (scale[0] + (scale[1] - scale[0]) * draws[..., 0])
    ratio = np.exp(np.log(aspect[0]) + np.log(aspect[1] / aspect[0]) * draws[..., 1])
    sides = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=-1))).astype(np.int64)
    fits = ((sides > 0) & (sides <= size)).all(axis=-1)
    corner = np.floor(draws[..., 2:] * (size - sides + 1)).astype(np.int64)
    boxes = np.concatenate([corner, sides], axis=-1)
    first = np.argmax(fits, axis=1)
    rows = np.arange(len(draws))
    found = fits.any(axis=1)
    return np.where(found[:, None], boxes[rows, first], [0, 0, size, size]), found
