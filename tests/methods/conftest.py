"""A small encoder and batches of made-up pairs for the methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sempairs.methods import METHODS, Method, PairMethod, build_method
from sempairs.methods.objectives.joint import JointObjective
from sempairs.methods.objectives.several import SeveralObjective
from sempairs.testing.methods import WIDTH, made_up_views, small_encoder
from sempairs.views.records import Views

# Objectives beside the published one, which every method whose loss is of two views can have.
OBJECTIVES = {
    "joint": JointObjective(),
    "two heads": JointObjective.model_validate({"heads": "two", "weight": [[0, 0.2], [1, 0.8]]}),
    "several": SeveralObjective(partners=3),
    "joint, several": JointObjective(partners=2),
}
PAIRWISE = [name for name in METHODS.names() if issubclass(METHODS.get(name), PairMethod)]
# Every method, and every one with each objective it can have: "simclr", "simclr with joint".
VARIANTS = [*METHODS.names(), *(f"{name} with {other}" for name in PAIRWISE for other in OBJECTIVES)]


def build_variant(
    variant: str, encoder: nn.Module, settings: dict[str, int], *, seed: int = 0, meanings: int = 4
) -> Method:
    """A method with those of `settings` that it has, and an objective."""
    name, _, other = variant.partition(" with ")
    kind = METHODS.get(name).Config
    config = kind(**{key: value for key, value in settings.items() if key in kind.model_fields})
    objective = OBJECTIVES.get(other)
    return build_method(config, encoder, WIDTH, seed=seed, meanings=meanings, objective=objective)


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
