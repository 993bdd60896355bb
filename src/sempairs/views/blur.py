"""Gaussian blur of a batch, each image by its own width: two matrix products, of small ones sums of shifts.

The reference is torchvision's `gaussian_blur` (reflected borders, kernel cut off and normalised to sum 1).
Tolerance on the same parameters: 1e-6 (tested).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from sempairs.views.crop import SMALL


def kernel_size(size: int) -> int:
    """The odd kernel width for images of `size` pixels: a tenth of it (SimCLR, Appendix A), at least 3."""
    return max(3, size // 10 + (size // 10 + 1) % 2)


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Matrices (B, size, size) that blur a column of `size` pixels by `sigma` (B,), borders reflected."""
    offset, kernel = _kernels(sigma, size)
    # The pixel that tap t of output o looks at, folded back at both borders.
    source = (torch.arange(size, device=sigma.device)[:, None] + offset).abs()
    source = (size - 1) - ((size - 1) - source).abs()
    matrix = sigma.new_zeros(len(sigma), size, size)
    return matrix.scatter_add_(2, source.expand(len(sigma), -1, -1), kernel[:, None, :].expand(-1, size, -1))


def _kernels(sigma: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Offsets (T,) of the taps, and their weights (B, T), which sum to 1."""
    taps = kernel_size(size)
    offset = torch.arange(taps, device=sigma.device) - taps // 2
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    return offset, kernel / kernel.sum(dim=1, keepdim=True)


def _shifted(planes: Tensor, sigma: Tensor) -> Tensor:
    """What `gaussian_blur` gives, by operations on single pixels, which no batch changes (see `crop`)."""
    size = planes.shape[-1]
    offset, kernel = _kernels(sigma, size)
    weights = kernel.T[:, :, None, None].unbind()
    reach = len(offset) // 2
    high = functional.pad(planes, (0, 0, reach, reach), mode="reflect")
    rows = _added(weight * high[..., i : i + size, :] for i, weight in enumerate(weights))
    wide = functional.pad(rows, (reach, reach, 0, 0), mode="reflect")
    return _added(weight * wide[..., i : i + size] for i, weight in enumerate(weights))


def _added(parts: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, parts)


def gaussian_blur(planes: Tensor, sigma: Tensor) -> Tensor:
    """Blurs images given as planes (C, B, S, S), image b by sigma[b] > 0 pixels; new planes."""
    if planes.shape[-1] < SMALL and planes.device.type == "cpu":
        return _shifted(planes, sigma)
    matrix = blur_matrix(sigma, planes.shape[-1])
    return torch.matmul(torch.matmul(matrix, planes), matrix.transpose(1, 2))
