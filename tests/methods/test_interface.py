"""What holds for every registered method, and that the interface carries the methods to come."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sempairs
from sempairs.config import Config, validate
from sempairs.errors import UserError
from sempairs.methods import (
    METHODS,
    AnyMethodConfig,
    Method,
    MethodConfig,
    ParamRule,
    StepOutput,
)
from sempairs.methods.barlow_twins import barlow_terms
from sempairs.methods.byol import byol_loss
from sempairs.methods.dcl import dcl_loss
from sempairs.methods.distributed import layout_of
from sempairs.methods.moco_v2 import moco_loss
from sempairs.methods.moco_v3 import moco_v3_loss
from sempairs.methods.momentum import cosine_momentum, follow, frozen_copy
from sempairs.methods.msf import mean_shift
from sempairs.methods.nnclr import nnclr_loss
from sempairs.methods.rince import rince_loss
from sempairs.methods.simclr import nt_xent
from sempairs.methods.simsiam import negative_cosine
from sempairs.methods.supcon import supcon_loss
from sempairs.methods.supervised import cross_entropy
from sempairs.methods.vicreg import vicreg_terms
from sempairs.views.records import Slot, Views

from .conftest import VARIANTS, build_variant

WIDTH = 6
MEANINGS = 4  # of the views' eight pairs
# Sizes every head can have at once, so that the tests stay quick whatever a method's defaults are.
SMALL = {"hidden": 8, "out": 5, "predictor_hidden": 7}


class Recipe(Config):
    method: AnyMethodConfig


def small(name: str) -> MethodConfig:
    config = METHODS.get(name).Config
    return config(**{key: value for key, value in SMALL.items() if key in config.model_fields})


@pytest.fixture(params=VARIANTS)
def variant(request) -> str:
    return str(request.param)


@pytest.fixture
def method(variant, encoder) -> Method:
    return build_variant(variant, encoder, SMALL)


def crops_of(method: Method) -> dict[str, Any]:
    """What `make_views` is asked for: the method's crops, with local ones where it takes them."""
    return {"slots": method.slots, "local": 2 if method.takes_local else 0}


@pytest.fixture
def views(method, new_views) -> Views:
    return new_views(**crops_of(method))


def test_step_gives_a_finite_scalar_loss_detached_logs_and_embeddings(method, views):
    step = method(views)
    assert step.loss.shape == ()
    assert torch.isfinite(step.loss)
    assert step.embeddings.shape == (8, WIDTH)
    assert not step.embeddings.requires_grad
    assert all(log.shape == () and not log.requires_grad for log in step.logs.values())


def test_gradients_reach_every_trainable_parameter(method, views):
    method(views).loss.backward()
    missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert sum(p.grad.abs().sum() for p in method.encoder.parameters()) > 0


def test_param_groups_hold_each_trainable_parameter_once(method):
    grouped = [name for group in method.param_groups() for name, _ in group.parameters]
    assert sorted(grouped) == sorted(n for n, p in method.named_parameters() if p.requires_grad)


def test_training_lowers_the_loss(method, new_views):
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    losses = []
    # Over and over the same batch, a queue of negatives would fill with the positives themselves.
    queue = {k: v.clone() for k, v in method.state_dict().items() if "queue." in k}
    for step in range(30):
        method.before_step(step / 30)
        out = method(new_views(**crops_of(method)))
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
        method.after_step(step / 30)
        method.load_state_dict(queue, strict=False)
        losses.append(out.loss.item())
    assert losses[-1] < losses[0]


def test_state_dict_carries_everything_a_step_depends_on(variant, method, views, new_encoder, new_views):
    def advance(model: Method, step: int) -> Tensor:
        model.before_step(step / 10)
        out = model(new_views(**crops_of(model), seed=step))
        model.zero_grad()
        out.loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        model.after_step(step / 10)
        return out.loss.detach()

    for step in range(3):
        advance(method, step)
    other = build_variant(variant, new_encoder(), SMALL, seed=99)
    assert not torch.equal(other(views).loss, method(views).loss)
    other.load_state_dict(method.state_dict())
    for step in range(3, 6):
        assert torch.equal(advance(method, step), advance(other, step))


