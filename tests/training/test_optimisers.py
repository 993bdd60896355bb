from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.methods import Method, MethodConfig, ParamRule, StepOutput
from sempairs.training.optimisers import (
    LARS,
    build_optimiser,
    optimiser_state,
    parameter_kinds,
    restore_optimiser,
    set_rates,
)
from sempairs.training.recipe import OptimiserConfig
from sempairs.views.records import Views


class Toy(Method):
    """Convolution, norm and a predictor with rules of its own."""

    Config = MethodConfig

    def __init__(self) -> None:
        super().__init__(MethodConfig(name="toy"), nn.Conv2d(3, 4, 3), 4)
        self.norm = nn.BatchNorm2d(4)
        self.predictor = nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 2).requires_grad_(False)

    def param_rule(self, name: str, parameter: nn.Parameter) -> ParamRule:
        return ParamRule(lr_scale=10.0, constant_lr=True) if name.startswith("predictor") else ParamRule()

    def forward(self, views: Views) -> StepOutput:
        raise AssertionError

    def loss(self, images: Tensor) -> Tensor:
        return self.predictor(self.norm(self.encoder(images)).mean((2, 3))).square().sum()


def toy(seed: int = 0) -> Toy:
    torch.manual_seed(seed)
    return Toy()


def config(**fields: Any) -> OptimiserConfig:
    return validate(OptimiserConfig, {"name": "sgd", "lr": 0.1, **fields})


def groups_by_name(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, dict[str, Any]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group for group in optimiser.param_groups for p in group["params"]}


def test_kinds_of_parameters() -> None:
    assert parameter_kinds(toy()) == {
        "encoder.weight": "weight", "encoder.bias": "bias", "norm.weight": "norm", "norm.bias": "norm",
        "predictor.weight": "weight", "predictor.bias": "bias",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
@pytest.mark.parametrize(
    ("exclude", "decayed"),
    [
        (["bias", "norm"], {"encoder.weight", "predictor.weight"}),
        (["norm"], {"encoder.weight", "predictor.weight", "encoder.bias", "predictor.bias"}),
        (
            [],
            {
                "encoder.weight",
                "predictor.weight",
                "encoder.bias",
                "predictor.bias",
                "norm.weight",
                "norm.bias",
            },
        ),
    ],
)
def test_decay_leaves_out_what_is_excluded(name: str, exclude: list[str], decayed: set[str]) -> None:
    model = toy()
    optimiser = build_optimiser(config(name=name, weight_decay=0.5, exclude=exclude), model, batch_size=8)
    groups = groups_by_name(optimiser, model)
    assert groups.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, group in groups.items() if group["weight_decay"] == 0.5} == decayed
    assert {n for n, group in groups.items() if group["weight_decay"] == 0} == groups.keys() - decayed
    if name == "lars":
        assert {n for n, group in groups.items() if group["adapt"]} == decayed


def test_the_methods_rules_reach_the_rates() -> None:
    model = toy()
    optimiser = build_optimiser(config(), model, batch_size=8)
    set_rates(optimiser, peak=0.1, factor=0.25)
    rates = {name: group["lr"] for name, group in groups_by_name(optimiser, model).items()}
    assert rates["encoder.weight"] == rates["norm.bias"] == pytest.approx(0.025)
    assert rates["predictor.weight"] == rates["predictor.bias"] == pytest.approx(1.0)


def test_learning_rate_is_absolute_or_per_256() -> None:
    assert config(lr=0.3).peak_lr(1024) == 0.3
    assert config(lr=None, base_lr=0.3).peak_lr(1024) == pytest.approx(1.2)
    for wrong in ({"lr": None}, {"base_lr": 0.1}):
        with pytest.raises(UserError, match="exactly one of lr"):
            config(**wrong)
    with pytest.raises(UserError, match="nesterov"):
        config(name="adamw", nesterov=True)


