"""NNCLR. Dwibedi et al. 2021, arXiv:2104.14548, Eq. 3 and algorithm 1.

z: projections, p = predictor(z), NN(z): the nearest of earlier projections, held in a queue. All of length 1:
    ℓ_i(z, p) = −log exp(NN(z_i)·p_i / T) / Σ_k exp(NN(z_i)·p_k / T),   k over the N pairs of all processes,
    loss = mean over pairs of ½ (ℓ(z left, p right) + ℓ(z right, p left)).
Gradients flow through predictions alone, those of negatives included. One view's projections join the queue
after the loss: which member's is drawn for each pair and step. Projector: three maps, each normalised;
predictor: two, the last without. As in solo-learn's nnclr.py; lightly's example has SimCLR's 2N − 1
candidates instead. Each view goes through the network by itself.
Departures: linear maps before a normalisation and the last have no biases. Neighbours may have any meaning,
the pair's own or another; how many share it is logged. Option `same_meaning_negatives: mask` leaves other
pairs of the anchor's meaning out of the sum.
Option `negatives: same_domain` takes negatives of the anchor's own domain only (`pairs.domain_column`). They
are harder, as the domain does not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset, check_paired, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.heads import mlp
from sempairs.methods.negatives import excluded_pairs, meaning_logs, own_columns, same_meaning_pairs
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.methods.queue import Queue
from sempairs.methods.sides import draw_sides, on_sides
from sempairs.views.records import Views


class NNCLRConfig(MethodConfig):
    """Defaults are those of small images; `NNCLR.presets` has the published ones."""

    name: Literal["nnclr"] = "nnclr"
    temperature: float = Field(0.2, gt=0)
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(3, ge=1)  # of the projector
    predictor_hidden: int = Field(512, ge=1)
    predictor_layers: int = Field(2, ge=1)
    queue: int = Field(1024, ge=1)
    same_meaning_negatives: Literal["keep", "mask"] = "keep"
    negatives: Literal["all", "same_domain"] = "all"


PUBLISHED = NNCLRConfig(hidden=2048, out=256, predictor_hidden=4096, queue=65536)
PRESETS = {
    "imagenet-r50": Preset(
        PUBLISHED,
        "400 epochs (ImageNet-100, ResNet-18), bs 256, LARS (η .02, clipped), lr .4, warm-up and cosine, "
        "weight decay 1e-5",
        "solo-learn, scripts/pretrain/imagenet-100/nnclr.yaml",
    ),
    "cifar-r18": Preset(
        PUBLISHED,
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .4, warm-up and cosine, weight decay 1e-5",
        "solo-learn, scripts/pretrain/cifar/nnclr.yaml",
    ),
    "tiny": Preset(
        NNCLRConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def nearest(rows: Tensor, queue: Tensor) -> Tensor:
    """(B,) place of the nearest by cosine of queue (K, D), of length 1, for each of rows (B, D)."""
    return (F.normalize(rows.detach(), dim=1) @ queue.T).argmax(dim=1)


@in_float32
def nnclr_loss(
    neighbour: Tensor, prediction: Tensor, *, temperature: float, exclude: Tensor | None = None
) -> Tensor:
    """Mean of ℓ over pairs: one direction. neighbour, prediction: (B, D), rows paired, of any length.

    No gradient reaches neighbours. `exclude` (B, N): True where a prediction is no negative.
    Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(neighbour, prediction)
    layout = layout_of(prediction)
    predictions = layout.gather(F.normalize(prediction, dim=1))
    logits = F.normalize(neighbour.detach(), dim=1) @ predictions.T / temperature
    if exclude is not None:
        logits = logits.masked_fill(exclude, float("-inf"))
    return layout.mean(F.cross_entropy(logits, own_columns(layout, logits.device), reduction="none"))


class Neighbours(NamedTuple):
    """The nearest of the queue for each row: vectors (B, D) and their meanings (B,)."""

    vectors: Tensor
    meaning: Tensor


class Predicted(NamedTuple):
    """Of one crop: predictions (B, D), and what is nearest to its projections."""

    prediction: Tensor
    neighbours: Neighbours


@METHODS.register
class NNCLR(PairMethod):
    """Logs `neighbour_purity` (share of neighbours of the pair's meaning) and same-meaning negatives."""

    Config = NNCLRConfig
    stateful = True
    presets = PRESETS

    def __init__(self, config: NNCLRConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = mlp(
            width, config.hidden, config.out, layers=config.layers, bias=False, norm_last=True
        )
        self.predictor = mlp(
            config.out,
            config.predictor_hidden,
            config.out,
            layers=config.predictor_layers,
            bias=False,
            norm_last=False,
        )
        self.queue = Queue(config.queue, config.out)
        self._new: tuple[Tensor, Tensor] | None = None  # projections and meanings of the step under way

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        if self._new is not None:
            self.queue.push(*self._new)
        self._new = None

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(*[math.log(pairs)] * 2)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in self.through(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Predicted]:
        z = self.through(self.projector, [rows for (rows,) in features])
        places = [nearest(rows, self.queue.vectors) for rows in z]
        swap = draw_sides(views.pair_id, self.queue.pushed)
        self._new = on_sides(z[0].detach(), z[1].detach(), swap)[0], views.meaning
        # The last crop first, as the first neighbours are compared with the second crop's predictions.
        predictions = [self.predictor(rows) for rows in reversed(z)][::-1]
        neighbours = [Neighbours(self.queue.vectors[place], self.queue.meaning[place]) for place in places]
        return [Predicted(*both) for both in zip(predictions, neighbours, strict=True)]

    def compare(
        self, left: Predicted, right: Predicted, views: Views, local: Sequence[Predicted] = ()
    ) -> Compared:
        same = same_meaning_pairs(views.meaning)
        losses = []
        for of, (one, other) in enumerate(((left, right), (right, left))):
            exclude = excluded_pairs(self.config, same, views, of=of, to=1 - of)
            temperature = self.config.temperature
            losses.append(
                nnclr_loss(one.neighbours.vectors, other.prediction, temperature=temperature, exclude=exclude)
            )
        loss = torch.stack(losses).mean()
        known = views.meaning >= 0
        found = (left.neighbours, right.neighbours)
        pure = torch.stack([(one.meaning == views.meaning) & known for one in found])
        logs = {"neighbour_purity": pure.float().mean()} | meaning_logs(same, same.shape[1] - 1)
        return Compared(loss, logs)
