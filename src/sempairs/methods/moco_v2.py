"""MoCo v2. Chen et al. 2020, arXiv:2003.04297; He et al. 2020, arXiv:1911.05722, Eq. 1 and 2.

Query network: encoder and projector (linear → ReLU → linear, with biases and without normalisation). Key
network: the same, and follows it. For a query q, its key k and the K keys of earlier batches in the queue:
    L = −log exp(q·k / T) / (exp(q·k / T) + Σ_j exp(q·k_j / T)),     all of length 1; mean over pairs.
Keys join the queue after the loss, and the key network follows after the step, as in facebookresearch/moco:
θ_k ← m θ_k + (1 − m) θ_q, m = .999 throughout there. Here m goes from `momentum` to `final_momentum` along
half a cosine, .99 to .999 by default; with both .999 it is the paper's.
One direction, as there: which member of a pair is the query is drawn for each pair and step. `symmetric`:
the mean of both directions, keys of both members in one queue (MoCo's CIFAR demo has their sum; solo-learn's
mocov2plus a queue a side).
With an objective of several crops (`objectives/`) the first is the query, the others are keys, and what joins
the queue is what joins it without: the key of the second crop, the partner's; with `symmetric` each crop has
both roles, and the keys of the first two crops join. (In a fixed set of pairs only symmetric runs bring the
partners gradients then, as no sides are drawn.)
`norm_groups`: there, batch normalisation takes its statistics on each of 8 devices, over other queries than
keys, since with equal ones it tells a query its key. So queries pass in that many groups, and keys in as many
others, drawn (the demo's SplitBatchNorm: 4 points on CIFAR-10 after 800 epochs). 1: over the whole batch, as
lightly and solo-learn on one device.
Departures: of several processes, groups of one number are one group, so that each has as many images as in
one process, if not the same. Option `same_meaning_negatives: mask` leaves keys of the query's meaning out of
the sum.
Option `negatives: same_domain` takes negatives of the anchor's own domain only (`pairs.domain_column`). They
are harder, as the domain does not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, Preset, check_paired, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.keys import Keys, KeysConfig
from sempairs.methods.negatives import domains, meaning_logs, other_domain, same_meaning_queue
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.methods.sides import draw_sides, on_sides
from sempairs.views.records import Views


class MoCoV2Config(KeysConfig):
    """`MoCoV2.presets` has the published settings."""

    name: Literal["moco_v2"] = "moco_v2"
    symmetric: bool = False
    negatives: Literal["all", "same_domain"] = "all"


PRESETS = {
    "imagenet-r50": Preset(
        MoCoV2Config(hidden=2048, queue=65536, momentum=0.999, final_momentum=0.999, norm_groups=8),
        "SGD, lr .03 at bs 256, cosine, weight decay 1e-4 of all parameters",
        "facebookresearch/moco, README.md and moco/builder.py",
    ),
    "cifar-r18": Preset(
        MoCoV2Config(hidden=2048, out=256, queue=32768, momentum=0.99, final_momentum=0.999, symmetric=True),
        "1000 epochs, bs 256, SGD, lr .3, warm-up and cosine, weight decay 1e-4",
        "solo-learn, scripts/pretrain/cifar/mocov2plus.yaml",
    ),
    "tiny": Preset(
        MoCoV2Config(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def moco_loss(
    query: Tensor, key: Tensor, queue: Tensor, *, temperature: float, exclude: Tensor | None = None
) -> Tensor:
    """Mean loss of query, key: (B, D), rows paired, of any length; queue: (K, D) of length 1.

    No gradient reaches keys or queue. `exclude` (B, K): True where a queued key takes no part.
    Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(query, key)
    query, key = F.normalize(query, dim=1), F.normalize(key.detach(), dim=1)
    negatives = query @ queue.detach().T
    if exclude is not None:
        negatives = negatives.masked_fill(exclude, float("-inf"))
    logits = torch.cat([(query * key).sum(dim=1, keepdim=True), negatives], dim=1) / temperature
    return layout_of(query).mean(logits.logsumexp(dim=1) - logits[:, 0])


class Roles(NamedTuple):
    """Of one crop, rows (B, D) as query and as key, for the roles it has: features, then what is compared."""

    query: Tensor | None
    key: Tensor | None


@METHODS.register
class MoCoV2(Keys, PairMethod):
    """Logs how many queued keys share the query's meaning, and their share of the queue."""

    Config = MoCoV2Config
    presets = PRESETS
    config: MoCoV2Config

    def __init__(self, config: MoCoV2Config, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        if config.negatives == "same_domain":
            self.queue.keep_domains()

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(*[math.log(1 + self.config.queue)] * 2)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[Roles]:
        first, *others = crops
        if not self.config.symmetric:
            if len(others) == 1:
                first, other = on_sides(first, others[0], draw_sides(views.pair_id, self.queue.pushed))
                others = [other]
            query = self.query_features(first)
            keys = [self.key_features(other, views.pair_id) for other in others]
            return [Roles(query, None), *(Roles(None, key) for key in keys)]
        query = self.query_features(first)
        keys = [self.key_features(other, views.pair_id) for other in others]
        queries = [self.query_features(other) for other in others]
        both = (Roles(*roles) for roles in zip(queries, keys, strict=True))
        return [Roles(query, self.key_features(first, views.pair_id)), *both]

    def project(self, features: Sequence[Roles], views: Views) -> list[Roles]:
        projected = [
            Roles(
                None if of.query is None else self.projector(of.query),
                None if of.key is None else self.project_keys(of.key),
            )
            for of in features
        ]
        of_key = self._domains(views)[1::-1]
        self._new = [
            (of.key, views.meaning, *domain)
            for of, domain in zip(projected[1::-1], of_key, strict=True)
            if of.key is not None
        ]
        return projected

    def compare(self, left: Roles, right: Roles, views: Views, local: Sequence[Roles] = ()) -> Compared:
        same = same_meaning_queue(views.meaning, self.queue.meaning)
        of_crop = self._domains(views)
        losses = [
            moco_loss(
                of.query,
                to.key,
                self.queue.vectors,
                temperature=self.config.temperature,
                exclude=self._left_out(same, *domain),
            )
            for of, to, domain in ((left, right, of_crop[0]), (right, left, of_crop[1]))
            if of.query is not None and to.key is not None
        ]
        loss = torch.stack(losses).mean() if len(losses) > 1 else losses[0]
        return Compared(loss, meaning_logs(same, same.shape[1]))

    def _domains(self, views: Views) -> list[tuple[Tensor, ...]]:
        """For each crop, in the roles that `features` gave them, the domains (B,), if they are wanted."""
        if self.config.negatives == "all":
            return [()] * len(views.crops)
        domain = list(domains(views))
        if len(domain) == 2 and len(self.slots) == 2 and not self.config.symmetric:
            swap = draw_sides(views.pair_id, self.queue.pushed)
            domain = list(on_sides(domain[0], domain[1], swap))
        return [(rows,) for rows in domain]

    def _left_out(self, same: Tensor, domain: Tensor | None = None) -> Tensor | None:
        """(B, K): queued keys that are no negatives of queries of these domains (B,)."""
        leave = self.excluded(same)
        if domain is None or self.queue.domain is None:
            return leave
        others = other_domain(domain, self.queue.domain)
        return others if leave is None else leave | others
