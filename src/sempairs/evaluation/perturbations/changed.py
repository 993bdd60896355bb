"""Features of pictures that were changed first: transformed, corrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sempairs.encoders import embed
from sempairs.evaluation.protocols.base import Context
from sempairs.views.store import PixelStore

BATCH = 256
Change = Callable[[Tensor, slice], Tensor]


def embed_changed(context: Context, store: PixelStore, change: Change) -> NDArray[np.float32]:
    """Features (N, D) of a store's pictures, whole and in order.

    change: takes pictures (B, 3, S, S), floats in [0, 1] on the context's device, and which rows of the store
    they are, and gives pictures of the same shape.
    """
    spec, place = context.target.spec, torch.device(context.device)
    mean, std = (torch.tensor(v, device=place)[:, None, None] for v in (spec.mean, spec.std))

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(store), BATCH):
            part = slice(start, min(start + BATCH, len(store)))
            images = store.take(np.arange(part.start, part.stop), place).float() / 255
            yield (change(images, part) - mean) / std

    return embed(context.target.encoder, batches(), precision=context.config.settled_precision)
