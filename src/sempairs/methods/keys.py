"""A query network, a key network that follows it, and a queue of keys: MoCo v2 without its loss.

He et al. 2020, arXiv:1911.05722, section 3.2; Chen et al. 2020, arXiv:2003.04297. Details: moco_v2.py.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sempairs.methods.base import Method, MethodConfig
from sempairs.methods.heads import plain_mlp
from sempairs.methods.momentum import cosine_momentum, follow, frozen_copy, warmed
from sempairs.methods.queue import Queue
from sempairs.methods.sides import draw_order, in_groups


class KeysConfig(MethodConfig):
    """What MoCo v2 and the methods built on it share. Defaults are those of small images."""

    temperature: float = Field(0.2, gt=0)
    hidden: int = Field(512, ge=1)
    out: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)  # of the projector
    queue: int = Field(1024, ge=1)
    momentum: float = Field(0.99, ge=0, le=1)
    final_momentum: float = Field(0.999, ge=0, le=1)
    # The share of the steps over which the momentum rises from 0; for encoders that go on.
    momentum_warm_up: float = Field(0.0, ge=0, le=1)
    norm_groups: int = Field(1, ge=1)
    same_meaning_negatives: Literal["keep", "mask"] = "keep"


class Keys(Method):
    """A query network, a key network that follows it, and a queue of keys: all of MoCo v2 but its loss.

    `forward` leaves the keys of its step, and their meanings, in `_new`.
    """

    stateful = True

    config: KeysConfig

    def __init__(self, config: KeysConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.config = config
        self.projector = plain_mlp(width, config.hidden, config.out, layers=config.layers, norm=False)
        self.key_encoder = frozen_copy(self.encoder)
        self.key_projector = frozen_copy(self.projector)
        self.queue = Queue(config.queue, config.out)
        self._new: list[tuple[Tensor, ...]] = []  # keys, meanings and, where wanted, domains

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        for new in self._new:
            self.queue.push(*new)
        self._new = []
        momentum = cosine_momentum(self.config.momentum, self.config.final_momentum, progress)
        momentum = warmed(momentum, progress, self.config.momentum_warm_up)
        follow(self.key_encoder, self.encoder, momentum)
        follow(self.key_projector, self.projector, momentum)

    def queries(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (B, D) and embeddings (B, W)."""
        embeddings = self.query_features(images)
        return self.projector(embeddings), embeddings

    def keys(self, images: Tensor, pair_id: Tensor) -> Tensor:
        """Keys (B, D), without gradients."""
        return self.project_keys(self.key_features(images, pair_id))

    def query_features(self, images: Tensor) -> Tensor:
        """What the encoder gives for queries, (B, W)."""
        return in_groups(self.encoder, images, self.config.norm_groups)

    @torch.no_grad()
    def key_features(self, images: Tensor, pair_id: Tensor) -> Tensor:
        """What the key encoder gives for keys, (B, W), without gradients."""
        order = draw_order(pair_id, self.queue.pushed)
        return in_groups(self.key_encoder, images, self.config.norm_groups, order)

    @torch.no_grad()
    def project_keys(self, features: Tensor) -> Tensor:
        """Keys (B, D) of what `key_features` gave, without gradients."""
        keys: Tensor = self.key_projector(features)
        return keys

    def excluded(self, same: Tensor) -> Tensor | None:
        """Of queued keys that share the query's meaning, `same` (B, K): those to leave out."""
        return same if self.config.same_meaning_negatives == "mask" else None
