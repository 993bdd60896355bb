"""Heads of any depth, in every method."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sempairs.config import Config, validate
from sempairs.errors import UserError
from sempairs.methods import METHODS, AnyMethodConfig, build_method
from sempairs.methods.heads import mlp, plain_mlp

SIZES = {"hidden": 8, "out": 5, "bottleneck": 4, "predictor_hidden": 7, "queue": 12, "neighbours": 2}
# A classifier on the encoder itself is the reference's point.
WITHOUT_HEAD = {"supervised"}


class Recipe(Config):
    method: AnyMethodConfig


def built(name: str, encoder: nn.Module, **settings: Any) -> Any:
    kind = METHODS.get(name).Config
    given = {key: value for key, value in {**SIZES, **settings}.items() if key in kind.model_fields}
    return build_method(kind(**given), encoder, 6, seed=0, meanings=4)


def head_of(method: Any) -> nn.Module:
    names = ("projector", "expander", "head")
    return next(getattr(method, name) for name in names if hasattr(method, name))


def depth(network: nn.Module) -> int:
    network = getattr(network, "layers", network)
    return sum(isinstance(part, nn.Linear) for part in network.modules())


@pytest.mark.parametrize("name", sorted(set(METHODS.names()) - WITHOUT_HEAD))
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_a_projector_has_as_many_layers_as_asked_for_and_trains(name, layers, encoder, new_views) -> None:
    method = built(name, encoder, layers=layers)
    assert depth(head_of(method)) == layers
    views = new_views(slots=method.slots, local=2 if method.takes_local else 0)
    loss = method(views).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in head_of(method).parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["byol", "simsiam", "moco_v3", "nnclr", "msf"])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_so_has_a_predictor(name, layers, encoder, new_views) -> None:
    method = built(name, encoder, predictor_layers=layers)
    assert depth(method.predictor) == layers
    method(new_views(slots=method.slots)).loss.backward()
    assert all(p.grad is not None for p in method.predictor.parameters())


def test_every_method_with_a_head_has_the_setting() -> None:
    without = {name for name in METHODS.names() if "layers" not in METHODS.get(name).Config.model_fields}
    assert without == WITHOUT_HEAD


def test_no_layer_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="layers must be greater than or equal to 1, got 0"):
        validate(Recipe, {"method": {"name": "simclr", "layers": 0}})


@pytest.mark.parametrize("layers", [1, 3])
def test_shapes_and_kinds_of_layers(layers) -> None:
    normed = mlp(6, 8, 5, layers=layers, bias=False, norm_last=True)
    kinds = [type(part).__name__ for part in normed]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * (layers - 1) + ["Linear", "BatchNorm1d"]
    plain = plain_mlp(6, 8, 5, layers=layers, norm=False)
    assert [type(part).__name__ for part in plain] == ["Linear", "ReLU"] * (layers - 1) + ["Linear"]
    assert all(part.bias is not None for part in plain if isinstance(part, nn.Linear))
    assert normed(torch.randn(4, 6)).shape == plain(torch.randn(4, 6)).shape == (4, 5)
