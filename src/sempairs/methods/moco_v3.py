"""MoCo v3. Chen, Xie & He 2021, arXiv:2104.02057, algorithm 1.

Query network: encoder, projector, predictor q. Key network: encoder and projector that follow. With T the
temperature, all of length 1, and the keys of all N pairs over processes, of the other view, as candidates:
    ℓ(q_i, k) = −2T log exp(q_i·k_i / T) / Σ_j exp(q_i·k_j / T),
    loss = mean over pairs of ℓ(q left, k right) + ℓ(q right, k left), the two directions summed.
Heads are linear → norm → ReLU → … → linear, without biases. The projector ends with a normalisation without
scale and shift; the predictor ends with one for a ViT, and with the linear map for a ResNet
(`predictor_norm`). Each view goes through each network by itself. All as in facebookresearch/moco-v3
(moco/builder.py), where the projector has two layers for a ResNet and three for a ViT. After each step
θ_k ← m θ_k + (1 − m) θ_q; m goes from .99 to 1 along half a cosine, as in BYOL.
Option `freeze_patch_embedding`: a ViT's patch embedding stays the random projection it began as, section 4.1.
Departures: the momentum is that of the step before (there, of the step under way). Option
`same_meaning_negatives: mask` leaves other pairs of the query's meaning out of the sum.
Option `negatives: same_domain` takes negatives of the anchor's own domain only (`pairs.domain_column`). They
are harder, as the domain does not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import METHODS, Levels, MethodConfig, Preset, check_paired, in_float32
from sempairs.methods.distributed import layout_of
from sempairs.methods.heads import mlp
from sempairs.methods.momentum import cosine_momentum, follow, freeze_patch_embedding, frozen_copy, warmed
from sempairs.methods.negatives import excluded_pairs, meaning_logs, own_columns, same_meaning_pairs
from sempairs.methods.pairwise import Compared, PairMethod
from sempairs.views.records import Views


class MoCoV3Config(MethodConfig):
    """Defaults are those of small images; `MoCoV3.presets` has the published ones."""

    name: Literal["moco_v3"] = "moco_v3"
    temperature: float = Field(0.2, gt=0)
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    predictor_hidden: int = Field(512, ge=1)
    predictor_norm: bool = False
    predictor_layers: int = Field(2, ge=1)
    momentum: float = Field(0.99, ge=0, le=1)
    final_momentum: float = Field(1.0, ge=0, le=1)
    # The share of the steps over which the momentum rises from 0; for encoders that go on.
    momentum_warm_up: float = Field(0.0, ge=0, le=1)
    same_meaning_negatives: Literal["keep", "mask"] = "keep"
    negatives: Literal["all", "same_domain"] = "all"
    freeze_patch_embedding: bool = False


HEAD: dict[str, Any] = {"hidden": 4096, "out": 256, "predictor_hidden": 4096}
PRESETS = {
    "imagenet-r50": Preset(
        MoCoV3Config(**HEAD, temperature=1.0),
        "LARS, lr .45·bs/256 (bs 4096) and weight decay 1e-6 for 100 epochs (.3 for 300; .3, 1.5e-6 and "
        "momentum .996 for 1000), warm-up 10 epochs, cosine, crop .2",
        "facebookresearch/moco-v3, CONFIG.md, main_moco.py and moco/builder.py",
    ),
    "imagenet-vit": Preset(
        MoCoV3Config(**HEAD, temperature=0.2, layers=3, predictor_norm=True, freeze_patch_embedding=True),
        "300 epochs, AdamW, lr 1.5e-4·bs/256 (bs 4096) and weight decay .1, warm-up 40 epochs, cosine, crop "
        ".08; there with fixed sin-cos positions and Xavier weights, which timm's ViTs do not have",
        "facebookresearch/moco-v3, CONFIG.md (ViT-Small and -Base), vits.py and moco/builder.py",
    ),
    "cifar-r18": Preset(
        MoCoV3Config(**HEAD, temperature=0.2),
        "1000 epochs, bs 256, LARS (η .02, clipped), lr .3, warm-up and cosine, weight decay 1e-6",
        "solo-learn, scripts/pretrain/cifar/mocov3.yaml",
    ),
    "tiny": Preset(
        MoCoV3Config(), "14 epochs, bs 128, AdamW, lr 8e-3, warm-up and cosine", "benchmarks/tuning.py"
    ),
}


@in_float32
def moco_v3_loss(
    prediction: Tensor, key: Tensor, *, temperature: float, exclude: Tensor | None = None
) -> Tensor:
    """Mean of ℓ over pairs: one direction. prediction, key: (B, D), rows paired, of any length.

    No gradient reaches keys. `exclude` (B, N): True where a key takes no part among the negatives.
    Raises: ValueError if shapes differ or B < 2.
    """
    check_paired(prediction, key)
    layout = layout_of(prediction)
    keys = layout.gather(F.normalize(key.detach(), dim=1))
    logits = F.normalize(prediction, dim=1) @ keys.T / temperature
    if exclude is not None:
        logits = logits.masked_fill(exclude, float("-inf"))
    losses = F.cross_entropy(logits, own_columns(layout, logits.device), reduction="none")
    return layout.mean(2 * temperature * losses)


class Sides(NamedTuple):
    """Of one crop, rows (B, D) of either network: features; then the prediction and the key."""

    online: Tensor
    key: Tensor


@METHODS.register
class MoCoV3(PairMethod):
    """Logs `same_meaning_negatives` (mean count a query) and `same_meaning_fraction` (of its negatives)."""

    Config = MoCoV3Config
    stateful = True
    presets = PRESETS

    def __init__(self, config: MoCoV3Config, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        if config.freeze_patch_embedding and any(True for _ in encoder.parameters()):
            freeze_patch_embedding(self.encoder)
        self.projector = mlp(
            width,
            config.hidden,
            config.out,
            layers=config.layers,
            bias=False,
            norm_last=True,
            affine_last=False,
        )
        self.predictor = mlp(
            config.out,
            config.predictor_hidden,
            config.out,
            layers=config.predictor_layers,
            bias=False,
            norm_last=config.predictor_norm,
            affine_last=False,
        )
        self.key_encoder = frozen_copy(self.encoder)
        self.key_projector = frozen_copy(self.projector)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        momentum = cosine_momentum(self.config.momentum, self.config.final_momentum, progress)
        momentum = warmed(momentum, progress, self.config.momentum_warm_up)
        follow(self.key_encoder, self.encoder, momentum)
        follow(self.key_projector, self.projector, momentum)

    def term_levels(self, pairs: int, crops: int) -> Levels:
        return Levels(*[4 * self.config.temperature * math.log(pairs)] * 2)

    def features(self, crops: Sequence[Tensor], views: Views) -> list[Sides]:
        online = self.through(self.encoder, crops)
        with torch.no_grad():
            return [Sides(*both) for both in zip(online, self.through(self.key_encoder, crops), strict=True)]

    def project(self, features: Sequence[Sides], views: Views) -> list[Sides]:
        online = self.through(self.projector, [rows for rows, _ in features])
        predictions = self.through(self.predictor, online)
        with torch.no_grad():
            keys = self.through(self.key_projector, [rows for _, rows in features])
        return [Sides(*both) for both in zip(predictions, keys, strict=True)]

    def compare(self, left: Sides, right: Sides, views: Views, local: Sequence[Sides] = ()) -> Compared:
        same = same_meaning_pairs(views.meaning)
        temperature = self.config.temperature
        exclude = excluded_pairs(self.config, same, views, of=0, to=1)
        loss = moco_v3_loss(left.online, right.key, temperature=temperature, exclude=exclude)
        exclude = excluded_pairs(self.config, same, views, of=1, to=0)
        loss = loss + moco_v3_loss(right.online, left.key, temperature=temperature, exclude=exclude)
        return Compared(loss, meaning_logs(same, same.shape[1] - 1))
