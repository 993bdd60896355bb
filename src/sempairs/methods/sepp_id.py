"""SePP-ID. Alkhalefi, Leontidis & Zhong 2023, arXiv:2306.16122: semantic pairs beside augmented ones.

Networks, keys and queue are MoCo v2's. A pair gives an augmented positive, two crops of one member, and where
the other is another image a semantic one, a crop of that. With q the query, k the key of its own image, s of
the other, and the K keys of earlier batches in the queue, all of length 1,
    ℓ(q, k) = −log exp(q·k / T) / (exp(q·k / T) + Σ_j exp(q·k_j / T)),
    loss = (Σ_i ℓ(q_i, k_i) + Σ_{i semantic} ℓ(q_i, s_i)) / (B + number of semantic pairs),
over the B pairs of all processes. Without semantic pairs it is MoCo v2's.
Published: a pretrained encoder and a similarity measure find semantic pairs, which join the augmented ones in
a loss like MoCo v2's. Here they are the recipe's: relation `neighbour`, with `min_similarity` and `top_k` for
the paper's threshold and number, or `listed`.
Chosen here, where the paper's word was not at hand: every positive weighs the same, both kinds share a query,
keys of augmented positives alone join the queue, settings are MoCo v2's.
Departures: which member of a semantic pair is the query, and which of its crops, is drawn for each pair and
step. Option `same_meaning_negatives: mask` leaves keys of the query's meaning out of the sum. `norm_groups`:
as in MoCo v2.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sempairs.methods.base import METHODS, Levels, Preset, StepOutput, check_paired, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.keys import Keys, KeysConfig
from sempairs.methods.negatives import meaning_logs, same_meaning_queue
from sempairs.methods.sides import draw_sides, on_sides
from sempairs.views.records import Slot, Views


class SePPIDConfig(KeysConfig):
    """MoCo v2's settings."""

    name: Literal["sepp_id"] = "sepp_id"


PRESETS = {
    "imagenet-r50": Preset(
        SePPIDConfig(hidden=2048, queue=65536, momentum=0.999, final_momentum=0.999, norm_groups=8),
        "800 epochs, SGD, lr .03 at bs 256, cosine, weight decay 1e-4 of all parameters",
        "epochs: arXiv:2306.16122, abstract; the rest the baseline's: facebookresearch/moco, README.md",
    ),
    "cifar-r18": Preset(
        SePPIDConfig(hidden=2048, out=256, queue=32768),
        "1000 epochs, bs 256, SGD, lr .3, warm-up and cosine, weight decay 1e-4",
        "none known: the baseline's, solo-learn, scripts/pretrain/cifar/mocov2plus.yaml",
    ),
    "tiny": Preset(
        SePPIDConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def sepp_id_loss(
    query: Tensor,
    key: Tensor,
    semantic: Tensor,
    queue: Tensor,
    *,
    distinct: Tensor,
    temperature: float,
    exclude: Tensor | None = None,
) -> Tensor:
    """query, key, semantic: (B, D), rows paired, of any length; queue: (K, D) of length 1; distinct: (B,)
    bool, where `semantic` takes part.

    No gradient reaches keys or queue. `exclude` (B, K): True where a queued key takes no part.
    Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(query, key)
    check_paired(query, semantic)
    query = F.normalize(query, dim=1)
    positives = (query * F.normalize(torch.stack([key, semantic]).detach(), dim=2)).sum(dim=2)
    negatives = query @ queue.detach().T
    if exclude is not None:
        negatives = negatives.masked_fill(exclude, float("-inf"))
    logits = torch.cat([positives[:, :, None], negatives.expand(2, -1, -1)], dim=2) / temperature
    augmented, other = logits.logsumexp(dim=2) - logits[:, :, 0]
    layout = layout_of(query)
    terms = layout.total + layout.gather(distinct.to(query.dtype)).sum()
    return torch.sum(augmented + other * distinct) * (len(layout.counts) / terms)


@METHODS.register
class SePPID(Keys):
    """Logs `semantic_fraction`, the share of pairs with a semantic positive (all, if views do not say which
    partners are other images), how many queued keys share the query's meaning, and their share."""

    Config = SePPIDConfig
    presets = PRESETS
    slots = (Slot("anchor"), Slot("anchor"), Slot("partner"), Slot("partner"))

    def levels(self, pairs: int) -> Levels:
        return Levels(*[math.log(1 + self.config.queue)] * 2)

    def forward(self, views: Views) -> StepOutput:
        every = torch.ones_like(views.pair_id, dtype=torch.bool)
        distinct = every if views.distinct is None else views.distinct
        query, key, semantic = self._roles(self.crops(views), views.pair_id, distinct)
        queries, embeddings = self.queries(query)
        keys = self.keys(key, views.pair_id)
        self._new = [(keys, views.meaning)]
        same = same_meaning_queue(views.meaning, self.queue.meaning)
        loss = sepp_id_loss(
            queries,
            keys,
            self.keys(semantic, views.pair_id),
            self.queue.vectors,
            distinct=distinct,
            temperature=self.config.temperature,
            exclude=self.excluded(same),
        )
        logs = {"semantic_fraction": distinct.float().mean()} | meaning_logs(same, same.shape[1])
        return StepOutput(loss, logs, embeddings.detach())

    def _roles(self, crops: tuple[Tensor, ...], pair_id: Tensor, distinct: Tensor) -> tuple[Tensor, ...]:
        """The query, its key and the semantic one. Members change sides only where they are two images."""
        turn = self.queue.pushed
        swap, member = draw_sides(pair_id, turn), draw_sides(pair_id, -1 - turn) & distinct
        first, other_first = on_sides(crops[0], crops[2], member)
        second, other_second = on_sides(crops[1], crops[3], member)
        return *on_sides(first, second, swap), on_sides(other_first, other_second, swap)[1]
