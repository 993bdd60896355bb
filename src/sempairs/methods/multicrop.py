"""What methods share that predict the code of one crop from the other crops of a pair: DINO and SwAV.

V crops a pair: T of them global (an anchor's, a partner's), which give codes, then the local ones. Every code
is predicted from every other crop, as in the papers, whichever member that crop shows. With L local crops,
even ones the anchor's, 1 + L/2 of a code's 1 + L terms join two members (two images, where the pair is
semantic) and L/2 join two crops of one image, global and local: the papers' own, augmented, pairs. They stay
in, so that more local crops never make a pair less semantic than half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sempairs.methods.base import in_float32
from sempairs.methods.distributed import layout_of, over_processes

GLOBAL = 2
# Groups that codes tell rows apart into. On made-up data (tests/methods/test_multicrop.py) healthy ones had
# 2.4 to 18, collapsed ones 1.0 to 1.1.
LEAST_CODE_INFORMATION = 1.5


def by_resolution(network: Callable[[Tensor], Tensor], crops: Sequence[Tensor]) -> Tensor:
    """(V, B, D): what `network` gives for each of V crops, those of one size passing it in one batch.

    So each resolution has batch statistics of its own, as in the papers' code.
    """
    sizes = [crop.shape[-2:] for crop in crops]
    out: list[Tensor | None] = [None] * len(crops)
    for size in dict.fromkeys(sizes):
        places = [place for place, other in enumerate(sizes) if other == size]
        rows = network(torch.cat([crops[place] for place in places]))
        for place, part in zip(places, rows.chunk(len(places)), strict=True):
            out[place] = part
    return torch.stack([part for part in out if part is not None])


class CodeHead(nn.Module):
    """Features (V, B, width) of V crops, in one batch, to projections (V, B, P), which `layers` makes of
    rows, and to their scores (V, B, K): their cosines with K `directions`, rows of a (K, P) weight.

    unit_rows: directions are the weight's rows brought to unit length (weight normalisation of magnitude 1);
    otherwise the method keeps them so. While `frozen` their gradient is 0, not None: data-parallel training
    waits for one of every parameter.
    """

    def __init__(self, layers: nn.Module, width: int, codes: int, *, unit_rows: bool) -> None:
        super().__init__()
        self.layers = layers
        self.directions = nn.Linear(width, codes, bias=False)
        self.unit_rows, self.frozen = unit_rows, False

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        rows: Tensor = self.layers(features.flatten(0, 1))
        projections = rows.view(*features.shape[:2], -1)
        return projections, self.scores(projections)

    def scores(self, rows: Tensor) -> Tensor:
        """(..., K) of rows (..., P). In float32 even under autocast: half precision rounds cosines by .004,
        a tenth of a temperature of .04."""
        weight = self.directions.weight
        if self.frozen:
            weight = weight.detach() + 0 * weight
        return _cosines(rows, F.normalize(weight, dim=1) if self.unit_rows else weight)


@in_float32
def _cosines(rows: Tensor, directions: Tensor) -> Tensor:
    return F.linear(F.normalize(rows, dim=-1), directions)


@torch.no_grad()
@in_float32
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Codes of the shape of scores (..., N, K), for each leading index by itself: exp(scores / ε), brought in
    each iteration to equal sums over rows, of all processes, and then to sum 1 for each row.

    N may differ by process; a collective call with several. On logarithms, so that no ε underflows.
    """
    log = scores / epsilon
    for _ in range(iterations):
        top = over_processes(log.amax(dim=-2, keepdim=True), largest=True)
        log = log - top - over_processes((log - top).exp().sum(dim=-2, keepdim=True)).log()
        log = log.log_softmax(dim=-1)
    return log.exp()


@in_float32
def code_loss(codes: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy −Σ_k code_k log softmax(logits)_k, its mean over pairs and over the T (V − 1) terms of
    crop t's code and crop v's prediction, v ≠ t. codes: (T, B, K); logits: (V, B, K), the first T theirs.

    No gradient reaches the codes. Raises: ValueError if shapes do not fit, V < 2 or B < 2.
    """
    if codes.ndim != 3 or logits.ndim != 3 or codes.shape[1:] != logits.shape[1:]:
        shapes = f"{tuple(codes.shape)} and {tuple(logits.shape)}"
        raise ValueError(f"codes and logits must be (T, B, K) and (V, B, K), got {shapes}")
    if len(codes) > len(logits) or len(logits) < 2 or codes.shape[1] < 2:
        sizes = (len(codes), *logits.shape[:2])
        raise ValueError(f"T must be at most V, and V and B at least 2, got T, V and B of {sizes}")
    terms = -torch.einsum("tbk,vbk->tvb", codes.detach(), logits.log_softmax(dim=-1))
    other = ~torch.eye(len(codes), len(logits), dtype=torch.bool, device=terms.device)
    summed = (terms * other[:, :, None]).sum(dim=(0, 1))
    return layout_of(summed).mean(summed) / (len(codes) * (len(logits) - 1))


@torch.no_grad()
@in_float32
def code_health(codes: Tensor) -> dict[str, Tensor]:
    """Of codes (..., K) of all processes, each a distribution, scalars; collective. H: entropy, in nats.

    code_entropy: mean H(code), from 0 (each in one place) to log K (uniform).
    code_usage: exp H(mean code), how many of the K places are in use.
    code_information: exp(H(mean code) − mean H(code)), into how many groups the codes tell rows apart: 1 once
    all codes are one, be it uniform or in one place, at most the lesser of K and their number.
    """
    rows = codes.flatten(0, -2)
    sums = torch.cat([rows.sum(dim=0), -torch.xlogy(rows, rows).sum().view(1)])
    *_, own = means = over_processes(sums) / layout_of(rows).total
    usage = -torch.xlogy(means[:-1], means[:-1]).sum()
    return {"code_entropy": own, "code_usage": usage.exp(), "code_information": (usage - own).exp()}


def code_warning(means: Mapping[str, float]) -> str | None:
    """What to tell the user about the codes, of the methods that log their health."""
    groups = means.get("code_information", math.inf)
    if groups >= LEAST_CODE_INFORMATION:
        return None
    return (
        f"the codes are collapsing: they tell images apart into {groups:.2f} groups (warned of below "
        f"{LEAST_CODE_INFORMATION:g}); lower the learning rate, or look at the method's temperatures"
    )