EVERY = torch.ones(12, dtype=torch.bool)
LOSSES = {
    "barlow_twins": lambda left, right: torch.stack(barlow_terms(left, right)),
    "msf": lambda left, right: (
        mean_shift(left, right, torch.eye(12, dtype=left.dtype), filled=EVERY, neighbours=3).loss
    ),
    "simsiam": negative_cosine,
    "supcon": lambda left, right: supcon_loss(
        left, right, torch.arange(16) % 3, temperature=0.2, base_temperature=0.2
    ),
    "supervised": lambda left, right: cross_entropy(left, torch.arange(16) % 12),
    "dcl": lambda left, right: dcl_loss(left, right, temperature=0.2, sigma=0.5),
    "moco_v2": lambda left, right: moco_loss(left, right, torch.eye(12, dtype=left.dtype), temperature=0.2),
    "moco_v3": lambda left, right: moco_v3_loss(left, right, temperature=0.2),
    "nnclr": lambda left, right: nnclr_loss(left, right, temperature=0.2),
    "rince": lambda left, right: rince_loss(left, right, temperature=0.2, q=0.5, lam=0.01),
    "simclr": lambda left, right: nt_xent(left, right, temperature=0.2),
    "byol": byol_loss,
    "vicreg": lambda left, right: torch.stack(vicreg_terms(left, right)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_computed_in_float32_inside_autocast(name):
    left, right = torch.randn(2, 16, 12, generator=torch.Generator().manual_seed(0))
    half = left.bfloat16(), right.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        from_float, from_half = LOSSES[name](left, right), LOSSES[name](*half)
    assert from_float.dtype == from_half.dtype == torch.float32
    # bf16 products would be off by about 1e-2.
    tight = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}
    torch.testing.assert_close(from_float, LOSSES[name](left.double(), right.double()), **tight)
    torch.testing.assert_close(from_half, LOSSES[name](half[0].double(), half[1].double()), **tight)


def test_half_precision_leaves_the_loss_in_float32_and_near(method, views):
    exact = method(views).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = method(views).loss
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)


def test_crops_the_method_cannot_use_are_refused_with_its_name(method, new_views):
    slots, more = method.slots, Slot("anchor")
    wrong: list[dict[str, Any]] = [{"slots": slots[:1]}, {"slots": slots[:1], "local": 1}]
    wrong += [{"slots": (*slots, more)}] + ([] if method.takes_local else [{"slots": slots, "local": 1}])
    for crops in wrong:
        with pytest.raises(UserError, match=rf"^views must be .* for {method.name}\b"):
            method(new_views(**crops))


