"""Transformations of pictures at five strengths, to see what an encoder is invariant to.

Those of Ericsson et al. 2021b, arXiv:2111.11398, section 3.2, and a few more. Each takes (B, 3, S, S) floats
in [0, 1] and draws (B,) in [0, 1) that decide the direction of what has one, and gives the same shape back.
What a geometric transformation uncovers is white, as the ground of the pictures is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

Apply = Callable[[Tensor, float, Tensor], Tensor]


@dataclass(frozen=True)
class Transform:
    """values: what the five strengths are, in the unit that `unit` names; one value: it has no strengths."""

    values: tuple[float, ...]
    unit: str
    apply: Apply


def _sign(draw: Tensor) -> Tensor:
    return torch.where(draw < 0.5, -1.0, 1.0)


def _affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Samples at `matrix` (B, 2, 3) times the output's coordinates in [-1, 1]; white outside."""
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images - 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + 1


def _matrix(draw: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    rows = torch.stack([torch.stack([a, b, x], dim=1), torch.stack([c, d, y], dim=1)], dim=1)
    return rows.to(draw.dtype)


def _rotate(images: Tensor, degrees: float, draw: Tensor) -> Tensor:
    angle = _sign(draw) * math.radians(degrees)
    nil = torch.zeros_like(draw)
    return _affine(images, _matrix(draw, angle.cos(), -angle.sin(), angle.sin(), angle.cos(), nil, nil))


def _translate(images: Tensor, share: float, draw: Tensor) -> Tensor:
    """By `share` of the side, in a direction all around."""
    angle, one, nil = 2 * math.pi * draw, torch.ones_like(draw), torch.zeros_like(draw)
    x, y = 2 * share * angle.cos(), 2 * share * angle.sin()
    return _affine(images, _matrix(draw, one, nil, nil, one, x, y))


def _scaled(images: Tensor, factor: float, draw: Tensor) -> Tensor:
    """Shows `factor` of the side: below 1 the middle enlarged, above 1 the picture made smaller."""
    size, nil = torch.full_like(draw, factor), torch.zeros_like(draw)
    return _affine(images, _matrix(draw, size, nil, nil, size, nil, nil))


def _shear(images: Tensor, degrees: float, draw: Tensor) -> Tensor:
    lean = _sign(draw) * math.tan(math.radians(degrees))
    one, nil = torch.ones_like(draw), torch.zeros_like(draw)
    return _affine(images, _matrix(draw, one, lean, nil, one, nil, nil))


def _hue(images: Tensor, turn: float, draw: Tensor) -> Tensor:
    """By `turn` of the colour circle, either way."""
    up = tv.adjust_hue(images, turn)
    return torch.where((draw < 0.5)[:, None, None, None], up, tv.adjust_hue(images, -turn))


def _noise(images: Tensor, deviation: float, draw: Tensor) -> Tensor:
    """Gaussian, the same pattern at every strength; its seed is the batch's draws, so a pure function."""
    generator = torch.Generator().manual_seed(int(draw.double().sum() * 2**40) % 2**63)
    pattern = torch.randn(images.shape, generator=generator).to(images)
    return (images + deviation * pattern).clamp(0, 1)


def _blur(images: Tensor, sigma: float, draw: Tensor) -> Tensor:
    """sigma: of the side, so that it means the same at every size."""
    pixels = sigma * images.shape[-1]
    width = 2 * max(1, math.ceil(3 * pixels)) + 1
    width = min(width, 2 * (images.shape[-1] // 2) - 1)
    blurred: Tensor = tv.gaussian_blur(images, [width, width], [pixels, pixels])
    return blurred


def _pixelate(images: Tensor, share: float, draw: Tensor) -> Tensor:
    side = images.shape[-1]
    coarse = F.interpolate(images, size=max(1, round(share * side)), mode="area")
    return F.interpolate(coarse, size=side, mode="nearest")


def _occlude(images: Tensor, share: float, draw: Tensor) -> Tensor:
    """A grey square of `share` of the side, its place all over."""
    side = images.shape[-1]
    patch = max(1, round(share * side))
    out = images.clone()
    x = (draw * (side - patch + 1)).long()
    y = ((draw * 997 % 1) * (side - patch + 1)).long()
    for image, left, top in zip(out, x.tolist(), y.tolist(), strict=True):
        image[:, top : top + patch, left : left + patch] = 0.5
    return out


def _grey(images: Tensor, share: float, draw: Tensor) -> Tensor:
    return torch.lerp(images, tv.rgb_to_grayscale(images, 3), share)


TRANSFORMS: Mapping[str, Transform] = {
    "rotation": Transform((10, 20, 40, 60, 90), "degrees", _rotate),
    "translation": Transform((0.05, 0.1, 0.15, 0.2, 0.3), "of the side", _translate),
    "enlargement": Transform((0.9, 0.75, 0.6, 0.45, 0.3), "of the side shown", _scaled),
    "reduction": Transform((1.1, 1.3, 1.6, 2.0, 3.0), "of the side shown", _scaled),
    "shear": Transform((5, 10, 20, 30, 40), "degrees", _shear),
    "horizontal flip": Transform((1,), "", lambda images, _, __: images.flip(3)),
    "vertical flip": Transform((1,), "", lambda images, _, __: images.flip(2)),
    "brightness up": Transform(
        (1.2, 1.4, 1.7, 2.0, 2.5), "times", lambda i, v, _: tv.adjust_brightness(i, v)
    ),
    "brightness down": Transform(
        (0.8, 0.65, 0.5, 0.35, 0.2), "times", lambda i, v, _: tv.adjust_brightness(i, v)
    ),
    "contrast": Transform((0.8, 0.65, 0.5, 0.35, 0.2), "times", lambda i, v, _: tv.adjust_contrast(i, v)),
    "saturation": Transform((1.3, 1.6, 2.0, 3.0, 4.0), "times", lambda i, v, _: tv.adjust_saturation(i, v)),
    "greyscale": Transform((0.2, 0.4, 0.6, 0.8, 1.0), "of the way", _grey),
    "hue": Transform((0.05, 0.1, 0.2, 0.3, 0.5), "of a turn", _hue),
    "inversion": Transform((1,), "", lambda images, _, __: 1 - images),
    "solarisation": Transform((0.9, 0.75, 0.5, 0.3, 0.1), "threshold", lambda i, v, _: tv.solarize(i, v)),
    "posterisation": Transform(
        (5, 4, 3, 2, 1), "bits", lambda i, v, _: torch.floor(i * (2**v - 1e-4)) / (2**v - 1)
    ),
    "blur": Transform((0.01, 0.02, 0.03, 0.05, 0.08), "of the side", _blur),
    "noise": Transform((0.02, 0.05, 0.1, 0.2, 0.3), "deviation", _noise),
    "pixelation": Transform((0.6, 0.45, 0.3, 0.2, 0.12), "of the side", _pixelate),
    "occlusion": Transform((0.1, 0.2, 0.3, 0.4, 0.5), "of the side", _occlude),
}
"""By name. Flips and inversion have no strengths."""
