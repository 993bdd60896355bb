"""Common corruptions at five strengths. Hendrycks and Dietterich 2019, arXiv:1903.12261, and their code.

The constants are those published for ImageNet-C (224 pixels) and CIFAR-10-C (32); a picture takes those of
the size that is nearer, by ratio. Of the fifteen, glass blur, snow and frost (which needs photographs of ice)
are left out. Each takes (B, 3, S, S) floats in [0, 1], the constants of a strength and a generator for each
picture, and gives the same shape back. A picture is corrupted at the size at which the encoder sees it, and
rounded down to whole levels, as published; ImageNet-C then also stores a JPEG, which is not done here. A
picture's draws are the same at every strength.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sempairs import keyed

SMALL = 84
"""√(32 · 224): at most so many pixels a side take the constants of CIFAR-10-C."""
STRENGTHS = 5

Draws = Sequence[np.random.Generator]
Apply = Callable[[Tensor, Any, Draws], Tensor]


@dataclass(frozen=True)
class Corruption:
    """small, large: what each of the five strengths is, for CIFAR-10-C and ImageNet-C."""

    small: tuple[Any, ...]
    large: tuple[Any, ...]
    apply: Apply

    def constants(self, size: int) -> tuple[Any, ...]:
        """Those for pictures of `size` pixels a side."""
        return self.small if size <= SMALL else self.large


def corrupted(images: Tensor, name: str, strength: int, keys: NDArray[np.uint64]) -> Tensor:
    """(B, 3, S, S) floats in [0, 1], corrupted and rounded down to whole levels of 255.

    strength: 1 to 5. keys: (B,), a number a picture, on which its draws depend, and on `name`.
    """
    one = CORRUPTIONS[name]
    constants = one.constants(images.shape[-1])[strength - 1]
    salt = int(keyed.text_key(0, "corruptions", [name])[0])
    draws = [np.random.Generator(np.random.Philox(key=[salt, int(key)])) for key in keys]
    changed = one.apply(images, constants, draws).clamp(0, 1)
    return torch.floor(changed * 255 + 1e-3) / 255  # a whole level must not fall by rounding


def _stacked(like: Tensor, arrays: Sequence[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(like)


# Noise --------------------------------------------------------------------------------------------


def _gaussian_noise(images: Tensor, deviation: float, draws: Draws) -> Tensor:
    shape = images.shape[1:]
    return images + deviation * _stacked(images, [g.standard_normal(shape, np.float32) for g in draws])


def _shot_noise(images: Tensor, photons: float, draws: Draws) -> Tensor:
    """Poisson, with `photons` at full brightness."""
    counts = [
        g.poisson(image * photons) for g, image in zip(draws, images.double().cpu().numpy(), strict=True)
    ]
    return _stacked(images, counts) / photons


def _impulse_noise(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Salt and pepper, in each channel apart."""
    both = _stacked(images, [g.random((2, *images.shape[1:]), np.float32) for g in draws])
    return torch.where(both[:, 0] < share, (both[:, 1] < 0.5).to(images), images)


# Blur ---------------------------------------------------------------------------------------------


def disk(radius: float, alias: float) -> NDArray[np.float64]:
    """The kernel of a lens out of focus: a disk, softened by a Gaussian of deviation `alias`.

    Its sum is 1, or up to 1.013 where the disk touches the border, which is mirrored, as published.
    """
    from scipy.ndimage import correlate1d

    reach, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    line = np.arange(-reach, reach + 1)
    x, y = np.meshgrid(line, line)
    kernel = (x**2 + y**2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    gauss = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * alias**2))
    gauss /= gauss.sum()
    for axis in (0, 1):
        kernel = correlate1d(kernel, gauss, axis=axis, mode="mirror")
    return np.asarray(kernel)


