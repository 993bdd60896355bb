"""A queue of unit vectors of earlier batches, first in, first out. He et al. 2020, arXiv:1911.05722, 3.2.

It starts full of random directions, as in the paper's code (facebookresearch/moco, moco/builder.py), whose
places count as empty: their meaning is −1, as is that of vectors whose meaning is not known. All of it is
buffers, so `state_dict()` holds it. `push` gathers over processes, so that it is the same on each.
Departures from the paper's code: batches need not divide the size, they wrap around its end; vectors lie in
rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sempairs.methods.distributed import layout_of


class Queue(nn.Module):
    """`vectors` (size, width) of length 1, `meaning` (size,) int64, `pushed` () int64: how many rows ever.

    `domain` (size,) int64, -1 for none; None unless `keep_domains` was called.
    """

    vectors: Tensor
    meaning: Tensor
    pushed: Tensor

    domain: Tensor | None

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("meaning", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("domain", None)
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def keep_domains(self) -> None:
        """Keeps the domain of every row from now on; none is known yet."""
        self.domain = torch.full_like(self.meaning, -1)

    @property
    def filled(self) -> int:
        """How many places hold rows that were pushed. A look at the device."""
        return min(int(self.pushed), len(self.vectors))

    @property
    def full_places(self) -> Tensor:
        """(size,) True where a place holds a row that was pushed, without a look at the device."""
        return torch.arange(len(self.vectors), device=self.pushed.device) < self.pushed

    @torch.no_grad()
    def push(self, vectors: Tensor, meaning: Tensor, domain: Tensor | None = None) -> None:
        """Adds this process's rows (B, width) of any length, with their meanings (B,) and, where it keeps
        them, domains, after those of the processes before it, in place of the oldest; B may differ by process
        and from step to step.

        A collective call with several processes. Of more rows than fit, the last stay.
        Raises: ValueError for other shapes.
        """
        if (
            vectors.ndim != 2
            or vectors.shape[1] != self.vectors.shape[1]
            or meaning.shape != vectors.shape[:1]
        ):
            shapes = f"{tuple(vectors.shape)} and {tuple(meaning.shape)}"
            raise ValueError(f"must be (B, {self.vectors.shape[1]}) and (B,), got {shapes}")
        layout = layout_of(vectors)
        rows = layout.gather(F.normalize(vectors.detach().to(self.vectors.dtype), dim=1))
        meaning = layout.gather(meaning)
        size, count = len(self.vectors), len(rows)
        kept = min(size, count)
        # Places are worked out on the device: asking it for the pointer would make the processor wait.
        places = (self.pushed + torch.arange(count - kept, count, device=rows.device)) % size
        self.vectors.index_copy_(0, places, rows[count - kept :])
        self.meaning.index_copy_(0, places, meaning[count - kept :])
        if self.domain is not None and domain is not None:
            self.domain.index_copy_(0, places, layout.gather(domain)[count - kept :])
        self.pushed += count
