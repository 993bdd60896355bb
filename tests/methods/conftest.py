"""A small encoder and batches of made-up pairs for the methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sempairs.testing.methods import made_up_views, small_encoder
from sempairs.views.records import Views


def swap_views(views: Views) -> Views:
    """The same pairs, the members' pictures exchanged."""
    left, right = views.crops
    crops = (replace(left, pixels=right.pixels), replace(right, pixels=left.pixels))
    return replace(views, crops=crops)


@pytest.fixture
def swapped_views() -> Callable[[Views], Views]:
    return swap_views


@pytest.fixture
def encoder() -> nn.Module:
    return small_encoder()


@pytest.fixture
def new_encoder() -> Callable[[], nn.Module]:
    return small_encoder


@pytest.fixture
def views() -> Views:
    return made_up_views()


@pytest.fixture
def new_views() -> Callable[..., Views]:
    return made_up_views


@pytest.fixture
def projections() -> Callable[..., tuple[Tensor, Tensor]]:
    """float64 leaves (left, right) with gradients."""

    def make(batch: int = 5, width: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        both = torch.randn(2, batch, width, generator=generator, dtype=torch.float64)
        return both[0].clone().requires_grad_(), both[1].clone().requires_grad_()

    return make
