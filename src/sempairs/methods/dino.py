"""DINO. Caron et al. 2021, arXiv:2104.14294, Eq. 1 to 3 and algorithm 1.

Student g_s: encoder and head, on all crops. Teacher g_t: the same, follows it, on the two global ones.
    P_t = softmax((g_t(x) − c) / T_t),   P_s = softmax(g_s(x') / T_s),
    loss = mean over pairs and over terms of −Σ_k P_t(x)_k log P_s(x')_k,   x global, x' any other crop.
After each step c ← m c + (1 − m) mean of g_t over global crops and all processes, and teacher ← λ teacher +
(1 − λ) student, λ to 1 along half a cosine. Which terms join two members of a pair: see `multicrop`.
Head: three maps with GELU between (`head_norm`: and a norm before), then unit length, then a map with rows
of unit length, which stands still for the first share `freeze_last` of the steps: in the paper an epoch. T_t
rises linearly over the share `warm_up`: .04 → .07 in 30 of 300 epochs there. Crops of one size pass the
encoder in one batch. As in facebookresearch/dino; lightly's DINOLoss has the same value. What is exported is
the teacher's encoder, which the paper evaluates.
Departures: T_t rises by the step, not the epoch. The frozen map's gradient is 0, not absent, so weight decay
may shorten its rows, which changes nothing. Unit length, map and loss are in float32.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, Method, MethodConfig, Preset, StepOutput, in_float32
from sempairs.methods.distributed import mean_of_all
from sempairs.methods.health import projection_health
from sempairs.methods.momentum import cosine_momentum, follow, frozen_copy, warmed
from sempairs.methods.multicrop import GLOBAL, CodeHead, by_resolution, code_health, code_loss
from sempairs.views.records import Views


class DINOConfig(MethodConfig):
    """Defaults are those of small images; `DINO.presets` has the published ones."""

    name: Literal["dino"] = "dino"
    hidden: int = Field(512, ge=1)
    bottleneck: int = Field(128, ge=1)
    out: int = Field(1024, ge=2)
    layers: int = Field(3, ge=1)  # before the last, normalised one
    head_norm: bool = True
    student_temperature: float = Field(0.1, gt=0)
    teacher_temperature: float = Field(0.04, gt=0)
    warm_up_temperature: float = Field(0.04, gt=0)
    warm_up: float = Field(0.0, ge=0, le=1)  # share of the steps
    centre_momentum: float = Field(0.9, ge=0, le=1)
    momentum: float = Field(0.99, ge=0, le=1)
    final_momentum: float = Field(1.0, ge=0, le=1)
    # The share of the steps over which the momentum rises from 0; for encoders that go on.
    momentum_warm_up: float = Field(0.0, ge=0, le=1)
    freeze_last: float = Field(0.02, ge=0, le=1)  # share of the steps


HEAD: dict[str, Any] = {"hidden": 2048, "bottleneck": 256, "head_norm": False}
PRESETS = {
    "imagenet-r50": Preset(
        DINOConfig(**HEAD, out=65536, momentum=0.996, freeze_last=0.01),
        "100 epochs, bs 512, SGD, lr .03·bs/256, warm-up 10 epochs, cosine to 1e-6, weight decay 1e-4, clip "
        "3 a parameter, 2 global crops (scale .14 to 1) and 8 local ones of 96 (.05 to .14)",
        "facebookresearch/dino, README.md (ResNet-50) and main_dino.py",
    ),
    "cifar-r18": Preset(
        DINOConfig(
            **HEAD, out=4096, teacher_temperature=0.07, warm_up=0.05, momentum=0.9995, freeze_last=0.001
        ),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .3, warm-up and cosine, weight decay 1e-6, 2 global "
        "crops",
        "solo-learn, scripts/pretrain/cifar/dino.yaml and solo/methods/dino.py",
    ),
    "tiny": Preset(
        DINOConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def teacher_codes(outputs: Tensor, centre: Tensor, *, temperature: float) -> Tensor:
    """P_t, of the shape of outputs (..., K), centred by (K,) and sharpened. Without gradient."""
    return ((outputs.detach() - centre) / temperature).softmax(dim=-1)


def _layers(config: DINOConfig, width: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    *befores, last = [width, *[config.hidden] * (config.layers - 1)]
    for before in befores:
        norm = [nn.BatchNorm1d(config.hidden)] if config.head_norm else []
        parts += [nn.Linear(before, config.hidden), *norm, nn.GELU()]
    layers = nn.Sequential(*parts, nn.Linear(last, config.bottleneck))
    for part in layers:
        if isinstance(part, nn.Linear):
            # As published but for its bounds at 100 standard deviations, which torch draws by version.
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
    return layers


@METHODS.register
class DINO(Method):
    """Logs the health of the teacher's codes P_t (`multicrop.code_health`), the rest of the loss above their
    entropy (0 in a collapse; figure 7), the health of its projections (`health`) and the centre's length."""

    Config = DINOConfig
    stateful = True
    presets = PRESETS
    joint_forward = True
    takes_local = True
    centre: Tensor

    def __init__(self, config: DINOConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.head = CodeHead(_layers(config, width), config.bottleneck, config.out, unit_rows=True)
        self.teacher_encoder = frozen_copy(self.encoder)
        self.teacher_head = frozen_copy(self.head)
        self.register_buffer("centre", torch.zeros(config.out))
        self._new: Tensor | None = None  # the teacher's outputs of the step under way
        self.before_step(0.0)

    def before_step(self, progress: float) -> None:
        risen = min(1.0, progress / self.config.warm_up) if self.config.warm_up else 1.0
        start, end = self.config.warm_up_temperature, self.config.teacher_temperature
        self.temperature = start + risen * (end - start)
        self.head.frozen = progress < self.config.freeze_last

    def after_step(self, progress: float) -> None:
        momentum = cosine_momentum(self.config.momentum, self.config.final_momentum, progress)
        momentum = warmed(momentum, progress, self.config.momentum_warm_up)
        follow(self.teacher_encoder, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)
        if self._new is not None:
            self.centre.lerp_(mean_of_all(self._new), 1 - self.config.centre_momentum)
        self._new = None

    def exported_encoder(self) -> nn.Module:
        return self.teacher_encoder

    def levels(self, pairs: int) -> Levels:
        return Levels(*[math.log(self.config.out)] * 2)

    def forward(self, views: Views) -> StepOutput:
        crops = self.crops(views)
        embeddings = by_resolution(self.encoder, crops)
        _, student = self.head(embeddings)
        with torch.no_grad():
            projections, outputs = self.teacher_head(by_resolution(self.teacher_encoder, crops[:GLOBAL]))
        self._new = outputs.flatten(0, 1)
        codes = teacher_codes(outputs, self.centre, temperature=self.temperature)
        loss = code_loss(codes, student / self.config.student_temperature)
        logs = code_health(codes) | projection_health(projections.flatten(0, 1))
        logs["code_divergence"] = loss.detach() - logs["code_entropy"]
        return StepOutput(loss, logs | {"centre_norm": self.centre.norm()}, embeddings[0].detach())
