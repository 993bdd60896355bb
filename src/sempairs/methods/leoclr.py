"""LeOCLR. Alkhalefi, Leontidis & Zhong 2024, arXiv:2403.06813: crops are pulled to the original image.

Networks, keys and queue are MoCo v2's. The original, not cropped, gives the query q, two random crops the
keys k and k'; with the K keys of earlier batches in the queue, all of length 1,
    ℓ(q, k) = −log exp(q·k / T) / (exp(q·k / T) + Σ_j exp(q·k_j / T)),
    loss = mean over pairs of ℓ(q, k) + ℓ(q, k').
So each crop is drawn to the whole image, not two crops of different parts to each other.
Published: the three views, the network each goes through, the pull to the original, no gradient to keys.
Chosen here, where the paper's word was not at hand: the terms are summed, both keys join the queue, the
original is resized and not otherwise augmented, settings are MoCo v2's.
Departures: a semantic pair has a crop of each member for keys, and the original of one for the query; which
one is drawn for each pair and step, since only queries have gradients. A pair of an image with itself is the
paper's. Option `same_meaning_negatives: mask` leaves keys of the query's meaning out of the sum;
`norm_groups` as in MoCo v2.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sempairs.methods.base import METHODS, Levels, Preset, StepOutput
from sempairs.methods.keys import Keys, KeysConfig
from sempairs.methods.moco_v2 import moco_loss
from sempairs.methods.negatives import meaning_logs, same_meaning_queue
from sempairs.methods.sides import draw_sides, on_sides
from sempairs.views.records import Slot, Views


class LeOCLRConfig(KeysConfig):
    """MoCo v2's settings."""

    name: Literal["leoclr"] = "leoclr"


PRESETS = {
    "imagenet-r50": Preset(
        LeOCLRConfig(hidden=2048, queue=65536, momentum=0.999, final_momentum=0.999, norm_groups=8),
        "SGD, lr .03 at bs 256, cosine, weight decay 1e-4 of all parameters",
        "none known: the baseline's, facebookresearch/moco, README.md and moco/builder.py",
    ),
    "cifar-r18": Preset(
        LeOCLRConfig(hidden=2048, out=256, queue=32768),
        "1000 epochs, bs 256, SGD, lr .3, warm-up and cosine, weight decay 1e-4",
        "none known: the baseline's, solo-learn, scripts/pretrain/cifar/mocov2plus.yaml",
    ),
    "tiny": Preset(
        LeOCLRConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


def leoclr_loss(
    original: Tensor,
    crops: tuple[Tensor, ...],
    queue: Tensor,
    *,
    temperature: float,
    exclude: Tensor | None = None,
) -> Tensor:
    """Sum over crops of the mean over pairs. original, each of crops: (B, D), rows paired, of any length;
    queue: (K, D) of length 1.

    No gradient reaches crops or queue. `exclude` (B, K): True where a queued key takes no part.
    Raises: ValueError if shapes differ or B < 2.
    """
    losses = [moco_loss(original, k, queue, temperature=temperature, exclude=exclude) for k in crops]
    return torch.stack(losses).sum()


@METHODS.register
class LeOCLR(Keys):
    """Logs how many queued keys share the query's meaning, and their share of the queue."""

    Config = LeOCLRConfig
    presets = PRESETS
    slots = (Slot("anchor"), Slot("partner"), Slot("anchor", "original"), Slot("partner", "original"))

    def levels(self, pairs: int) -> Levels:
        return Levels(*[2 * math.log(1 + self.config.queue)] * 2)

    def forward(self, views: Views) -> StepOutput:
        *crops, anchor, partner = self.crops(views)
        original, _ = on_sides(anchor, partner, draw_sides(views.pair_id, self.queue.pushed))
        queries, embeddings = self.queries(original)
        keys = [self.keys(crop, views.pair_id) for crop in crops]
        # Pair by pair, so that the queue is the same with any number of processes.
        self._new = [(torch.stack(keys, dim=1).flatten(0, 1), views.meaning.repeat_interleave(2))]
        same = same_meaning_queue(views.meaning, self.queue.meaning)
        loss = leoclr_loss(
            queries,
            tuple(keys),
            self.queue.vectors,
            temperature=self.config.temperature,
            exclude=self.excluded(same),
        )
        return StepOutput(loss, meaning_logs(same, same.shape[1]), embeddings.detach())