def _defocus(images: Tensor, constants: tuple[float, float], draws: Draws) -> Tensor:
    kernel = disk(*constants)
    while kernel.shape[0] > 1 and not kernel[0].any():  # nothing but zeros around: a smaller border will do
        kernel = kernel[1:-1, 1:-1]
    reach = kernel.shape[0] // 2
    weight = torch.from_numpy(kernel).to(images).expand(3, 1, -1, -1)
    return F.conv2d(_reflected(images, reach), weight, groups=3)


def _reflected(images: Tensor, reach: int) -> Tensor:
    """With a border mirrored about the outermost pixels, as often as needed."""
    side = images.shape[-1]
    place = torch.arange(-reach, side + reach, device=images.device)
    period = max(1, 2 * (side - 1))
    place = place.remainder(period)
    place = torch.where(place >= side, period - place, place)
    return images[:, :, place][:, :, :, place]


def _motion(images: Tensor, constants: tuple[int, float], draws: Draws) -> Tensor:
    """As ImageMagick has it: a Gaussian's one half, along a line of -45 to 45 degrees, edges going on."""
    radius, sigma = constants
    width, side = 2 * radius + 1, images.shape[-1]
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = np.radians([g.uniform(-45, 45) for g in draws])
    rows, batch = torch.arange(side, device=images.device), torch.arange(len(images), device=images.device)
    out = torch.zeros_like(images)
    for i, weight in enumerate(weights):
        down, right = (
            torch.from_numpy(np.ceil(i * part - 0.5)).long().to(images.device)[:, None]
            for part in (np.sin(angle), np.cos(angle))
        )
        y, x = ((rows + shift).clamp(0, side - 1) for shift in (down, right))
        # Indices apart on both sides of a slice put the indexed axes first.
        found = images[batch[:, None, None], :, y[:, :, None], x[:, None, :]]
        out += float(weight) * found.permute(0, 3, 1, 2)
    return out


def _zoom(images: Tensor, constants: tuple[float, float], draws: Draws) -> Tensor:
    """The mean of the picture and of enlargements of it from 1 to `end` by `step`."""
    end, step = constants
    factors = np.arange(1, end, step)
    side, out = images.shape[-1], images.clone()
    for factor in factors:
        crop = math.ceil(side / factor)
        start, wide = (side - crop) // 2, round(crop * factor)
        part = images[:, :, start : start + crop, start : start + crop]
        large = F.interpolate(part, size=(wide, wide), mode="bilinear", align_corners=True)
        trim = (wide - side) // 2
        out += large[:, :, trim : trim + side, trim : trim + side]
    return out / (len(factors) + 1)


# Weather ------------------------------------------------------------------------------------------


