"""SimSiam. Chen & He 2021, arXiv:2011.10566, Eq. 1 to 4 and algorithm 1.

With projection z, prediction p = h(z), both of one network shared by the views, and D(p, z) = −cos(p, sg z):
    loss = ½ D(p_left, z_right) + ½ D(p_right, z_left),   mean over pairs, in [−1, 1].
Heads as in the paper's code (facebookresearch/simsiam, simsiam/builder.py): three linear maps, each followed
by a norm, the last norm without scale and shift; the predictor is a bottleneck of a quarter of the width, and
its rate stays constant (section 4.2, --fix-pred-lr). Each view goes through the network by itself.
Departures: the projector's hidden width is a setting, and the same for any encoder. A constant rate has no
warm-up either; the paper has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import (
    METHODS,
    Levels,
    MethodConfig,
    ParamRule,
    Preset,
    check_paired,
    in_float32,
)
from sempairs.methods.distributed import layout_of
from sempairs.methods.heads import mlp
from sempairs.methods.health import projection_health
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.views.records import Views


class SimSiamConfig(MethodConfig):
    """Defaults are those of small images; `SimSiam.presets` has the published ones."""

    name: Literal["simsiam"] = "simsiam"
    hidden: int = Field(512, ge=1)
    out: int = Field(512, ge=1)
    layers: int = Field(3, ge=1)  # of the projector
    predictor_hidden: int = Field(128, ge=1)
    predictor_layers: int = Field(2, ge=1)
    # Section 4.2: it should adapt to the latest representations, so its rate is not lowered.
    constant_predictor_lr: bool = True


PRESETS = {
    "imagenet-r50": Preset(
        SimSiamConfig(hidden=2048, out=2048, predictor_hidden=512),
        "100 epochs, bs 512, SGD, lr .05·bs/256, cosine, momentum .9, weight decay 1e-4 on all parameters",
        "facebookresearch/simsiam, main_simsiam.py and simsiam/builder.py; arXiv:2011.10566, section 3",
    ),
    "cifar-r18": Preset(
        SimSiamConfig(hidden=2048, out=2048, predictor_hidden=512),
        "1000 epochs, bs 256, SGD, lr .5, warm-up and cosine, weight decay 1e-5",
        "solo-learn, scripts/pretrain/cifar/simsiam.yaml and solo/methods/simsiam.py",
    ),
    "tiny": Preset(
        SimSiamConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of −cos over rows: D of Eq. 1 with Eq. 3's stop-gradient. prediction, target: (B, D), rows paired.

    No gradient reaches `target`. Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(prediction, target)
    cosines = (F.normalize(prediction, dim=1) * F.normalize(target.detach(), dim=1)).sum(dim=1)
    return layout_of(cosines).mean(-cosines)


class Sides(NamedTuple):
    """Of one crop, rows (B, D)."""

    prediction: Tensor
    projection: Tensor


@METHODS.register
class SimSiam(PairMethod):
    """Logs `projection_std` and `projection_rank` (see `health`), which fall when it collapses."""

    Config = SimSiamConfig
    presets = PRESETS

    def __init__(self, config: SimSiamConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width,
            config.hidden,
            config.out,
            layers=config.layers,
            bias=False,
            norm_last=True,
            affine_last=False,
        )
        self.predictor = mlp(
            config.out,
            config.predictor_hidden,
            config.out,
            layers=config.predictor_layers,
            bias=False,
            norm_last=False,
            bias_last=True,
        )

    def param_rule(self, name: str, parameter: nn.Parameter) -> ParamRule:
        return ParamRule(constant_lr=self.config.constant_predictor_lr and name.startswith("predictor."))

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(chance=0.0, collapse=-1.0)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in self.through(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Sides]:
        projections = self.through(self.projector, [rows for (rows,) in features])
        return [
            Sides(*both) for both in zip(self.through(self.predictor, projections), projections, strict=True)
        ]

    def compare(self, left: Sides, right: Sides, views: Views, local: Sequence[Sides] = ()) -> Compared:
        directions = (left.prediction, right.projection), (right.prediction, left.projection)
        loss = torch.stack([negative_cosine(*pair) for pair in directions]).mean()
        return Compared(loss, projection_health(left.projection))
