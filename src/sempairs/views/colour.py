"""Colour operations on planes (3, B, S, S) with values in [0, 1], each image by its own parameters.

The reference is torchvision's functional transforms on float images. Tolerances on the same parameters,
tested: `blend_` (brightness, contrast, saturation), `grayscale_` and `solarise_` 5e-7, `shift_hue_` 2e-6.
"""

from __future__ import annotations

import torch
from torch import Tensor

# ITU-R 601-2 luma with torchvision's digits.
LUMA = (0.2989, 0.587, 0.114)
_TINY = 1e-30


def luma(planes: Tensor) -> Tensor:
    """Gray values (B, S, S)."""
    gray = planes[0] * LUMA[0]
    return gray.add_(planes[1], alpha=LUMA[1]).add_(planes[2], alpha=LUMA[2])


def blend_(planes: Tensor, factor: Tensor, of_gray: Tensor, of_mean: Tensor) -> Tensor:
    """In place: clamp(factor * x + of_gray * gray + of_mean * mean(gray)), parameters (B, 1, 1).

    Brightness, contrast and saturation are the three cases (f, 0, 0), (f, 0, 1 - f), (f, 1 - f, 0), so images
    that have each their own order of the three go through the same products without a branch.
    """
    gray = luma(planes)
    offset = gray.mean(dim=(1, 2), keepdim=True).mul_(of_mean)
    return torch.addcmul(gray.mul_(of_gray).add_(offset), planes, factor, out=planes).clamp_(0.0, 1.0)


def shift_hue_(planes: Tensor, shift: Tensor) -> Tensor:
    """In place: rotates the hue by `shift` (B, 1, 1) turns in [-0.5, 0.5]; value and saturation stay.

    With M, m the largest and smallest channel, C = M - m and the hue H in [0, 6) sextants, the usual cases
    are one line: H - 3 = copysign(2 + (R - G - B + m) / C, B - G). Back again each channel is m + C * w with
    w = clamp(|z| - 1), clamp(2 - |z + 1|), clamp(2 - |z - 1|) in [0, 1] for R, G, B, where z is the turned
    H - 3 brought into [-3, 3]. Where C = 0 the hue means nothing and drops out.
    """
    red, green, blue = planes[0], planes[1], planes[2]
    low, high = torch.minimum(red, green), torch.maximum(red, green)
    torch.minimum(low, blue, out=low)
    torch.maximum(high, blue, out=high)
    chroma = high - low
    z, scratch = (red - green).sub_(blue).add_(low), chroma + _TINY
    z.div_(scratch).add_(2.0)
    z.copysign_(torch.sub(blue, green, out=scratch)).add_(6.0 * shift)
    z.sub_(torch.mul(z, 1.0 / 6.0, out=scratch).round_(), alpha=6.0)
    # clamp(t - 1, 0, 1) is clamp(t, 1, 2) - 1, and its last term can be taken out once for all pixels.
    low.sub_(chroma)
    high.add_(chroma)
    torch.addcmul(low, chroma, torch.abs(z, out=scratch).clamp_(1.0, 2.0), out=red)
    for plane, offset in ((green, 1.0), (blue, -1.0)):
        wave = torch.add(z, offset, out=scratch).abs_().clamp_(1.0, 2.0)
        torch.addcmul(high, chroma, wave, value=-1.0, out=plane)
    return planes


def grayscale_(planes: Tensor) -> Tensor:
    """In place: all three channels become the gray value."""
    return planes.copy_(luma(planes))


def solarise_(planes: Tensor, threshold: float = 0.5) -> Tensor:
    """In place: values of at least `threshold` become 1 - value."""
    return planes.copy_(torch.where(planes >= threshold, 1.0 - planes, planes))
