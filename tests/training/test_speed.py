"""Every fast path of `speed:` against the slow one: the same steps, different in rounding alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sempairs.config import validate
from sempairs.encoders import build_encoder
from sempairs.errors import UserError
from sempairs.methods import METHODS, Method, build_method
from sempairs.methods.momentum import follow, frozen_copy
from sempairs.methods.objectives.joint import JointObjective
from sempairs.training import compiled
from sempairs.training.cached import micro_batches
from sempairs.training.data import TrainingData, batches, load_data
from sempairs.training.loop import Trainer, make_fabric
from sempairs.training.optimisers import LARS, build_optimiser
from sempairs.training.recipe import OptimiserConfig, PretrainRecipe
from sempairs.views.maker import ViewMaker
from sempairs.views.records import Crop, Views

MakeRecipe = Callable[..., PretrainRecipe]
SLOW = {"precision": "32-true", "channels_last": False, "compile": False, "fused": False}


@pytest.fixture(scope="module")
def data_of() -> Callable[[PretrainRecipe], TrainingData]:
    kept: dict[str, TrainingData] = {}

    def load(recipe: PretrainRecipe) -> TrainingData:
        return kept.setdefault(recipe.data.source, load_data(recipe))

    return load


class Steps:
    """A trainer and the views of its steps."""

    def __init__(self, recipe: PretrainRecipe, data: TrainingData, **speed: Any) -> None:
        recipe = recipe.model_copy(update={"speed": recipe.speed.model_copy(update={**SLOW, **speed})})
        encoder = build_encoder(recipe.encoder, seed=0)
        meanings = int(data.plan.meaning.max()) + 1
        self.method = build_method(recipe.method, encoder, encoder.width, seed=0, meanings=meanings)
        fabric = make_fabric(recipe.speed)
        self.trainer = Trainer(recipe, self.method, fabric, total=10, warm_up=0)
        self.maker = ViewMaker(
            recipe.views, data.store, seed=0, device=fabric.device, slots=self.method.slots
        )
        self.recipe, self.data = recipe, data

    def losses(self, steps: int) -> list[float]:
        size = self.recipe.batch_size
        return [
            self.trainer.step(number, batch, views)[0]["loss"]
            for number, (batch, views) in enumerate(self._batches(steps, size))
        ]

    def _batches(self, steps: int, size: int) -> Iterator[tuple[Any, Views]]:
        for batch in batches(self.data.plan, seed=0, batch_size=size, start=0, stop=steps):
            made = self.maker.make(batch.epoch, batch.anchor, batch.partner, batch.occurrence, batch.meaning)
            yield batch, made

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad for n, p in self.method.named_parameters() if p.grad is not None}


LAYOUT_AND_PRECISION = [
    # Convolutions in another layout add up in another order.
    ({"channels_last": True}, 1e-5, 1e-3),
    # Half precision keeps 8 bits of each number; of 12 pairs' gradient the direction remains, to 25 degrees.
    ({"precision": "bf16-mixed"}, 2e-2, 0.5),
    ({"precision": "bf16-mixed", "channels_last": True, "fused": True}, 2e-2, 0.5),
]


@pytest.mark.parametrize(("speed", "of_loss", "of_gradient"), LAYOUT_AND_PRECISION)
@pytest.mark.parametrize("name", ["simclr", "byol", "vicreg"])
def test_layout_and_precision(
    make_recipe: MakeRecipe,
    data_of: Any,
    name: str,
    speed: dict[str, Any],
    of_loss: float,
    of_gradient: float,
) -> None:
    """Loss and gradient of a first step, and losses of three; `of_gradient`: of the gradient's own length."""
    recipe = make_recipe(method={"name": name}, optimiser__lr=1e-4)
    data = data_of(recipe)
    slow, fast = Steps(recipe, data), Steps(recipe, data, **speed)
    assert fast.losses(1) == pytest.approx(slow.losses(1), rel=of_loss)
    expected = torch.cat([value.flatten() for value in slow.gradients().values()])
    found = torch.cat([value.flatten() for value in fast.gradients().values()])
    assert float((found - expected).norm() / expected.norm()) < of_gradient
    slow, fast = Steps(recipe, data), Steps(recipe, data, **speed)
    assert fast.losses(3) == pytest.approx(slow.losses(3), rel=3 * of_loss)


def small_encoder() -> nn.Module:
    torch.manual_seed(1)
    norm, pool = nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), norm, nn.ReLU(inplace=True), pool, nn.Flatten())