def test_lars_against_loops_from_the_definition() -> None:
    """Three steps in float64 against the formulas of the docstring, for both kinds of group."""
    torch.manual_seed(1)
    adapted, plain = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = [adapted.detach().clone(), plain.detach().clone()]
    buffers = [torch.zeros(3, 4, dtype=torch.float64) for _ in range(2)]
    optimiser = LARS(
        [{"params": [adapted], "weight_decay": 0.1}, {"params": [plain], "adapt": False}],
        lr=0.5, momentum=0.9, trust=0.01,
    )  # fmt: skip
    for step in range(3):
        gradients = [torch.randn(3, 4, dtype=torch.float64) for _ in range(2)]
        adapted.grad, plain.grad = gradients
        for group in optimiser.param_groups:
            group["lr"] = 0.5 / (step + 1)
        optimiser.step()
        for i, (decay, adapt) in enumerate([(0.1, True), (0.0, False)]):
            for row in range(3):  # the momentum is elementwise, the norms are of the whole tensor
                update = gradients[i] + decay * expected[i]
                norms = expected[i].square().sum().sqrt(), update.square().sum().sqrt()
                scale = 0.01 * norms[0] / norms[1] if adapt else 1.0
                buffers[i][row] = 0.9 * buffers[i][row] + scale * update[row]
            expected[i] = expected[i] - 0.5 / (step + 1) * buffers[i]
    torch.testing.assert_close(adapted.detach(), expected[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(plain.detach(), expected[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fused", [True, False])
def test_clipped_lars_against_loops_from_the_definition(fused: bool) -> None:
    """Rates above, below and at the layer's own, and a rate of 0; the group without `adapt` is as ever."""
    torch.manual_seed(2)
    weights = [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    expected = [weight.detach().clone() for weight in weights]
    buffers = [torch.zeros(3, 4, dtype=torch.float64) for _ in range(3)]
    groups = [{"params": weights[:2], "weight_decay": 0.1}, {"params": weights[2:], "adapt": False}]
    optimiser = LARS(groups, lr=0.5, momentum=0.9, trust=0.02, clip_lr=True, fused=fused)
    bounded = []
    for lr in (0.0, 0.5, 0.02, 1e-4):
        for weight in weights:
            weight.grad = torch.randn(3, 4, dtype=torch.float64)
        for group in optimiser.param_groups:
            group["lr"] = lr
        optimiser.step()
        for i, (weight, decay) in enumerate(zip(weights, (0.1, 0.1, 0.0), strict=True)):
            assert weight.grad is not None
            update = weight.grad + decay * expected[i]
            own = 0.02 * float(expected[i].norm()) / float(update.norm())
            # The rate that LARC means: the lesser of the layer's own and the schedule's.
            rate = min(own, lr) if i < 2 else lr
            bounded.append(own > lr)
            buffers[i] = 0.9 * buffers[i] + update * (rate / lr if lr else 1.0)
            expected[i] = expected[i] - lr * buffers[i]
    assert {True, False} == set(bounded)
    for weight, value in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), value, rtol=1e-12, atol=1e-14)


def test_clip_is_an_option_of_lars_alone() -> None:
    model = toy()
    assert config(name="lars").clip_lr is False
    optimiser = build_optimiser(config(name="lars", clip_lr=True), model, batch_size=8)
    assert all(group["clip_lr"] for group in optimiser.param_groups)
    with pytest.raises(UserError, match="clip_lr, which only lars knows"):
        config(clip_lr=True)


def test_lars_moves_a_zero_weight() -> None:
    weight = torch.zeros(2, requires_grad=True)
    weight.grad = torch.tensor([1.0, -2.0])
    LARS([weight], lr=0.1).step()
    assert weight.tolist() == pytest.approx([-0.1, 0.2])


@pytest.mark.parametrize("fields", [{"name": "sgd", "nesterov": True}, {"name": "adamw", "eps": 1e-3}])
def test_fused_equals_the_plain_optimiser_also_in_channels_last(fields: dict[str, Any]) -> None:
    """The layout of the weights changes nothing: a fused kernel walks storage."""
    fused_model, plain_model = toy(), toy()
    fused_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = config(weight_decay=0.01, **fields)
    fused = build_optimiser(settings, fused_model, batch_size=4)
    plain_groups = build_optimiser(settings, plain_model, batch_size=4).param_groups
    kept = ("params", "weight_decay")
    groups = [{key: group[key] for key in kept} for group in plain_groups]
    plain: torch.optim.Optimizer = (
        torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, foreach=False)
        if settings.name == "sgd"
        else torch.optim.AdamW(groups, lr=0.1, eps=1e-3, foreach=False)
    )
    for step in range(3):
        torch.manual_seed(step)
        images = torch.randn(4, 3, 8, 8)
        for optimiser, model in ((fused, fused_model), (plain, plain_model)):
            for group in optimiser.param_groups:
                group["lr"] = 0.01
            optimiser.zero_grad()
            given = images.contiguous(memory_format=torch.channels_last) if model is fused_model else images
            model.loss(given).backward()
            optimiser.step()
    for name, parameter in plain_model.named_parameters():
        torch.testing.assert_close(
            dict(fused_model.named_parameters())[name], parameter, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_restored_state_takes_the_same_next_step(name: str) -> None:
    """Through contiguous copies, as a file gives them back, into channels_last weights."""

    def take(model: Toy, optimiser: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        images = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        set_rates(optimiser, peak=0.01, factor=1.0)
        optimiser.zero_grad()
        model.loss(images).backward()
        optimiser.step()

    settings = config(name=name, weight_decay=0.01)
    first = toy().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = build_optimiser(settings, first, batch_size=4)
    for seed in range(2):
        take(first, optimiser, seed)
    saved = {k: v.contiguous().clone() for k, v in optimiser_state(optimiser, first).items()}
    second = toy(9).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    second.load_state_dict({k: v.contiguous().clone() for k, v in first.state_dict().items()})
    other = build_optimiser(settings, second, batch_size=4)
    restore_optimiser(other, second, saved)
    take(first, optimiser, 7)
    take(second, other, 7)
    for (key, left), right in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(left, right), key


def test_state_of_another_model_is_refused() -> None:
    model = toy()
    optimiser = build_optimiser(config(), model, batch_size=4)
    with pytest.raises(AssertionError, match=r"no\.such"):
        restore_optimiser(optimiser, model, {"no.such:momentum_buffer": torch.zeros(1)})
