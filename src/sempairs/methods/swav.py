"""SwAV. Caron et al. 2020, arXiv:2006.09882, Eq. 2 to 6 and algorithm 1.

z: projections of unit length; C: prototypes (K, D), brought to unit length before each step; scores z Cᵀ.
    q = codes of a global crop: Sinkhorn's, of exp(scores / ε), over the rows of all processes,
    loss = mean over pairs and over terms of −Σ_k q(x)_k log softmax(scores(x') / T)_k,   x' any other crop.
Sinkhorn: n times, the scores' exponentials are brought to equal sums over rows for each prototype, then to
sum 1 for each row. Which terms join two members of a pair: see `multicrop`. `queue`: so many earlier
projections of each global crop (the anchor's, the partner's), from all processes, take part in Sinkhorn once
the queue is full; it fills from the share `queue_start` of the steps on. Prototypes stand still for the first
share `freeze_prototypes`. Crops of one size pass the encoder in one batch, all of them the projector (linear
→ norm → ReLU → linear, with biases). As in facebookresearch/swav; lightly's SwaVLoss has the same value.
Departures: Sinkhorn works on logarithms, so that no ε underflows. Frozen prototypes' gradient is 0, not
absent, so weight decay may shorten them till the next step. Scores and loss are in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset
from sempairs.methods.distributed import layout_of, over_processes
from sempairs.methods.heads import plain_mlp
from sempairs.methods.health import projection_health
from sempairs.methods.multicrop import GLOBAL, CodeHead, by_resolution, code_health, code_loss, sinkhorn
from sempairs.methods.negatives import same_meaning_queue
from sempairs.methods.objectives.base import ObjectiveConfig
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.methods.queue import Queue
from sempairs.views.records import Views


class SwAVConfig(MethodConfig):
    """Defaults are those of small images; `SwAV.presets` has the published ones."""

    name: Literal["swav"] = "swav"
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    prototypes: int = Field(256, ge=2)
    temperature: float = Field(0.1, gt=0)
    # .05 in the paper. With few steps it left every code near uniform; its README advises less then.
    epsilon: float = Field(0.02, gt=0)
    iterations: int = Field(3, ge=1)
    queue: int = Field(0, ge=0)  # rows for each global crop; 0: none
    queue_start: float = Field(0.1, ge=0, le=1)  # share of the steps
    freeze_prototypes: float = Field(0.02, ge=0, le=1)  # share of the steps


HEAD: dict[str, Any] = {"hidden": 2048, "prototypes": 3000, "queue": 3840, "epsilon": 0.05}
PRESETS = {
    "imagenet-r50": Preset(
        SwAVConfig(**HEAD, queue_start=15 / 200, freeze_prototypes=1 / 200),
        "200 epochs, bs 256, SGD with LARC (.001, not clipped), lr .6, no warm-up, cosine to .0006, weight "
        "decay 1e-6, 2 global crops (scale .14 to 1) and 6 local ones of 96 (.05 to .14)",
        "facebookresearch/swav, scripts/swav_200ep_bs256_pretrain.sh",
    ),
    "cifar-r18": Preset(
        SwAVConfig(**HEAD, queue_start=50 / 1000, freeze_prototypes=2 / 1000),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .6, warm-up and cosine, weight decay 1e-6, 2 crops",
        "solo-learn, scripts/pretrain/cifar/swav.yaml",
    ),
    "tiny": Preset(
        SwAVConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


class Coded(NamedTuple):
    """Of one crop: projections (B, P), scores (B, K) and, of a global crop, its codes (B, K)."""

    projections: Tensor
    scores: Tensor
    codes: Tensor | None


@METHODS.register
class SwAV(PairMethod):
    """Logs the health of codes (`multicrop.code_health`; Sinkhorn keeps their usage near K) and projections
    (`health`), the prototypes that are some row's nearest, and, with a queue, its same-meaning share."""

    Config = SwAVConfig
    stateful = True
    presets = PRESETS
    joint_forward = True
    takes_local = True

    def __init__(self, config: SwAVConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        layers = plain_mlp(width, config.hidden, config.out, layers=config.layers, norm=True)
        self.head = CodeHead(layers, config.out, config.prototypes, unit_rows=False)
        queues = GLOBAL if config.queue else 0
        self.queue = nn.ModuleList(Queue(config.queue, config.out) for _ in range(queues))
        self._new: tuple[Tensor, Tensor] | None = None  # projections and meanings of the step under way
        self.before_step(0.0)

    def pursue(self, objective: ObjectiveConfig, width: int) -> None:
        super().pursue(objective, width)
        for head in (self, self.second):
            if isinstance(head, SwAV) and self.config.queue:
                more = range(GLOBAL, head.compared)
                head.queue.extend(Queue(self.config.queue, self.config.out) for _ in more)

    @torch.no_grad()
    def before_step(self, progress: float) -> None:
        super().before_step(progress)
        prototypes = self.head.directions.weight
        prototypes.copy_(F.normalize(prototypes, dim=1))
        self.head.frozen = progress < self.config.freeze_prototypes

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        if self._new is not None and progress >= self.config.queue_start:
            for queue, rows in zip(self._queues, self._new[0], strict=False):
                queue.push(rows, self._new[1])
        self._new = None

    @property
    def _queues(self) -> list[Queue]:
        return [queue for queue in self.queue if isinstance(queue, Queue)]

    def codes(self, scores: Tensor) -> Tensor:
        """(T, B, K): q of the scores (T, B, K) of global crops, a collective call with several processes."""
        rows = scores.detach()
        if self._queues and self._queues[0].filled == self.config.queue:
            # The queues are the same on each process; each takes its share of their rows.
            layout = layout_of(rows[0])
            own = slice(layout.rank, None, len(layout.counts))
            queued = torch.stack([queue.vectors[own] for queue in self._queues])
            rows = torch.cat([rows, self.head.scores(queued).detach()], dim=1)
        codes = sinkhorn(rows, epsilon=self.config.epsilon, iterations=self.config.iterations)
        return codes[:, : scores.shape[1]]

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(*[math.log(self.config.prototypes)] * 2)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[tuple[Tensor, ...]]:
        return [(rows,) for rows in by_resolution(self.encoder, crops)]

    def project(self, features: Sequence[tuple[Tensor, ...]], views: Views) -> list[Coded]:
        projections, scores = self.head(torch.stack([rows for (rows,) in features]))
        codes: list[Tensor | None] = [*self.codes(scores[: self.compared])]
        codes += [None] * (len(features) - self.compared)
        self._new = projections[: self.compared].detach(), views.meaning
        return [Coded(*of) for of in zip(projections, scores, codes, strict=True)]

    def compare(self, left: Coded, right: Coded, views: Views, local: Sequence[Coded] = ()) -> Compared:
        both = [left, right]
        codes = torch.stack([of.codes for of in both if of.codes is not None])
        scores = torch.stack([of.scores for of in (*both, *local)])
        projections = torch.stack([of.projections.detach() for of in both])
        loss = code_loss(codes, scores / self.config.temperature)
        nearest = F.one_hot(scores[:GLOBAL].detach().argmax(dim=-1), self.config.prototypes)
        near_any = over_processes(nearest.flatten(0, 1).amax(dim=0).float(), largest=True)
        logs = {"prototypes_nearest": near_any.sum()}
        logs |= code_health(codes) | projection_health(projections.flatten(0, 1))
        if self._queues:
            same = same_meaning_queue(views.meaning, self._queues[0].meaning)
            logs["same_meaning_fraction"] = same.float().mean()
        return Compared(loss, logs)