@pytest.mark.skipif(not compiled.has_compiler(), reason="torch.compile needs a C++ compiler")
def test_compiled_networks() -> None:
    """Three steps in micro-batches, running statistics included; in evaluation nothing is compiled."""
    kind = METHODS.get("simclr")
    images = [torch.randn(2, 6, 3, 10, 10, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    ids = torch.arange(6)

    def trained(fast: bool) -> tuple[list[float], Method]:
        method = build_method(kind.Config(hidden=8, out=4), small_encoder(), 6, seed=0)
        if fast:
            compiled.compile_networks(method, torch.device("cpu"))
        optimiser = torch.optim.SGD(method.parameters(), lr=0.1)
        losses = []
        for left, right in images:
            optimiser.zero_grad()
            with micro_batches(method, 3, 6):
                loss = method(Views((Crop(left, "anchor"), Crop(right, "partner")), ids, ids)).loss
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses, method.eval()

    (expected, slow), (found, fast) = trained(False), trained(True)
    assert found == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(fast.state_dict(), slow.state_dict(), rtol=1e-4, atol=2e-5)
    torch._dynamo.utils.counters.clear()
    torch.testing.assert_close(fast.encoder(images[0][0]), slow.encoder(images[0][0]), rtol=1e-4, atol=2e-5)
    assert not torch._dynamo.utils.counters["frames"]


def test_compiling_reaches_the_networks_that_follow() -> None:
    kind = METHODS.get("byol")
    method = build_method(kind.Config(hidden=8, out=4), small_encoder(), 6, seed=0)
    compiled.compile_networks(method, torch.device("cpu"))
    reached = {name for name, network in method.named_children() if "forward" in vars(network)}
    assert reached == {"encoder", "projector", "predictor", "target_encoder", "target_projector"}


def test_compiling_reaches_a_second_head() -> None:
    kind, objective = METHODS.get("byol"), JointObjective(heads="two")
    method = build_method(kind.Config(hidden=8, out=4), small_encoder(), 6, seed=0, objective=objective)
    compiled.compile_networks(method, torch.device("cpu"))
    second = method.get_submodule("second")
    assert "forward" not in vars(second)
    reached = {name for name, network in second.named_children() if "forward" in vars(network)}
    assert reached == {"projector", "predictor", "target_projector"}


def test_compiling_without_a_compiler_is_one_line(
    make_recipe: MakeRecipe, data_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"^speed\.compile needs a C\+\+ compiler; install one of g\+\+"):
        Steps(recipe, data_of(recipe), compile=True)


OPTIMISERS = [
    {"name": "lars", "lr": 2.0, "trust": 0.02},
    {"name": "sgd", "lr": 0.05, "nesterov": True},
    {"name": "adamw", "lr": 0.01},
]


@pytest.mark.parametrize("fields", OPTIMISERS, ids=lambda fields: fields["name"])
def test_fused_optimisers(make_recipe: MakeRecipe, data_of: Any, fields: dict[str, Any]) -> None:
    recipe = make_recipe(optimiser={**fields, "weight_decay": 0.01})
    data = data_of(recipe)
    slow, fast = Steps(recipe, data), Steps(recipe, data, fused=True)
    assert fast.losses(3) == pytest.approx(slow.losses(3), rel=1e-4)


@pytest.mark.parametrize("fields", OPTIMISERS, ids=lambda fields: fields["name"])
def test_fused_optimisers_in_float64(fields: dict[str, Any]) -> None:
    """The same made-up gradients for both, in mixed layouts, one absent now and then and one weight zero."""
    config = validate(OptimiserConfig, {**fields, "weight_decay": 0.1})

    def trained(fused: bool) -> Method:
        torch.manual_seed(0)
        simclr = METHODS.get("simclr")
        encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        method = build_method(simclr.Config(hidden=5, out=3), encoder, 4, seed=0).double()
        if fused:
            method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            next(method.parameters()).zero_()
        optimiser = build_optimiser(config, method, batch_size=8, fused=fused)
        for step in range(4):
            for number, parameter in enumerate(method.parameters()):
                # In the parameter's own layout, as autograd gives them: fused kernels walk storage.
                drawn = torch.randn(parameter.shape, dtype=torch.float64)
                parameter.grad = torch.empty_like(parameter).copy_(drawn)
                if (step, number) == (1, 2):
                    parameter.grad = None
            optimiser.step()
        return method

    fast, slow = trained(True).state_dict(), trained(False).state_dict()
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-14)


def test_lars_moves_as_before_also_when_restored() -> None:
    """Buffers that both ways keep are the same, so that a run may change from one to the other."""
    weights = [torch.randn(3, 2, requires_grad=True) for _ in range(2)]
    twins = [weight.detach().clone().requires_grad_() for weight in weights]
    fast, slow = LARS(weights, lr=0.1, fused=True), LARS(twins, lr=0.1, fused=False)
    for weight, twin in zip(weights, twins, strict=True):
        weight.grad = torch.randn_like(weight)
        twin.grad = weight.grad.clone()
    fast.step()
    slow.step()
    for weight, twin in zip(weights, twins, strict=True):
        ours, theirs = fast.state[weight], slow.state[twin]
        assert ours.keys() == theirs.keys() == {"momentum_buffer"}
        torch.testing.assert_close(ours["momentum_buffer"], theirs["momentum_buffer"])


def test_following_networks_against_a_loop() -> None:
    torch.manual_seed(0)
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    target = frozen_copy(source)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    expected = {
        name: 0.9 * value + 0.1 * dict(source.named_parameters())[name]
        for name, value in copy.deepcopy(target).named_parameters()
    }
    target.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    follow(target, source, 0.9)
    torch.testing.assert_close(dict(target.named_parameters()), expected, rtol=1e-12, atol=1e-14)


def test_a_run_with_dropout_is_the_same_whatever_was_drawn_before(
    make_recipe: MakeRecipe, data_of: Any
) -> None:
    options = {"channels": [8, 8, 8, 8], "drop_path_rate": 0.3}
    recipe = make_recipe(encoder={"arch": "tiny-resnet", "options": options})
    first = Steps(recipe, data_of(recipe)).losses(2)
    torch.rand(3)
    assert Steps(recipe, data_of(recipe)).losses(2) == first
