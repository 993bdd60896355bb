"""Negatives that share the anchor's meaning: in the batch, in a queue, and how many there are.

Ids below 0 are unknown and equal none. N = pairs of all processes, B = those of this one, K = queue size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sempairs.methods.distributed import Layout, layout_of


def own_columns(layout: Layout, device: torch.device) -> Tensor:
    """(B,) where each row of this process stands among the N of all."""
    return layout.first + torch.arange(layout.counts[layout.rank], device=device)


def same_meaning_pairs(meaning: Tensor) -> Tensor:
    """(B, N) from ids (B,): whether another pair of the batch shares this one's meaning."""
    layout = layout_of(meaning)
    same = (meaning[:, None] == layout.gather(meaning)) & (meaning >= 0)[:, None]
    return same.scatter(1, own_columns(layout, meaning.device)[:, None], False)


def same_meaning_queue(meaning: Tensor, queued: Tensor) -> Tensor:
    """(B, K) from ids (B,) and a queue's (K,): whether what lies there shares this pair's meaning."""
    return (meaning[:, None] == queued) & (meaning >= 0)[:, None]


def meaning_logs(same: Tensor, negatives: int) -> dict[str, Tensor]:
    """Mean number of same-meaning negatives a row of `same` (B, M), and their share of all `negatives`."""
    count = same.sum(dim=1).float().mean()
    return {"same_meaning_negatives": count, "same_meaning_fraction": count / max(negatives, 1)}
