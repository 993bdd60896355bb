"""Features of many images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sempairs.encoders.build import Encoder
from sempairs.precision import Precision
from sempairs.progress import track

#: Images at once at most, and bytes that the largest maps of a forward pass may take together.
MOST, BUDGET = 256, {"cpu": 32 << 20, "cuda": 4 << 30}
# Maps of the largest size that are there at the same time: input, output, what is added, and a copy.
_LIVE = 4


def batch_that_fits(encoder: Encoder, size: int) -> int:
    """Images of `size` pixels to embed at once so that memory stays small: `MOST` of small ones, fewer of
    large ones. The same on every machine for the device the encoder is on."""
    largest = 1

    def look(_: nn.Module, __: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    hooks = [module.register_forward_hook(look) for module in encoder.modules()]
    try:
        first = next(encoder.parameters())
        image = torch.zeros(1, 3, size, size, device=first.device, dtype=first.dtype)
        embed(encoder, [image], channels_last=False)
    finally:
        for hook in hooks:
            hook.remove()
    budget = BUDGET.get(first.device.type, BUDGET["cpu"])
    return max(1, min(MOST, budget // (_LIVE * 4 * largest)))


def embed(
    encoder: Encoder,
    batches: Iterable[Tensor],
    *,
    precision: Precision = "float32",
    channels_last: bool = True,
    progress: bool = False,
    total: int | None = None,
) -> NDArray[np.float32]:
    """Compute features of images with an encoder.

    The encoder runs in evaluation mode on the device it is on; afterwards each of its modules is in the mode
    it was in. The same call gives the same bits.

    Args:
        encoder: The network.
        batches: Normalised images, (B, 3, S, S) floats each.
        precision: `bf16` runs the encoder under autocast; features are float32 in any case.
        channels_last: The memory layout of weights and pixels.
        progress: Whether progress is shown.
        total: Number of batches, for the progress shown.

    Returns:
        Features, (N, width).
    """
    device, dtype = (first := next(encoder.parameters())).device, first.dtype
    layout = torch.channels_last if channels_last else torch.contiguous_format
    modes = [(module, module.training) for module in encoder.modules()]
    shown = track(batches, total=total, what="embedding", unit="batch") if progress else batches
    rows: list[NDArray[np.float32]] = []
    encoder.eval()
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
        ):
            for images in shown:
                features = encoder(images.to(device, dtype).contiguous(memory_format=layout))
                rows.append(features.float().cpu().numpy())
    finally:
        for module, mode in modes:
            module.training = mode
    return np.concatenate(rows) if rows else np.empty((0, encoder.width), dtype=np.float32)
