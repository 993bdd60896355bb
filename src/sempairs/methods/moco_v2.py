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
`norm_groups`: there, batch normalisation takes its statistics on each of 8 devices, over other queries than
keys, since with equal ones it tells a query its key. So queries pass in that many groups, and keys in as many
others, drawn (the demo's SplitBatchNorm: 4 points on CIFAR-10 after 800 epochs). 1: over the whole batch, as
lightly and solo-learn on one device.
Departures: of several processes, groups of one number are one group, so that each has as many images as in
one process, if not the same. Option `same_meaning_negatives: mask` leaves keys of the query's meaning out of
the sum.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sempairs.methods.base import METHODS, Preset, StepOutput, check_paired, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.keys import Keys, KeysConfig
from sempairs.methods.negatives import meaning_logs, same_meaning_queue
from sempairs.methods.sides import draw_sides, on_sides
from sempairs.views.records import Views


class MoCoV2Config(KeysConfig):
    """`MoCoV2.presets` has the published settings."""

    name: Literal["moco_v2"] = "moco_v2"
    symmetric: bool = False


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


@METHODS.register("moco_v2")
class MoCoV2(Keys):
    """Logs how many queued keys share the query's meaning, and their share of the queue."""

    Config = MoCoV2Config
    presets = PRESETS
    config: MoCoV2Config

    def forward(self, views: Views) -> StepOutput:
        query, key = self.crops(views)
        if not self.config.symmetric:
            query, key = on_sides(query, key, draw_sides(views.pair_id, self.queue.pushed))
        same = same_meaning_queue(views.meaning, self.queue.meaning)
        self._new = []
        loss, embeddings = self._direction(query, key, views, same)
        if self.config.symmetric:
            loss = (loss + self._direction(key, query, views, same)[0]) / 2
        return StepOutput(loss, meaning_logs(same, same.shape[1]), embeddings.detach())

    def _direction(self, query: Tensor, key: Tensor, views: Views, same: Tensor) -> tuple[Tensor, Tensor]:
        queries, embeddings = self.queries(query)
        keys = self.keys(key, views.pair_id)
        self._new.append((keys, views.meaning))
        exclude, temperature = self.excluded(same), self.config.temperature
        loss = moco_loss(queries, keys, self.queue.vectors, temperature=temperature, exclude=exclude)
        return loss, embeddings
