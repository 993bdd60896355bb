"""VICReg. Bardes, Ponce & LeCun 2022, arXiv:2105.04906, Eq. 1 to 6, at the scale of the paper's code.

    loss = λ s + μ v + ν c,   λ = μ = 25, ν = 1, with
    s: mean of (z − z')² over pairs and dimensions,
    v: ½ Σ over both branches of the mean over dimensions of max(0, 1 − sqrt(Var + ε)), ε = 1e-4,
    c: Σ over both branches of (1/D) Σ_{i≠j} Cov_{ij}²; Var and Cov with n − 1, over all processes' rows.
The paper's text has s summed over dimensions (D times this) and v without the ½; its code, and lightly's
VICRegLoss (with gather_distributed=True), have what is here. Each view goes through the network by itself.
Departures: none from the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset, check_paired, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.heads import mlp
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.views.records import Views

EPSILON = 1e-4


class VICRegConfig(MethodConfig):
    """Defaults are those of small images; `VICReg.presets` has the published ones."""

    name: Literal["vicreg"] = "vicreg"
    hidden: int = Field(512, ge=1)
    out: int = Field(512, ge=1)
    layers: int = Field(3, ge=1)  # of the projector
    invariance: float = Field(25.0, ge=0)
    variance: float = Field(25.0, ge=0)
    covariance: float = Field(1.0, ge=0)


PRESETS = {
    "imagenet-r50": Preset(
        VICRegConfig(hidden=8192, out=8192),
        "LARS, lr .2·bs/256 (bs 2048), warm-up 10 epochs, cosine, weight decay 1e-6",
        "arXiv:2105.04906, section 4.2",
    ),
    "cifar-r18": Preset(
        # Its variance term is the sum of both branches' where v here is their mean: 25 there is 50 here.
        VICRegConfig(hidden=2048, out=2048, variance=50.0),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .3, cosine, weight decay 1e-4",
        "solo-learn, scripts/pretrain/cifar/vicreg.yaml and solo/losses/vicreg.py",
    ),
    "tiny": Preset(
        VICRegConfig(), "14 epochs, bs 128, AdamW, lr 8e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


class Terms(NamedTuple):
    """The unweighted terms s, v and c, scalars."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


@in_float32
def vicreg_terms(left: Tensor, right: Tensor) -> Terms:
    """The three terms of left, right: (B, D), rows paired, gathered over processes with gradients.

    Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(left, right)
    layout = layout_of(left)
    left, right = layout.gather(left), layout.gather(right)
    return Terms(
        F.mse_loss(left, right),
        (_variance(left) + _variance(right)) / 2,
        _covariance(left) + _covariance(right),
    )


def _variance(rows: Tensor) -> Tensor:
    return F.relu(1 - (rows.var(dim=0) + EPSILON).sqrt()).mean()


def _covariance(rows: Tensor) -> Tensor:
    count, width = rows.shape
    centred = rows - rows.mean(dim=0)
    covariance = centred.T @ centred / (count - 1)
    return covariance.fill_diagonal_(0).square().sum() / width


@METHODS.register
class VICReg(PairMethod):
    """Logs the three terms, unweighted."""

    Config = VICRegConfig
    presets = PRESETS

    def __init__(self, config: VICRegConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.expander = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=True, norm_last=False
        )

    def term_levels(self, pairs: int, crops: int) -> Levels:
        # Unrelated rows of variance 1, whose covariances have a variance of 1 / (N − 1); and rows of none.
        spread = 2 * self.config.covariance * (self.config.out - 1) / (pairs - 1)
        collapsed = self.config.variance * (1 - math.sqrt(EPSILON))
        return Levels(2 * self.config.invariance + spread, collapsed)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in self.through(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Tensor]:
        return self.through(self.expander, [rows for (rows,) in features])

    def compare(self, left: Tensor, right: Tensor, views: Views, local: Sequence[Tensor] = ()) -> Compared:
        terms = vicreg_terms(left, right)
        loss = (
            self.config.invariance * terms.invariance
            + self.config.variance * terms.variance
            + self.config.covariance * terms.covariance
        )
        return Compared(loss, {name: term.detach() for name, term in terms._asdict().items()})
