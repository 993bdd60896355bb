"""SupCon, a reference that sees labels. Khosla et al. 2020, arXiv:2004.11362, Eq. 2 (L_out).

For the 2N views of N pairs, of cosine s, with P(i) the other views of the same meaning as view i:
    ℓ_i = −(1/|P(i)|) Σ_{p ∈ P(i)} log( exp(s_{i,p} / T) / Σ_{k ≠ i} exp(s_{i,k} / T) ),
    loss = T / T₀ · mean of ℓ over the 2N views.
Eq. 2 has no factor T / T₀ and a sum for the mean. The paper's codes have the mean, and the factor so that a
temperature does not change the gradient's scale: T₀ = 1 in google-research/supcon (`scale_by_temperature`,
its ImageNet runs), T₀ = .07 in HobbitLong/SupContrast (`base_temperature`, its CIFAR runs). T₀ = T: Eq. 2.
With a meaning for each pair alone, and T₀ = T, it is SimCLR's loss. Meanings are those of the semantic pairs
in every arm; a partner always counts as positive, and ids below 0 are unknown and equal none.
Departures: head, and norm over both views, are SimCLR's here, so that labels are all that differs from it;
the paper's head has no norm.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, Method, MethodConfig, Preset, StepOutput, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.heads import mlp
from sempairs.methods.simclr import same_meaning, view_logits
from sempairs.views.records import Views


class SupConConfig(MethodConfig):
    """Defaults are those of small images; `SupCon.presets` has the published ones."""

    name: Literal["supcon"] = "supcon"
    temperature: float = Field(0.2, gt=0)
    base_temperature: float = Field(0.2, gt=0)
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector


PRESETS = {
    "imagenet-r50": Preset(
        SupConConfig(temperature=0.1, base_temperature=1.0, hidden=2048, out=128),
        "350 epochs, bs 6144, LARS, lr .4·bs/256, warm-up 12 epochs, cosine, weight decay 1e-3, AutoAugment",
        "google-research, supcon/scripts/supcon_imagenet_resnet50.sh, configs.sh, hparams_flags.py",
    ),
    "cifar-r18": Preset(
        SupConConfig(temperature=0.2, base_temperature=0.2, hidden=2048, out=256),
        "1000 epochs, bs 256, SGD, lr .4, warm-up and cosine, weight decay 1e-5",
        "solo-learn, scripts/pretrain/cifar/supcon.yaml, whose loss, unlike this one, sums over positives "
        "inside the logarithm (solo/losses/simclr.py)",
    ),
    "tiny": Preset(
        SupConConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def supcon_loss(
    left: Tensor, right: Tensor, meaning: Tensor, *, temperature: float, base_temperature: float
) -> Tensor:
    """left, right: (B, D), rows paired, of any length; meaning: (B,) ids, equal where pairs mean the same.

    Positives and negatives are the views of all N pairs over processes, with gradients.
    Raises: ValueError if shapes differ or B < 2.
    """
    logits, _, layout = view_logits(left, right, temperature=temperature, exclude=None)
    positive = positives(meaning)
    log_share = F.log_softmax(logits, dim=1).masked_fill(~positive, 0)
    mean_of_positives = log_share.sum(dim=1) / positive.sum(dim=1)
    return layout.mean(-temperature / base_temperature * mean_of_positives)


def positives(meaning: Tensor) -> Tensor:
    """(2B, 2N) from ids (B,): whether a view of any process is another one of this view's meaning."""
    layout = layout_of(meaning.repeat(2))
    order = torch.arange(layout.counts[layout.rank], device=meaning.device)
    partner = layout.first + order.roll(len(meaning))
    return same_meaning(meaning).scatter(1, partner[:, None], True)


@METHODS.register
class SupCon(Method):
    """Logs `positives`, the mean count a view, its partner among them."""

    Config = SupConConfig
    presets = PRESETS
    joint_forward = True

    def __init__(self, config: SupConConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=False, norm_last=True
        )

    def levels(self, pairs: int) -> Levels:
        factor = self.config.temperature / self.config.base_temperature
        return Levels(*[factor * math.log(2 * pairs - 1)] * 2)

    def forward(self, views: Views) -> StepOutput:
        left, right = self.crops(views)
        embeddings = self.encoder(torch.cat([left, right]))
        of_left, of_right = self.projector(embeddings).chunk(2)
        loss = supcon_loss(
            of_left,
            of_right,
            views.meaning,
            temperature=self.config.temperature,
            base_temperature=self.config.base_temperature,
        )
        count = positives(views.meaning).sum(dim=1).float().mean()
        return StepOutput(loss, {"positives": count}, embeddings[: len(left)].detach())
