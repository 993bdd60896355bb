"""SimCLR. Chen et al. 2020, arXiv:2002.05709, Eq. 1 and algorithm 1.

For the 2N views of N pairs, view i paired with j(i), of cosine s:
    ℓ_i = −log exp(s_{i,j(i)} / T) / Σ_{k ≠ i} exp(s_{i,k} / T),     loss = mean of ℓ over the 2N views.
As in the paper's code both views go through the network in one batch, so that batch normalisation takes its
statistics over 2B images, and the head is linear → norm → ReLU → linear → norm without biases.
Departures: the last norm keeps its shift, which the paper's code leaves out. Option `same_meaning_negatives:
mask` leaves pairs of the anchor's meaning out of the sum; it uses labels, so both arms of a contrast set it.
Option `negatives: same_domain` takes negatives of the anchor's own domain only (`pairs.domain_column`). They
are harder, as the domain does not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset, check_paired, in_float32
from sempairs.methods.distributed import Layout, layout_of
from sempairs.methods.heads import mlp
from sempairs.methods.negatives import domains, meaning_logs, other_domain
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.views.records import Views


class SimCLRConfig(MethodConfig):
    """Defaults are those of small images; `SimCLR.presets` has the published ones."""

    name: Literal["simclr"] = "simclr"
    temperature: float = Field(0.2, gt=0)
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    same_meaning_negatives: Literal["keep", "mask"] = "keep"
    negatives: Literal["all", "same_domain"] = "all"


PRESETS = {
    "imagenet-r50": Preset(
        SimCLRConfig(temperature=0.1, hidden=2048, out=128),
        "LARS, lr .3·bs/256 (bs 4096) or .075·√bs, warm-up 10 epochs, cosine, weight decay 1e-4",
        "arXiv:2002.05709, section 2.1 and appendix B.1",
    ),
    "cifar-r18": Preset(
        SimCLRConfig(temperature=0.2, hidden=2048, out=256),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .4, cosine, weight decay 1e-4",
        "solo-learn, scripts/pretrain/cifar/simclr.yaml",
    ),
    "tiny": Preset(
        SimCLRConfig(), "14 epochs, bs 128, AdamW, lr 8e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def nt_xent(left: Tensor, right: Tensor, *, temperature: float, exclude: Tensor | None = None) -> Tensor:
    """Mean loss over both directions; left, right: (B, D), rows paired, of any length.

    Negatives are the views of all N pairs over processes, with gradients. `exclude` (2B, 2N): True where a
    view here (all of left, then all of right) takes no part among the negatives of another.
    Raises: ValueError if shapes differ or B < 2.
    """
    logits, partner, layout = view_logits(left, right, temperature=temperature, exclude=exclude)
    return layout.mean(F.cross_entropy(logits, partner, reduction="none"))


@in_float32
def several_nt_xent(*views: Tensor, temperature: float, exclude: Tensor | None = None) -> Tensor:
    """NT-Xent with several positives: each of V views (B, D) of a pair is one of each other.

    −1/(V − 1) Σ_p log( exp(s_{i,p} / T) / Σ_{k ≠ i} exp(s_{i,k} / T) ), its mean over the V·N views i, p the
    other views of i's pair: Khosla et al. 2020, arXiv:2004.11362, Eq. 2, with pairs for labels. `nt_xent` for
    V = 2. `exclude` (VB, VN) as there. Raises: ValueError if shapes differ or B < 2.
    """
    logits, partners, layout = several_logits(list(views), temperature=temperature, exclude=exclude)
    return layout.mean(-F.log_softmax(logits, dim=1).gather(1, partners).mean(dim=1))


def view_logits(
    left: Tensor, right: Tensor, *, temperature: float, exclude: Tensor | None
) -> tuple[Tensor, Tensor, Layout]:
    """Cosines over the temperature (2B, 2N), −∞ with itself and where `exclude`; each partner's column."""
    logits, partners, layout = several_logits([left, right], temperature=temperature, exclude=exclude)
    return logits, partners[:, 0], layout


def several_logits(
    crops: Sequence[Tensor], *, temperature: float, exclude: Tensor | None
) -> tuple[Tensor, Tensor, Layout]:
    """Those of `view_logits` for V crops, (VB, VN); the columns (VB, V − 1) of the others of its pair."""
    for crop in crops[1:]:
        check_paired(crops[0], crop)
    views = F.normalize(torch.cat(list(crops)), dim=1)
    layout = layout_of(views)
    logits = views @ layout.gather(views).T / temperature
    if exclude is not None:
        logits = logits.masked_fill(exclude, float("-inf"))
    own, partners = _columns(layout, views.device, len(crops))
    return logits.scatter(1, own[:, None], float("-inf")), partners, layout


def same_meaning(meaning: Tensor, crops: int = 2) -> Tensor:
    """(VB, VN) from ids (B,): whether a view is a negative of this one and shares its meaning; V `crops`.

    Ids below 0 are unknown and equal none.
    """
    views = meaning.repeat(crops)
    layout = layout_of(views)
    same = (views[:, None] == layout.gather(views)) & (views >= 0)[:, None]
    own, partners = _columns(layout, views.device, crops)
    return same.scatter(1, own[:, None], False).scatter(1, partners, False)


def excluded(config: Any, same: Tensor, views: Views) -> Tensor | None:
    """(VB, VN): the negatives that a config leaves out, null for none; never a view's own partners.

    config: with `same_meaning_negatives` and `negatives`. same: `same_meaning` of all crops of `views`.
    """
    leave = same if config.same_meaning_negatives == "mask" else None
    if config.negatives == "same_domain":
        domain = domains(views)
        of = domain.flatten()
        layout = layout_of(of)
        others = other_domain(of, layout.gather(of))
        others = others.scatter(1, _columns(layout, of.device, len(domain))[1], False)
        leave = others if leave is None else leave | others
    return leave


def _columns(layout: Layout, device: torch.device, crops: int) -> tuple[Tensor, Tensor]:
    """Where each view of this process (VB,) stands among all; where the others of its pair do (VB, V − 1)."""
    count = layout.counts[layout.rank]
    order = torch.arange(count, device=device)
    others = [order.roll(-other * (count // crops)) for other in range(1, crops)]
    return layout.first + order, layout.first + torch.stack(others, dim=1)


@METHODS.register
class SimCLR(PairMethod):
    """Logs `same_meaning_negatives` (mean count a view) and `same_meaning_fraction` (of its negatives)."""

    Config = SimCLRConfig
    presets = PRESETS
    joint_forward = True

    def __init__(self, config: SimCLRConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=False, norm_last=True
        )

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(*[math.log(crops * pairs - 1)] * 2)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in self.through(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Tensor]:
        return self.through(self.projector, [rows for (rows,) in features])

    def compare(self, left: Tensor, right: Tensor, views: Views, local: Sequence[Tensor] = ()) -> Compared:
        same = same_meaning(views.meaning)
        exclude = excluded(self.config, same, views)
        loss = nt_xent(left, right, temperature=self.config.temperature, exclude=exclude)
        return Compared(loss, meaning_logs(same, same.shape[1] - 2))

    def compare_several(self, anchor: Tensor, partners: Sequence[Tensor], views: Views) -> Compared:
        same = same_meaning(views.meaning, 1 + len(partners))
        exclude = excluded(self.config, same, views)
        loss = several_nt_xent(anchor, *partners, temperature=self.config.temperature, exclude=exclude)
        return Compared(loss, meaning_logs(same, same.shape[1] - 1 - len(partners)))
