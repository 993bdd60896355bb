"""Barlow Twins. Zbontar et al. 2021, arXiv:2103.03230, Eq. 1 and 2 and algorithm 1, at the scale of its code.

With both views' projections normalised column by column to mean 0 and variance 1 over the batch, and
C = Z_leftᵀ Z_right / N their cross-correlation (D, D):
    loss = Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij²,   λ = .0051.
As in the paper's code (facebookresearch/barlowtwins, main.py) the norm is batch normalisation's, with the
variance over N and ε = 1e-5 under the root, and C is that of the rows of all processes; lightly's
BarlowTwinsLoss has the same value. Each view goes through the network by itself.
Departures: none from the code. `scale` multiplies the loss, as solo-learn does: with LARS it decides how far
biases and norms, which are not rescaled, move, and how much weight decay weighs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

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
from sempairs.methods.health import participation_ratio
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.views.records import Views


class BarlowTwinsConfig(MethodConfig):
    """Defaults are those of small images; `BarlowTwins.presets` has the published ones."""

    name: Literal["barlow_twins"] = "barlow_twins"
    hidden: int = Field(512, ge=1)
    out: int = Field(512, ge=1)
    layers: int = Field(3, ge=1)  # of the projector
    off_diagonal: float = Field(0.0051, ge=0)  # λ
    scale: float = Field(1.0, gt=0)
    # On the rate of parameters with one dimension: biases, and the scales and shifts of norms.
    vector_lr_scale: float = Field(1.0, gt=0)


PRESETS = {
    "imagenet-r50": Preset(
        BarlowTwinsConfig(hidden=8192, out=8192, vector_lr_scale=0.0048 / 0.2),
        "1000 epochs, bs 2048, LARS, lr .2·bs/256 (biases and norms .0048·bs/256), warm-up 10 epochs, cosine "
        "to .001 of it, weight decay 1e-6",
        "facebookresearch/barlowtwins, main.py; arXiv:2103.03230, section 2.2",
    ),
    "cifar-r18": Preset(
        BarlowTwinsConfig(hidden=2048, out=2048, scale=0.1),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .3, warm-up and cosine, weight decay 1e-4",
        "solo-learn, scripts/pretrain/cifar/barlow.yaml",
    ),
    "tiny": Preset(
        BarlowTwinsConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


class Terms(NamedTuple):
    """The unweighted sums over the diagonal and off it, scalars."""

    on_diagonal: Tensor
    off_diagonal: Tensor


@in_float32
def barlow_terms(left: Tensor, right: Tensor) -> Terms:
    """Σ_i (1 − C_ii)² and Σ_{i≠j} C_ij² of left, right: (B, D), rows paired, gathered with gradients.

    Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(left, right)
    layout = layout_of(left)
    left, right = _standardised(layout.gather(left)), _standardised(layout.gather(right))
    correlation = left.T @ right / layout.total
    diagonal = correlation.diagonal()
    return Terms((1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum())


def _standardised(rows: Tensor) -> Tensor:
    return F.batch_norm(rows, None, None, training=True, eps=1e-5)


@METHODS.register
class BarlowTwins(PairMethod):
    """Logs the two terms, unweighted, and `projection_rank`: the directions that the columns, of variance 1,
    vary in (see `health`); it falls when they say the same."""

    Config = BarlowTwinsConfig
    presets = PRESETS

    def __init__(self, config: BarlowTwinsConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=False, norm_last=False
        )

    def param_rule(self, name: str, parameter: nn.Parameter) -> ParamRule:
        return ParamRule(lr_scale=self.config.vector_lr_scale if parameter.ndim == 1 else 1.0)

    def term_levels(self, pairs: int, crops: int) -> Levels:
        # Correlations of N unrelated rows have a variance of 1 / N.
        width, other = self.config.out, self.config.off_diagonal * (self.config.out - 1)
        return Levels(*(self.config.scale * width * of for of in (1 + (1 + other) / pairs, 1.0)))

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in self.through(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Tensor]:
        return self.through(self.projector, [rows for (rows,) in features])

    def compare(self, left: Tensor, right: Tensor, views: Views, local: Sequence[Tensor] = ()) -> Compared:
        terms = barlow_terms(left, right)
        loss = self.config.scale * (terms.on_diagonal + self.config.off_diagonal * terms.off_diagonal)
        logs = {name: term.detach() for name, term in terms._asdict().items()}
        every = layout_of(left).gather(left.detach().float())
        logs["projection_rank"] = participation_ratio(_standardised(every))
        return Compared(loss, logs)