def test_heads_are_a_pure_function_of_the_seed_and_leave_global_randomness_alone(variant, encoder):
    def state(seed: int) -> list[Tensor]:
        return list(build_variant(variant, encoder, SMALL, seed=seed).state_dict().values())

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = state(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(map(torch.equal, first, state(0)))
    assert not all(map(torch.equal, first, state(1)))


@pytest.mark.parametrize("name", METHODS.names())
def test_config_survives_a_recipe_and_names_its_method(name):
    config = METHODS.get(name).Config()
    recipe = Recipe(method=config)
    assert validate(Recipe, recipe.model_dump(mode="json")) == recipe
    assert type(recipe.method) is METHODS.get(name).Config
    assert config.name == name


@pytest.mark.parametrize("name", METHODS.names())
def test_presets_cover_the_three_scales_with_their_sources(name):
    presets = METHODS.get(name).presets
    assert set(presets) >= {"imagenet-r50", "cifar-r18", "tiny"}
    assert all(p.config.name == name and p.training and p.source for p in presets.values())


@pytest.mark.parametrize("name", METHODS.names())
def test_file_names_paper_and_departures(name):
    module = importlib.import_module(METHODS.get(name).__module__)
    text = Path(module.__file__).read_text()
    doc = ast.get_docstring(ast.parse(text))
    assert "arXiv:" in doc
    assert "Departures:" in doc


def test_a_misspelt_method_lists_the_choices_and_suggests_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'simclr'\? choose from: .*byol.*vicreg"):
        validate(Recipe, {"method": {"name": "simcrl"}})


def test_another_methods_key_is_refused():
    with pytest.raises(UserError, match="temperature"):
        validate(Recipe, {"method": {"name": "byol", "temperature": 0.1}})


def test_a_new_method_is_one_file(tmp_path):
    package = tmp_path / "sempairs"
    shutil.copytree(
        Path(sempairs.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "data")
    )
    text = (package / "methods" / "vicreg.py").read_text()
    new = text.replace('"vicreg"', '"newcomer"').replace("VICReg", "Newcomer")
    (package / "methods" / "newcomer.py").write_text(new)
    code = (
        "from sempairs.methods import METHODS, AnyMethodConfig; from pydantic import TypeAdapter; "
        "config = TypeAdapter(AnyMethodConfig).validate_python({'name': 'newcomer'}); "
        "print(METHODS.names(), type(config).__name__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    assert "'newcomer'" in done.stdout
    assert done.stdout.split()[-1] == "NewcomerConfig"


class ToyConfig(MethodConfig):
    name: Literal["toy"] = "toy"


class Toy(Method):
    """Crops, momentum, a queue with meanings, a predictor of constant learning rate, a teacher to export."""

    Config = ToyConfig

    def __init__(self, config: ToyConfig, encoder: nn.Module, width: int) -> None:
        super().__init__(config, encoder, width)
        self.predictor = nn.Linear(width, width)
        self.teacher = frozen_copy(encoder)
        self.register_buffer("queue", torch.zeros(16, width))
        self.register_buffer("queue_meaning", torch.full((16,), -1))

    def param_rule(self, name: str, parameter: nn.Parameter) -> ParamRule:
        if name.startswith("predictor."):
            return ParamRule(constant_lr=True)
        return ParamRule(lr_scale=0.1) if parameter.ndim == 1 else ParamRule()

    def forward(self, views) -> StepOutput:
        with torch.no_grad():
            keys = [self.teacher(crop.pixels) for crop in views.crops if crop.kind == "global"]
        embeddings = [self.encoder(crop.pixels) for crop in views.crops]
        loss = torch.stack([F.mse_loss(self.predictor(e), k) for e in embeddings for k in keys]).mean()
        purity = (views.meaning[:, None] == self.queue_meaning).float().mean()
        layout = layout_of(views.meaning)
        rows, meanings = layout.gather(keys[0]), layout.gather(views.meaning)
        self.queue = torch.cat([rows, self.queue])[: len(self.queue)]
        self.queue_meaning = torch.cat([meanings, self.queue_meaning])[: len(self.queue)]
        return StepOutput(loss, {"purity": purity}, embeddings[0].detach())

    def after_step(self, progress: float) -> None:
        follow(self.teacher, self.encoder, cosine_momentum(0.9, 1.0, progress))

    def exported_encoder(self) -> nn.Module:
        return self.teacher


def test_interface_carries_crops_momentum_queue_labels_and_learning_rates_of_its_own(encoder, new_views):
    toy = Toy(ToyConfig(), encoder, WIDTH)
    views = new_views(local=2)
    assert toy(views).logs["purity"] == 0
    step = toy(views)
    step.loss.backward()
    assert step.logs["purity"] == pytest.approx(2 / 16)  # the queue holds two rows of each meaning
    rules = {group.rule: [n for n, _ in group.parameters] for group in toy.param_groups()}
    assert rules[ParamRule(constant_lr=True)] == ["predictor.weight", "predictor.bias"]
    assert set(rules) == {ParamRule(), ParamRule(lr_scale=0.1), ParamRule(constant_lr=True)}
    assert {"queue", "queue_meaning", "teacher.0.weight"} <= toy.state_dict().keys()
    assert toy.exported_encoder() is toy.teacher
