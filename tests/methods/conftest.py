"""A small encoder and batches of made-up pairs for the methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sempairs.methods import METHODS, Method, PairMethod, build_method
from sempairs.methods.objectives.joint import JointObjective
from sempairs.methods.objectives.several import SeveralObjective
from sempairs.views.records import PAIR, Crop, Slot, Views

WIDTH = 6
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


def make_encoder() -> nn.Module:
    """(B, 3, 8, 8) to (B, WIDTH), with batch normalisation as real encoders have."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        convolution = nn.Conv2d(3, WIDTH, 3, padding=1)
    norm, pool = nn.BatchNorm2d(WIDTH), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(convolution, norm, nn.ReLU(), pool, nn.Flatten())


def make_views(batch: int = 8, *, slots: Sequence[Slot] = PAIR, local: int = 0, seed: int = 0) -> Views:
    """Noise for each of `slots`, then for `local` crops of half the size; every third pair is one image."""
    generator = torch.Generator().manual_seed(seed)
    members = ("anchor", "partner")
    wanted = [*slots, *(Slot(members[i % 2], "local") for i in range(local))]
    sizes = {"global": 8, "original": 8, "local": 4}
    crops = tuple(
        Crop(torch.randn(batch, 3, *[sizes[s.kind]] * 2, generator=generator), s.member, s.kind)
        for s in wanted
    )
    pairs = torch.arange(batch)
    return Views(crops, pairs, pairs // 2, pairs % 3 > 0)


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
    return make_encoder()


@pytest.fixture
def new_encoder() -> Callable[[], nn.Module]:
    return make_encoder


@pytest.fixture
def views() -> Views:
    return make_views()


@pytest.fixture
def new_views() -> Callable[..., Views]:
    return make_views


@pytest.fixture
def projections() -> Callable[..., tuple[Tensor, Tensor]]:
    """float64 leaves (left, right) with gradients."""

    def make(batch: int = 5, width: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        both = torch.randn(2, batch, width, generator=generator, dtype=torch.float64)
        return both[0].clone().requires_grad_(), both[1].clone().requires_grad_()

    return make
