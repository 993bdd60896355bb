"""Supervised cross-entropy, a reference that sees labels: the baseline of Khosla et al. 2020,
arXiv:2004.11362, section 3.2.1 and table 2.

A linear map W, b from the encoder's output e to one logit a meaning; for the 2N views of N pairs,
    loss = mean over views of −log softmax(W e + b)[y],   y the meaning of the pair.
Meanings are those of the semantic pairs in every arm, numbered from 0. Where a pair is corrupted the partner
has its anchor's meaning: a false label, as it is a false positive for the other methods.
Departures: both views of a pair are classified, in one batch, so that it sees as many images a step as the
other methods, through their augmentation; the paper's baseline sees one view of each image.
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
from sempairs.views.records import Views


class SupervisedConfig(MethodConfig):
    """Defaults are those of small images; `Supervised.presets` has the published ones."""

    name: Literal["supervised"] = "supervised"
    label_smoothing: float = Field(0.0, ge=0, lt=1)


PRESETS = {
    "imagenet-r50": Preset(
        SupervisedConfig(label_smoothing=0.05),
        "200 epochs, bs 6144, SGD with Nesterov momentum, lr .1·bs/256, warm-up 12 epochs, cosine, "
        "weight decay 1e-4, AutoAugment",
        "google-research, supcon/scripts/cross_entropy_imagenet_resnet50.sh, configs.sh, hparams_flags.py",
    ),
    "cifar-r18": Preset(
        SupervisedConfig(),
        "500 epochs, bs 1024, SGD, lr .8, warm-up 10 epochs, cosine, weight decay 1e-4",
        "HobbitLong/SupContrast, README.md and main_ce.py (there with ResNet-50)",
    ),
    "tiny": Preset(
        SupervisedConfig(), "14 epochs, bs 128, AdamW, lr 2e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def cross_entropy(logits: Tensor, meaning: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over rows. logits: (B, M); meaning: (B,) int64 in [0, M).

    label_smoothing: share of the target that is spread evenly over all M.
    Raises: ValueError for other shapes.
    """
    if logits.ndim != 2 or meaning.shape != logits.shape[:1]:
        shapes = f"{tuple(logits.shape)} and {tuple(meaning.shape)}"
        raise ValueError(f"logits and meaning must be (B, M) and (B,), got {shapes}")
    losses = F.cross_entropy(logits, meaning, reduction="none", label_smoothing=label_smoothing)
    return layout_of(losses).mean(losses)


@METHODS.register
class Supervised(Method):
    """Logs `accuracy`: the share of the batch's views that are classified right."""

    Config = SupervisedConfig
    presets = PRESETS
    joint_forward = True
    takes_meanings = True

    def __init__(self, config: SupervisedConfig, encoder: nn.Module, width: int, *, meanings: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.classifier = nn.Linear(width, meanings)

    def levels(self, pairs: int) -> Levels:
        return Levels(*[math.log(self.classifier.out_features)] * 2)

    def forward(self, views: Views) -> StepOutput:
        left, right = self.crops(views)
        embeddings = self.encoder(torch.cat([left, right]))
        logits = self.classifier(embeddings)
        meaning = views.meaning.repeat(2)
        loss = cross_entropy(logits, meaning, label_smoothing=self.config.label_smoothing)
        accuracy = (logits.argmax(dim=1) == meaning).float().mean()
        return StepOutput(loss, {"accuracy": accuracy}, embeddings[: len(left)].detach())
