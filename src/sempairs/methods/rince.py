"""RINCE. Chuang et al. 2022, arXiv:2201.04309: a contrastive loss that bears false positive pairs.

For the 2N views of N pairs, view i paired with j(i), cosine s, positive P_i = exp(s_{i,j(i)} / T) and
S_i = P_i + Σ over the views of other pairs of exp(s_{i,k} / T):
    ℓ_i = −P_i^q / q + (λ S_i)^q / q,     loss = mean of ℓ over the 2N views.
q → 0 gives InfoNCE plus log λ; q = 1 is symmetric in the sense of robust classification, so that pairs that
do not agree weigh less in the gradient; λ weighs the negatives. As in chingyaoc/RINCE, simclr_module.py.
Departures: the network is SimCLR's here (both views in one batch, no biases, a last normalisation), so that
the two differ in the loss alone. Option `same_meaning_negatives: mask` leaves pairs of the anchor's meaning
out of the sum.
Option `negatives: same_domain` takes negatives of the anchor's own domain only (`pairs.domain_column`). They
are harder, as the domain does not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset, in_float32
from sempairs.methods.heads import mlp
from sempairs.methods.negatives import meaning_logs
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.methods.simclr import excluded, same_meaning, view_logits
from sempairs.views.records import Views


class RINCEConfig(MethodConfig):
    """Defaults are those of small images; `RINCE.presets` has the published ones."""

    name: Literal["rince"] = "rince"
    temperature: float = Field(0.2, gt=0)
    q: float = Field(0.1, gt=0, le=1)
    lam: float = Field(0.01, gt=0, le=1)
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    same_meaning_negatives: Literal["keep", "mask"] = "keep"
    negatives: Literal["all", "same_domain"] = "all"


PRESETS = {
    "imagenet-r50": Preset(
        RINCEConfig(temperature=0.1, hidden=2048),
        "800 epochs, bs 4096, LARS, lr 4.8, warm-up 10 epochs, cosine, weight decay 1e-6",
        "chingyaoc/RINCE, ImageNet/simclr/README.md and simclr_module.py",
    ),
    "cifar-r18": Preset(
        RINCEConfig(temperature=0.5, q=0.5, lam=0.001, hidden=2048),
        "bs 128, Adam, lr 1e-3, warm-up 10 epochs, cosine, weight decay 1e-6",
        "chingyaoc/RINCE, ImageNet/simclr/simclr_module.py, defaults for cifar10",
    ),
    "tiny": Preset(
        RINCEConfig(),
        "14 epochs, bs 128, AdamW, lr 8e-3, warm-up and cosine, crop from .08 and colours half as wide again",
        "benchmarks/tuning.py",
    ),
}


@in_float32
def rince_loss(
    left: Tensor,
    right: Tensor,
    *,
    temperature: float,
    q: float,
    lam: float,
    exclude: Tensor | None = None,
) -> Tensor:
    """Mean loss over both directions; left, right: (B, D), rows paired, of any length.

    Negatives are the views of all N pairs over processes, with gradients. `exclude` (2B, 2N) as `nt_xent`'s.
    Raises: ValueError if shapes differ or B < 2.
    """
    logits, partner, layout = view_logits(left, right, temperature=temperature, exclude=exclude)
    positive = logits.gather(1, partner[:, None])[:, 0]
    # Powers of sums of exponentials, taken as exponentials of logarithms: S itself leaves float32 soon.
    whole = math.log(lam) + logits.logsumexp(dim=1)
    return layout.mean(((q * whole).exp() - (q * positive).exp()) / q)


@METHODS.register
class RINCE(PairMethod):
    """Logs `same_meaning_negatives` (mean count a view) and `same_meaning_fraction` (of its negatives)."""

    Config = RINCEConfig
    presets = PRESETS
    joint_forward = True

    def __init__(self, config: RINCEConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=False, norm_last=True
        )

    def term_levels(self, pairs: int, crops: int) -> Levels:
        q, whole = self.config.q, self.config.lam * (2 * pairs - 1)
        chance = (whole**q - 1) / q
        return Levels(chance, chance * math.exp(q / self.config.temperature))

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in self.through(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Tensor]:
        return self.through(self.projector, [rows for (rows,) in features])

    def compare(self, left: Tensor, right: Tensor, views: Views, local: Sequence[Tensor] = ()) -> Compared:
        same = same_meaning(views.meaning)
        loss = rince_loss(
            left,
            right,
            temperature=self.config.temperature,
            q=self.config.q,
            lam=self.config.lam,
            exclude=excluded(self.config, same, views),
        )
        return Compared(loss, meaning_logs(same, same.shape[1] - 2))
