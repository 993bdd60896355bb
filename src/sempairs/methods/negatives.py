"""Negatives that share the anchor's meaning, or its domain: in the batch, in a queue, and how many there are.

Ids below 0 are unknown: such meanings equal none, and such domains differ from none.
N = pairs of all processes, B = those of this one, K = queue size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sempairs.errors import UserError
from sempairs.methods.distributed import Layout, layout_of
from sempairs.views.records import Views


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


def domains(views: Views) -> Tensor:
    """(V, B) of `views`. Raises: UserError if they do not tell domains."""
    if views.domain is None:
        raise UserError("method.negatives", "needs views that tell the domain of their images", "same_domain")
    return views.domain


def other_domain(of: Tensor, to: Tensor) -> Tensor:
    """(B, M) from the domains of queries (B,) and candidates (M,): whether a candidate is of another one."""
    return (of[:, None] != to) & (of >= 0)[:, None] & (to >= 0)


def excluded_pairs(config: Any, same: Tensor, views: Views, of: int, to: int) -> Tensor | None:
    """Of the N candidates of another crop, (B, N): those that a config leaves out, null for none.

    config: with `same_meaning_negatives` and `negatives`. same: `same_meaning_pairs`. of, to: the places in
    `views` of the queries' crop and of the candidates'. A query's own partner stays.
    """
    leave = same if config.same_meaning_negatives == "mask" else None
    if config.negatives == "same_domain":
        domain = domains(views)
        layout = layout_of(domain[to])
        others = other_domain(domain[of], layout.gather(domain[to]))
        others = others.scatter(1, own_columns(layout, others.device)[:, None], False)
        leave = others if leave is None else leave | others
    return leave


def meaning_logs(same: Tensor, negatives: int) -> dict[str, Tensor]:
    """Mean number of same-meaning negatives a row of `same` (B, M), and their share of all `negatives`."""
    count = same.sum(dim=1).float().mean()
    return {"same_meaning_negatives": count, "same_meaning_fraction": count / max(negatives, 1)}
