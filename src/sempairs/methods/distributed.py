"""Batches that lie across processes. With one process nothing here communicates or copies.

The convention of every loss: each process returns a number whose *mean over processes* is the loss of the
whole batch. Data-parallel training averages gradients over processes, so the averaged gradient is then that
of the whole batch, also where processes hold different numbers of rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Layout(NamedTuple):
    """How many rows each process holds, in order of rank, and which process this is."""

    counts: tuple[int, ...]
    rank: int

    @property
    def first(self) -> int:
        """Where this process's rows begin among all."""
        return sum(self.counts[: self.rank])

    @property
    def total(self) -> int:
        return sum(self.counts)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, (total, ...), from (counts[rank], ...) here.

        Gradients flow back to the process each row came from, summed over what all processes did with it.
        """
        if len(self.counts) == 1:
            return rows
        gathered: Tensor = _GatherRows.apply(rows, self)
        return gathered

    def mean(self, values: Tensor) -> Tensor:
        """This process's share of the mean of `values` over all processes, by the convention above."""
        if len(self.counts) == 1:
            return values.mean()
        return values.sum() * (len(self.counts) / self.total)


def layout_of(rows: Tensor) -> Layout:
    """The layout of a batch of which this process holds `rows`; a collective call with several processes."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return Layout((len(rows),), 0)
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    return Layout(tuple(torch.cat(counts).tolist()), dist.get_rank())


def over_processes(values: Tensor, *, largest: bool = False) -> Tensor:
    """The sum of `values` over processes, or their largest, without gradient; collective, in place."""
    operation: Any = dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(values, op=operation)
    return values


@torch.no_grad()
def mean_of_all(rows: Tensor) -> Tensor:
    """(K,): the mean of rows (N, K) over all processes, N differing or not; a collective call."""
    return over_processes(rows.sum(dim=0)) / layout_of(rows).total


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        # Collectives want equal shapes: pad to the longest, cut afterwards.
        padded = rows.new_zeros((max(layout.counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in layout.counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, layout.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        layout: Layout = ctx.layout
        return total[layout.first : layout.first + layout.counts[layout.rank]], None
