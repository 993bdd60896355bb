"""DCL and DCLW. Yeh et al. 2022, arXiv:2110.06848, Eq. 6 and 7.

SimCLR's loss without the positive in the sum. For the 2N views of N pairs, view i paired with j(i), cosine s:
    ℓ_i = −w_i s_{i,j(i)} / T + log Σ_{k ≠ i, j(i)} exp(s_{i,k} / T),     mean of ℓ over the 2N views
(as lightly's DCLLoss; the paper sums). w = 1; with `sigma`, DCLW, by the von Mises-Fisher density σ:
    w_i = 2 − exp(s_{i,j(i)} / σ) / mean over pairs of exp(s / σ), a constant for the gradient.
Network as SimCLR's here, so that the two differ in the loss alone.
Departures: none. Option `same_meaning_negatives: mask` leaves pairs of the anchor's meaning out of the sum; a
view left without negatives has no second term.
Option `negatives: same_domain` takes negatives of the anchor's own domain only (`pairs.domain_column`). They
are harder, as the domain does not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset, in_float32
from sempairs.methods.heads import mlp
from sempairs.methods.negatives import meaning_logs
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.methods.simclr import excluded, same_meaning, several_logits, view_logits
from sempairs.views.records import Views


class DCLConfig(MethodConfig):
    """Defaults are those of small images; `DCL.presets` has the published ones."""

    name: Literal["dcl"] = "dcl"
    temperature: float = Field(0.2, gt=0)
    sigma: float | None = Field(None, gt=0)
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    same_meaning_negatives: Literal["keep", "mask"] = "keep"
    negatives: Literal["all", "same_domain"] = "all"


PRESETS = {
    "imagenet-r50": Preset(
        DCLConfig(temperature=0.1, hidden=2048, out=128),
        "LARS, lr .075·√bs, warm-up 10 epochs, cosine, weight decay 1e-6",
        "lightly, benchmarks/imagenet/resnet50/dcl.py",
    ),
    "cifar-r18": Preset(
        DCLConfig(temperature=0.1, hidden=2048, out=256),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .4, cosine, weight decay 1e-4",
        "as SimCLR (solo-learn), with the temperature of lightly's DCLLoss",
    ),
    "tiny": Preset(
        DCLConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def dcl_loss(
    left: Tensor,
    right: Tensor,
    *,
    temperature: float,
    sigma: float | None = None,
    exclude: Tensor | None = None,
) -> Tensor:
    """Mean loss over both directions; left, right: (B, D), rows paired, of any length.

    Negatives are the views of all N pairs over processes, with gradients. `exclude` (2B, 2N) as `nt_xent`'s.
    Raises: ValueError if shapes differ or B < 2.
    """
    logits, partner, layout = view_logits(left, right, temperature=temperature, exclude=exclude)
    positive = logits.gather(1, partner[:, None])[:, 0]
    negative = _negative(logits, partner[:, None])
    weight = 1.0 if sigma is None else _weight(layout.gather(positive.detach()), temperature / sigma)
    if isinstance(weight, Tensor):
        weight = weight[layout.first : layout.first + len(positive)]
    return layout.mean(negative - weight * positive)


@in_float32
def several_dcl_loss(*views: Tensor, temperature: float, exclude: Tensor | None = None) -> Tensor:
    """With several positives, each of V views (B, D) of a pair being one of each other: their mean of
    s_{i,p} / T is in the first term, and none of them is in the sum. `dcl_loss` for V = 2.

    `exclude` (VB, VN). Raises: ValueError if shapes differ or B < 2.
    """
    logits, partners, layout = several_logits(list(views), temperature=temperature, exclude=exclude)
    return layout.mean(_negative(logits, partners) - logits.gather(1, partners).mean(dim=1))


def _negative(logits: Tensor, partners: Tensor) -> Tensor:
    """The second term of each view: over all columns but those of its pair."""
    logits = logits.scatter(1, partners, float("-inf"))
    alone = logits.isneginf().all(dim=1)
    # A sum over nothing: its logarithm, and the gradient of that, must not be taken.
    return logits.masked_fill(alone[:, None], 0.0).logsumexp(dim=1).masked_fill(alone, 0.0)


def _weight(positive: Tensor, scale: float) -> Tensor:
    """w of all views, from their logits; each pair has two views of one cosine, so its mean is the pairs'."""
    return 2 - len(positive) * torch.softmax(positive * scale, dim=0)


@METHODS.register
class DCL(PairMethod):
    """Logs `same_meaning_negatives` (mean count a view) and `same_meaning_fraction` (of its negatives)."""

    Config = DCLConfig
    presets = PRESETS
    joint_forward = True

    def __init__(self, config: DCLConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=False, norm_last=True
        )

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(*[math.log((crops if self.config.sigma is None else 2) * (pairs - 1))] * 2)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in self.through(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Tensor]:
        return self.through(self.projector, [rows for (rows,) in features])

    def compare(self, left: Tensor, right: Tensor, views: Views, local: Sequence[Tensor] = ()) -> Compared:
        same = same_meaning(views.meaning)
        loss = dcl_loss(
            left,
            right,
            temperature=self.config.temperature,
            sigma=self.config.sigma,
            exclude=excluded(self.config, same, views),
        )
        return Compared(loss, meaning_logs(same, same.shape[1] - 2))

    def compare_several(self, anchor: Tensor, partners: Sequence[Tensor], views: Views) -> Compared:
        if self.config.sigma is not None:  # its weights are of one partner
            return super().compare_several(anchor, partners, views)
        same = same_meaning(views.meaning, 1 + len(partners))
        exclude = excluded(self.config, same, views)
        temperature = self.config.temperature
        loss = several_dcl_loss(anchor, *partners, temperature=temperature, exclude=exclude)
        return Compared(loss, meaning_logs(same, same.shape[1] - 1 - len(partners)))
