"""Antialiased crop, resize and flip of a batch as two matrix products per image.

The reference is torchvision's `resized_crop(..., antialias=True)` on float images (bilinear): every output
pixel is a mean of the input pixels of the box under a triangle of half-width max(length / out, 1). Such a
mean is linear and separable, so one image is `V @ X @ H`, with V and H built from its box; a flip is an H
whose columns run backwards. Tolerance on the same boxes: 5e-7 on pixels in [0, 1] (tested).

For matrices of up to 11 columns MKL chooses its kernel by how many products are asked for at once and by
where in memory they lie, and the last bit of a view changed with its batch (AMD Zen 4 and 5, sides of 5 to
11). So the products of views below `SMALL` pixels are made one image at a time, from memory of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FAR = 1e6  # a distance at which every triangle is zero
#: Side of a view, in pixels, from which the products of many images are made at once.
SMALL = 16
_AT_ONCE = 1 << 18  # pixels of the store in work on one core: few enough to stay near its cache


class Triangles(NamedTuple):
    """How one axis of B images is resized: places of the input pixels (B, size) and centres of the output
    pixels (B, out), both from the start of the box, and half-widths (B, 1, 1)."""

    pixel: Tensor
    centre: Tensor
    support: Tensor

    def part(self, rows: slice) -> Triangles:
        return Triangles(self.pixel[rows], self.centre[rows], self.support[rows])

    def weights(self) -> Tensor:
        """Weights (B, size, out); columns sum to 1."""
        weights = (self.centre[:, None, :] - self.pixel[:, :, None]).abs_()
        torch.sub(self.support, weights, out=weights).relu_()
        return weights.mul_(weights.sum(dim=1, keepdim=True).reciprocal_())


def triangles(start: Tensor, length: Tensor, flip: Tensor, *, size: int, out: int) -> Triangles:
    """Triangles that resize `length` pixels from `start` on, of `size`, to `out` pixels.

    start, length: (B,) whole numbers as float32, the box inside [0, size); flip: (B,) bool, the output runs
    backwards.
    """
    # Taken as torchvision takes them, from the box's own origin in float32: the distances are then exact, and
    # the weights equal to the last bits.
    pixel = torch.arange(size, dtype=torch.float32, device=start.device) - start[:, None]
    inside = (pixel >= 0) & (pixel < length[:, None])
    scale = (length / out)[:, None]
    index = torch.arange(out, dtype=torch.float32, device=start.device) + 0.5
    centre = torch.where(flip[:, None], scale * index.flip(0), scale * index)
    return Triangles(torch.where(inside, pixel + 0.5, _FAR), centre, scale.clamp(min=1.0)[:, :, None])


def box_triangles(box: Tensor, flip: Tensor, *, size: int, out: int) -> tuple[Triangles, Triangles]:
    """Those of rows and of columns for boxes (B, 4) float32 of whole numbers: top, left, height, width.

    flip: (B,) bool, left and right change places.
    """
    down = triangles(box[:, 0], box[:, 2], torch.zeros_like(flip), size=size, out=out)
    return down, triangles(box[:, 1], box[:, 3], flip, size=size, out=out)


def resized(images: Tensor, down: Triangles, across: Triangles) -> Tensor:
    """Images (B, C, S, S) uint8 resized each in its own way; planes (C, B, out, out) float32 in [0, 1].

    Of four channels the last is alpha, and colours come out multiplied by it. The planes of one channel lie
    together, the form in which colours are worked on fastest.
    """
    batch, channels, size, _ = images.shape
    out = down.centre.shape[1]
    planes = torch.empty(channels, batch, out, out, device=images.device)
    step = batch
    if images.device.type == "cpu":
        step = max(1, _AT_ONCE // (size * size) * torch.get_num_threads())
    for first in range(0, batch, step):
        rows = slice(first, first + step)
        pixels = images[rows].float()
        if channels == 4:
            pixels[:, :3] *= pixels[:, 3:] / 255.0
        widths, heights = across.part(rows).weights(), down.part(rows).weights().transpose(1, 2)
        if out < SMALL and images.device.type == "cpu":
            for image, height, width, made in zip(
                pixels, heights, widths, planes[:, rows].unbind(1), strict=True
            ):
                narrow = image.view(-1, size).clone() @ width.clone()
                narrow = narrow.view(channels, size, out).transpose(0, 1).reshape(size, -1)
                made.copy_((height.clone() @ narrow).view(out, channels, out).transpose(0, 1))
            continue
        narrow = torch.bmm(pixels.view(-1, channels * size, size), widths)
        narrow = narrow.view(-1, channels, size, out)
        for channel in range(channels):
            torch.bmm(heights, narrow[:, channel], out=planes[channel, rows])
    return planes.mul_(1.0 / 255.0)


def resized_crop(images: Tensor, box: Tensor, flip: Tensor, out: int) -> Tensor:
    """Crops, flips and resizes images (B, C, S, S) uint8; planes (C, B, out, out) as `resized` gives them.

    box: (B, 4) top, left, height, width in pixels; flip: (B,) bool.
    """
    return resized(images, *box_triangles(box.float(), flip, size=images.shape[-1], out=out))
