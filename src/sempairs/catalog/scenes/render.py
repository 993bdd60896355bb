"""One scene: drawings with alpha laid on a ground, and where each can be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sempairs.catalog.scenes.config import ScenesConfig
from sempairs.catalog.scenes.grounds import Pixels, clutter, ground
from sempairs.catalog.scenes.scene_draws import SceneDraws

#: Paints what lies behind everything, (size, size, 3).
Ground = Callable[[SceneDraws, int], Pixels]
Mask = NDArray[np.bool_]
OPAQUE = 128
"""Alpha from which a pixel belongs to its object."""
ATTEMPTS = 20
_LARGEST_CLUTTER = 0.35


@dataclass(frozen=True)
class Placed:
    """An object of a scene. row: of the catalogue. box: xmin, ymin, xmax, ymax around its visible pixels, in
    pixels from 0, the upper ends excluded. visible: share of its pixels that can be seen, in (0, 1]."""

    row: int
    box: tuple[int, int, int, int]
    visible: float
    truncated: bool
    occluded: bool


@dataclass(frozen=True)
class Scene:
    """picture: RGB. objects: from the lowest to the topmost."""

    picture: Image.Image
    objects: tuple[Placed, ...]


def render(
    draws: SceneDraws,
    config: ScenesConfig,
    choose: Callable[[SceneDraws], int],
    drawing: Callable[[int], Image.Image],
    behind: Ground = ground,
) -> Scene:
    """choose: the catalogue row of the next object. drawing: its picture, RGBA. behind: paints the ground.

    Boxes are exact: counted on the pixels drawn, after everything that came on top. An object that would
    hide itself, or another, beyond `config.visible` is placed anew, and left out after `ATTEMPTS` tries.
    """
    size = config.size
    canvas = Image.fromarray(behind(draws, size)).convert("RGBA")
    wanted, shapes = draws.integer(*config.objects), draws.integer(*config.clutter)
    rows: list[int] = []
    full: list[int] = []  # pixels of each object, were nothing in its way
    inside: list[int] = []  # those that lie on the canvas
    seen: list[Mask] = []
    # Clutter comes first or between the objects, never over an object beyond its limit.
    kinds = ["object"] * wanted + ["clutter"] * shapes
    order = np.argsort(draws.uniform(len(kinds)), kind="stable")
    for kind in (kinds[i] for i in order):
        row = choose(draws) if kind == "object" else -1
        sprite = _cropped(drawing(row)) if row >= 0 else None
        for _ in range(ATTEMPTS):
            if sprite is None:
                layer = clutter(draws, size, (0.05, _LARGEST_CLUTTER))
                pixels = 0
            else:
                layer, pixels = _lay(draws, config, sprite)
            cover = _opaque(layer)
            left = [mask & ~cover for mask in seen]
            enough = all(mask.sum() >= config.visible * n for mask, n in zip(left, full, strict=True)) and (
                row < 0 or cover.sum() >= max(config.visible * pixels, 1)
            )
            if enough:
                canvas.alpha_composite(layer)
                seen = left
                if row >= 0:
                    rows, full = [*rows, row], [*full, pixels]
                    seen, inside = [*seen, cover], [*inside, int(cover.sum())]
                break
    objects = [
        Placed(row, _box(mask), float(mask.sum() / n), truncated=left < n, occluded=bool(mask.sum() < left))
        for row, n, left, mask in zip(rows, full, inside, seen, strict=True)
    ]
    return Scene(canvas.convert("RGB"), tuple(objects))


def alone(
    draws: SceneDraws, size: int, config: ScenesConfig, sprite: Image.Image, behind: Ground = ground
) -> Image.Image:
    """A drawing by itself, large and whole, on a ground of its own: RGB (size, size)."""
    canvas = Image.fromarray(behind(draws, size)).convert("RGBA")
    for _ in range(draws.integer(*config.clutter)):
        canvas.alpha_composite(clutter(draws, size, (0.05, _LARGEST_CLUTTER)))
    turned = _turned(draws, config, _cropped(sprite), size * draws.between(0.5, 0.7))
    free = [max(size - side, 0) for side in turned.size]
    corner = [int(share * room) for share, room in zip(draws.uniform(2), free, strict=True)]
    layer = Image.new("RGBA", (size, size))
    layer.paste(turned, (corner[0], corner[1]))
    canvas.alpha_composite(layer)
    return canvas.convert("RGB")


def _lay(draws: SceneDraws, config: ScenesConfig, sprite: Image.Image) -> tuple[Image.Image, int]:
    """The sprite turned, scaled and placed on a clear canvas, and how many pixels it has in all."""
    low, high = np.log(config.scale)
    turned = _turned(draws, config, sprite, config.size * float(np.exp(draws.between(low, high))))
    corner = []
    for side, share in zip(turned.size, draws.uniform(2), strict=True):
        out = config.beyond * side
        corner.append(round(-out + share * (config.size - side + 2 * out)))
    layer = Image.new("RGBA", (config.size, config.size))
    layer.paste(turned, (corner[0], corner[1]))
    return layer, int(_opaque(turned).sum())


def _turned(draws: SceneDraws, config: ScenesConfig, sprite: Image.Image, side: float) -> Image.Image:
    """Longer side `side` pixels, then turned. Premultiplied, so that clear pixels lend no colour to edges."""
    factor = side / max(sprite.size)
    width, height = (max(1, round(factor * length)) for length in sprite.size)
    shrunk = sprite.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    angle = draws.between(-config.rotation, config.rotation)
    return shrunk.rotate(angle, Image.Resampling.BICUBIC, expand=True).convert("RGBA")


def _cropped(sprite: Image.Image) -> Image.Image:
    """RGBA without its clear margin; a picture without alpha is opaque all over."""
    drawn = sprite.convert("RGBA")
    return drawn.crop(drawn.getchannel("A").getbbox())


def _opaque(layer: Image.Image) -> Mask:
    return np.asarray(layer.getchannel("A")) >= OPAQUE


def _box(mask: Mask) -> tuple[int, int, int, int]:
    xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