def plasma(side: int, decay: float, draws: Draws) -> NDArray[np.float64]:
    """Clouds by diamond and square, (B, side, side) in [0, 1]; side: a power of two."""
    land = np.zeros((len(draws), side, side))
    step, wibble = side, 100.0

    def mean(total: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = np.stack([g.uniform(-wibble, wibble, total.shape[1:]) for g in draws])
        return total / 4 + wibble * moved

    while step >= 2:
        half = step // 2
        corner = land[:, ::step, ::step]
        total = corner + np.roll(corner, -1, axis=1)
        total = total + np.roll(total, -1, axis=2)
        land[:, half::step, half::step] = mean(total)
        middle, corner = land[:, half::step, half::step], land[:, ::step, ::step]
        beside, above = middle + np.roll(middle, 1, axis=1), middle + np.roll(middle, 1, axis=2)
        land[:, ::step, half::step] = mean(beside + corner + np.roll(corner, -1, axis=2))
        land[:, half::step, ::step] = mean(above + corner + np.roll(corner, -1, axis=1))
        step, wibble = half, wibble / decay
    land -= land.min(axis=(1, 2), keepdims=True)
    return np.asarray(land / land.max(axis=(1, 2), keepdims=True))


def _fog(images: Tensor, constants: tuple[float, float], draws: Draws) -> Tensor:
    thick, decay = constants
    side = images.shape[-1]
    clouds = plasma(1 << max(1, side - 1).bit_length(), decay, draws)[:, None, :side, :side]
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    return (images + thick * torch.from_numpy(clouds).to(images)) * brightest / (brightest + thick)


def _brightness(images: Tensor, more: float, draws: Draws) -> Tensor:
    """Adds to the value of HSV, hue and saturation kept: every channel grows in proportion."""
    value = images.amax(dim=1, keepdim=True)
    grown = (value + more).clamp(0, 1)
    return torch.where(value > 0, images * grown / value.clamp(min=1e-9), grown.expand_as(images))


# Digital ------------------------------------------------------------------------------------------


def _contrast(images: Tensor, share: float, draws: Draws) -> Tensor:
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * share + mean


def _elastic(images: Tensor, constants: tuple[float, float, float], draws: Draws) -> Tensor:
    """A random affine map of three points, moved by up to `most` pixels; then each pixel moved by noise of
    height `alpha`, smoothed by a Gaussian of deviation `sigma`."""
    alpha, sigma, most = constants
    side = images.shape[-1]
    centre, square = side // 2, side // 3
    points = np.array([[1, 1], [1, -1], [-1, -1]]) * square + centre
    line = np.arange(side, dtype=np.float64)
    x, y = np.meshgrid(line, line)
    spots, moves = [], []
    for g in draws:
        moved = points + g.uniform(-most, most, points.shape)
        back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)  # from the output to the input
        spots.append(np.stack([x, y, np.ones_like(x)], axis=-1) @ back)
        noise = [g.uniform(-1, 1, (side, side)) for _ in range(2)]
        moves.append(np.stack([x, y], axis=-1) + alpha * np.stack([_smooth(n, sigma) for n in noise], -1))
    # Reflected about the centres of the outermost pixels, then about their edges, as the published code.
    grid = 2 * _stacked(images, spots) / (side - 1) - 1
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    grid = (2 * _stacked(images, moves) + 1) / side - 1
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _smooth(noise: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(noise, sigma, mode="reflect", truncate=3)) if sigma else noise


def _pixelate(images: Tensor, share: float, draws: Draws) -> Tensor:
    side = images.shape[-1]
    few = max(1, int(side * share))

    def change(image: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return image.resize((few, few), box).resize((side, side), box)

    return _as_pictures(images, change)


def _jpeg(images: Tensor, quality: int, draws: Draws) -> Tensor:
    def change(image: Image.Image) -> Image.Image:
        held = io.BytesIO()
        image.save(held, "JPEG", quality=quality)
        return Image.open(held)

    return _as_pictures(images, change)


def _as_pictures(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    whole = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    changed = [np.asarray(change(Image.fromarray(image)).convert("RGB")) for image in whole]
    return _stacked(images, [image.transpose(2, 0, 1) for image in changed]) / 255


def _elastic_constants(side: int, shares: Sequence[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(side * share for share in one) for one in shares)


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian noise": Corruption(
        (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38), _gaussian_noise
    ),
    "shot noise": Corruption((500, 250, 100, 75, 50), (60, 25, 12, 5, 3), _shot_noise),
    "impulse noise": Corruption(
        (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27), _impulse_noise
    ),
    "defocus blur": Corruption(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        _defocus,
    ),
    "motion blur": Corruption(
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), _motion
    ),
    "zoom blur": Corruption(
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        _zoom,
    ),
    "fog": Corruption(
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        _fog,
    ),
    "brightness": Corruption((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
    "contrast": Corruption((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
    "elastic": Corruption(
        _elastic_constants(
            32, [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)]
        ),
        # 244, not 224, in the published code too.
        _elastic_constants(
            244, [(2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)]
        ),
        _elastic,
    ),
    "pixelation": Corruption((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25), _pixelate),
    "jpeg": Corruption((80, 65, 58, 50, 40), (25, 18, 15, 10, 7), _jpeg),
}
"""By name, in the published order."""
