"""What shows through transparent pixels.

A crop is resized with its colours multiplied by alpha, then laid over the background. As resizing is linear
and its weights sum to 1, this equals laying the full image over one colour first and cropping then (1e-6,
tested). A texture is drawn at the size of the view, so it does not scale with the crop. White is laid under
the store's bytes once, rounded to whole levels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sempairs.views.parameters import GRID


def backdrop(draws: Tensor, size: int, *, texture: bool) -> Tensor:
    """Planes (3, B, size, size), or (3, B, 1, 1) for one colour each.

    draws: (B, 6 + GRID * GRID) in [0, 1).
    A texture is a coarse grid of shades between two colours, enlarged smoothly.
    """
    colours: Tensor = draws[:, :6].T.reshape(2, 3, -1, 1, 1)
    first, second = colours[0], colours[1]
    if not texture:
        return first
    enlarge = _enlarge(size).to(draws.device)
    shade: Tensor = enlarge @ draws[:, 6:].view(-1, GRID, GRID) @ enlarge.T
    return first + (second - first) * shade


def composite(planes: Tensor, behind: Tensor | float) -> Tensor:
    """Premultiplied planes (4, B, S, S) in [0, 1] over a background; planes (3, B, S, S)."""
    return planes[:3].add_((1.0 - planes[3]) * behind)


@lru_cache(maxsize=4)
def _enlarge(size: int) -> Tensor:
    """(size, GRID) weights of linear interpolation from GRID points that span the image."""
    place = torch.linspace(0.0, GRID - 1.0, size)
    return (1.0 - (place[:, None] - torch.arange(GRID)).abs()).clamp(min=0.0)
