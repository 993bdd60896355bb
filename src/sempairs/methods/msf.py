"""MSF, mean shift. Koohpayegani, Tejankar & Pirsiavash 2021, arXiv:2105.07269, section 3 and its code.

Online network: encoder, projector, predictor q. Target: encoder and projector that follow the online ones.
A pair's target u = sg z'(other view) first joins the queue M of recent targets; with N(u) the k vectors of M
nearest to u, u itself the first of them, all of unit length,
    loss = mean over pairs of (1/k) Σ_{v ∈ N(u)} (2 − 2 cos(q, v)).
With k = 1 it is one direction of BYOL's loss. After each step target ← τ target + (1 − τ) online, τ constant.
Heads as in the code (UMBCvision/MSF, train_msf.py): linear → norm → ReLU → linear, with biases.
Departures: which member of a pair is the query is drawn at random. Places of the queue not filled yet are no
neighbours; the code fills them with random directions. The code shuffles targets among devices, so that
their norms' statistics give nothing away; here batch statistics are those of all processes.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from sempairs.errors import UserError
from sempairs.methods.base import (
    METHODS,
    Levels,
    Method,
    MethodConfig,
    Preset,
    StepOutput,
    check_paired,
    in_float32,
)
from sempairs.methods.distributed import layout_of
from sempairs.methods.heads import plain_mlp
from sempairs.methods.momentum import follow, frozen_copy, warmed
from sempairs.methods.queue import Queue
from sempairs.methods.sides import draw_sides, on_sides
from sempairs.views.records import Views


class MSFConfig(MethodConfig):
    """Defaults are those of small images; `MSF.presets` has the published ones."""

    name: Literal["msf"] = "msf"
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    predictor_hidden: int = Field(512, ge=1)
    predictor_layers: int = Field(2, ge=1)
    momentum: float = Field(0.99, ge=0, le=1)
    # The share of the steps over which the momentum rises from 0; for encoders that go on.
    momentum_warm_up: float = Field(0.0, ge=0, le=1)
    queue: int = Field(2048, ge=2)  # at least a batch, or a target would miss itself
    neighbours: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.neighbours > self.queue:
            raise ValueError(f"neighbours must be at most the queue, {self.queue}, got {self.neighbours}")
        return self

    @property
    def largest_batch(self) -> int:
        return self.queue


PRESETS = {
    "imagenet-r50": Preset(
        MSFConfig(hidden=4096, out=512, predictor_hidden=4096, queue=128_000, neighbours=10),
        "200 epochs, bs 256, SGD, lr .05, cosine, momentum .9, weight decay 1e-4, the target's view "
        "augmented weakly (crop and flip)",
        "UMBCvision/MSF, README.md and train_msf.py (the paper's main results have 5 neighbours)",
    ),
    "cifar-r18": Preset(
        MSFConfig(hidden=1024, out=128, predictor_hidden=1024, queue=4096),
        "none published; the code's rule for widths (2 and 1/4 of the encoder's) and training, 1000 epochs",
        "UMBCvision/MSF, train_msf.py",
    ),
    "tiny": Preset(MSFConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up, cosine", "benchmarks/tuning.py"),
}


class Shift(NamedTuple):
    """loss: a scalar. nearest: (B, k) places in the queue, nearest first. found: (B, k), False for places
    that are not filled, which are there only while fewer than k are."""

    loss: Tensor
    nearest: Tensor
    found: Tensor


@in_float32
def mean_shift(
    prediction: Tensor, target: Tensor, queue: Tensor, *, filled: Tensor, neighbours: int
) -> Shift:
    """prediction, target: (B, D), rows paired, of any length; queue: (K, D) of length 1; filled: (K,) bool.

    No gradient reaches `target` or `queue`. Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(prediction, target)
    queue = queue.detach()
    closeness = F.normalize(target.detach(), dim=1) @ queue.T
    top = closeness.masked_fill(~filled, float("-inf")).topk(neighbours, dim=1)
    found = filled[top.indices]
    cosines = (F.normalize(prediction, dim=1)[:, None] * queue[top.indices]).sum(dim=2)
    losses = ((2 - 2 * cosines) * found).sum(dim=1) / found.sum(dim=1)
    return Shift(layout_of(losses).mean(losses), top.indices, found)


@METHODS.register
class MSF(Method):
    """Logs `neighbour_purity`, the share of neighbours of the target's own meaning, the target itself one of
    them as in the paper's code, and `other_purity`, without the first neighbour (for k > 1)."""

    Config = MSFConfig
    stateful = True
    presets = PRESETS

    def __init__(self, config: MSFConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = plain_mlp(width, config.hidden, config.out, layers=config.layers, norm=True)
        self.predictor = plain_mlp(
            config.out, config.predictor_hidden, config.out, layers=config.predictor_layers, norm=True
        )
        self.target_encoder = frozen_copy(self.encoder)
        self.target_projector = frozen_copy(self.projector)
        self.queue = Queue(config.queue, config.out)
        self._new: tuple[Tensor, Tensor] | None = None  # targets and meanings of the step under way

    def after_step(self, progress: float) -> None:
        if self._new is not None:
            self.queue.push(*self._new)
        self._new = None
        momentum = warmed(self.config.momentum, progress, self.config.momentum_warm_up)
        follow(self.target_encoder, self.encoder, momentum)
        follow(self.target_projector, self.projector, momentum)

    def levels(self, pairs: int) -> Levels:
        return Levels(chance=2.0, collapse=0.0)

    def forward(self, views: Views) -> StepOutput:
        left, right = self.crops(views)
        query, other = on_sides(left, right, draw_sides(views.pair_id, self.queue.pushed))
        embeddings = self.encoder(query)
        prediction = self.predictor(self.projector(embeddings))
        with torch.no_grad():
            target = self.target_projector(self.target_encoder(other))
        if len(target) > len(self.queue.vectors):
            raise UserError("method.queue", f"must hold a batch, {len(target)}", len(self.queue.vectors))
        self._new, queue = (target, views.meaning), deepcopy(self.queue)
        queue.push(*self._new)  # as it will be after the step
        filled, neighbours = queue.full_places, self.config.neighbours
        shift = mean_shift(prediction, target, queue.vectors, filled=filled, neighbours=neighbours)
        same = (queue.meaning[shift.nearest] == views.meaning[:, None]) & (views.meaning >= 0)[:, None]
        logs = {"neighbour_purity": _share(same, shift.found)}
        if neighbours > 1:
            logs["other_purity"] = _share(same[:, 1:], shift.found[:, 1:])
        return StepOutput(shift.loss, logs, embeddings.detach())


def _share(same: Tensor, found: Tensor) -> Tensor:
    return (same & found).sum() / found.sum().clamp(min=1)
