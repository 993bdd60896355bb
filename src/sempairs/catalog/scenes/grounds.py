"""What lies behind and between the objects of a scene: drawn, or a texture that the user gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sempairs.catalog.scenes.scene_draws import SceneDraws

Pixels = NDArray[np.uint8]


def ground(draws: SceneDraws, size: int) -> Pixels:
    """(size, size, 3): a plain colour, a gradient, soft noise, stripes or checks, with two keyed colours."""
    kinds = (_plain, _gradient, _noise, _noise, _stripes, _checks)
    mix = kinds[draws.integer(0, len(kinds) - 1)](draws, size)[..., None]
    first, second = draws.colour(), draws.colour()
    grain = draws.between(0, 12) * (_smooth(draws, size, size // 2) - 0.5)[..., None]
    return np.clip(first * (1 - mix) + second * mix + grain, 0, 255).astype(np.uint8)


def laid(draws: SceneDraws, size: int, texture: Image.Image) -> Pixels:
    """(size, size, 3): a texture at a keyed scale and place, repeated in mirror image, so without seams.

    Its shorter side is its own, at most enlarged to the ground's.
    """
    side = min(texture.size)
    factor = draws.between(1.0, max(1.0, size / side))
    width, height = (max(1, round(factor * length)) for length in texture.size)
    tile = np.asarray(texture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    right, down = (
        int(share * length) for share, length in zip(draws.uniform(2), (width, height), strict=True)
    )
    rows, columns = (_mirrored(start, size, n) for start, n in ((down, height), (right, width)))
    return np.ascontiguousarray(tile[rows][:, columns])


def clutter(draws: SceneDraws, size: int, scale: tuple[float, float]) -> Image.Image:
    """One RGBA shape of no class on a clear canvas (size, size): an ellipse, a polygon or a bent line."""
    canvas = Image.new("RGBA", (size, size))
    pen = ImageDraw.Draw(canvas)
    colour = (*(int(value) for value in draws.colour()), 255)
    reach = size * draws.between(*scale) / 2
    centre = size * draws.uniform(2)
    kind = draws.integer(0, 2)
    if kind == 0:
        half = reach * (0.4 + 0.6 * draws.uniform(2))
        pen.ellipse([*(centre - half), *(centre + half)], fill=colour)
    else:
        angles = np.sort(2 * np.pi * draws.uniform(draws.integer(3, 7)))
        radii = reach * (0.4 + 0.6 * draws.uniform(len(angles)))
        corners = centre[:, None] + radii * np.stack([np.cos(angles), np.sin(angles)])
        points = [(float(x), float(y)) for x, y in corners.T]
        if kind == 1:
            pen.polygon(points, fill=colour)
        else:
            pen.line(points, fill=colour, width=max(1, int(reach * draws.between(0.05, 0.3))), joint="curve")
    return canvas


def _mirrored(start: int, size: int, n: int) -> NDArray[np.int64]:
    """Places start, start + 1, … of a line of n that is repeated forward and backward."""
    place = np.arange(start, start + size) % (2 * n)
    return np.where(place < n, place, 2 * n - 1 - place)


def _plain(draws: SceneDraws, size: int) -> NDArray[np.float64]:
    return np.zeros((size, size))


def _gradient(draws: SceneDraws, size: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * draws.uniform()[0]
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    return np.asarray(np.clip(0.5 + np.cos(angle) * x + np.sin(angle) * y, 0, 1))


def _noise(draws: SceneDraws, size: int) -> NDArray[np.float64]:
    """Octaves of smooth noise, each half as strong as the one before."""
    cells = draws.integer(2, 6)
    octaves = [_smooth(draws, size, min(cells * 2**i, size)) / 2**i for i in range(4)]
    total = np.sum(octaves, axis=0)
    return np.asarray((total - total.min()) / max(float(np.ptp(total)), 1e-9))


def _stripes(draws: SceneDraws, size: int) -> NDArray[np.float64]:
    angle, period, phase = np.pi * draws.uniform()[0], draws.between(0.05, 0.4), draws.uniform()[0]
    y, x = np.mgrid[0:size, 0:size] / size
    along = (np.cos(angle) * x + np.sin(angle) * y) / period
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * (along + phase)))


def _checks(draws: SceneDraws, size: int) -> NDArray[np.float64]:
    cell = max(2, int(size * draws.between(0.05, 0.3)))
    y, x = np.mgrid[0:size, 0:size] // cell
    return np.asarray((x + y) % 2, dtype=np.float64)


def _smooth(draws: SceneDraws, size: int, cells: int) -> NDArray[np.float64]:
    """Noise in [0, 1) at `cells` points a side, bicubic in between."""
    coarse = Image.fromarray(draws.uniform(cells * cells).reshape(cells, cells).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)
