"""BYOL. Grill et al. 2020, arXiv:2006.07733, Eq. 2 and algorithm 1.

Online network: encoder, projector, predictor q. Target: encoder and projector that follow the online ones.
    L(a, b) = 2 − 2 cos(q(a), sg z'(b)),     loss = mean over pairs of L(left, right) + L(right, left),
the two directions summed, as in the paper's code (equal to lightly's benchmark loss plus 4). After each step
target ← τ target + (1 − τ) online, τ = 1 − (1 − τ₀)(cos(πk/K) + 1)/2. Each view goes through each network
by itself, and the target normalises by its own batches and keeps its own running statistics, as there.
Departures: the target starts as a copy of the online network; the paper's code draws it anew and notes no
difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset, check_paired, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.heads import mlp
from sempairs.methods.momentum import cosine_momentum, follow, frozen_copy, warmed
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.views.records import Views


class BYOLConfig(MethodConfig):
    """Defaults are those of small images; `BYOL.presets` has the published ones."""

    name: Literal["byol"] = "byol"
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    predictor_hidden: int = Field(512, ge=1)
    predictor_layers: int = Field(2, ge=1)
    momentum: float = Field(0.99, ge=0, le=1)
    final_momentum: float = Field(1.0, ge=0, le=1)
    # The share of the steps over which the momentum rises from 0; for encoders that go on.
    momentum_warm_up: float = Field(0.0, ge=0, le=1)


PRESETS = {
    "imagenet-r50": Preset(
        BYOLConfig(hidden=4096, out=256, predictor_hidden=4096),
        "LARS, lr .45·bs/256 and weight decay 1e-6 for 100 epochs (.3 for 300; .2, 1.5e-6 and momentum .996 "
        "for 1000), warm-up 10 epochs, cosine",
        "deepmind-research, byol/configs/byol.py",
    ),
    "cifar-r18": Preset(
        BYOLConfig(hidden=4096, out=256, predictor_hidden=4096),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr 1.0, cosine, weight decay 1e-5",
        "solo-learn, scripts/pretrain/cifar/byol.yaml",
    ),
    "tiny": Preset(
        BYOLConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of 2 − 2 cos over rows: one direction. prediction, target: (B, D), rows paired, of any length.

    No gradient reaches `target`. Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(prediction, target)
    cosines = (F.normalize(prediction, dim=1) * F.normalize(target.detach(), dim=1)).sum(dim=1)
    return layout_of(cosines).mean(2 - 2 * cosines)


class Sides(NamedTuple):
    """Of one crop, rows (B, D) of either network: features; then the prediction and the target."""

    online: Tensor
    target: Tensor


@METHODS.register
class BYOL(PairMethod):
    Config = BYOLConfig
    stateful = True
    presets = PRESETS

    def __init__(self, config: BYOLConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=True, norm_last=False
        )
        self.predictor = mlp(
            config.out,
            config.predictor_hidden,
            config.out,
            layers=config.predictor_layers,
            bias=True,
            norm_last=False,
        )
        self.target_encoder = frozen_copy(self.encoder)
        self.target_projector = frozen_copy(self.projector)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        momentum = cosine_momentum(self.config.momentum, self.config.final_momentum, progress)
        momentum = warmed(momentum, progress, self.config.momentum_warm_up)
        follow(self.target_encoder, self.encoder, momentum)
        follow(self.target_projector, self.projector, momentum)

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(chance=4.0, collapse=0.0)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[Sides]:
        online = self.through(self.encoder, crops)
        with torch.no_grad():
            return [
                Sides(*both) for both in zip(online, self.through(self.target_encoder, crops), strict=True)
            ]

    def project(self, features: Sequence[Sides], views: Views) -> list[Sides]:
        online = self.through(self.projector, [rows for rows, _ in features])
        predictions = self.through(self.predictor, online)
        with torch.no_grad():
            targets = self.through(self.target_projector, [rows for _, rows in features])
        return [Sides(*both) for both in zip(predictions, targets, strict=True)]

    def compare(self, left: Sides, right: Sides, views: Views, local: Sequence[Sides] = ()) -> Compared:
        loss = byol_loss(left.online, right.target) + byol_loss(right.online, left.target)
        return Compared(loss, {})
