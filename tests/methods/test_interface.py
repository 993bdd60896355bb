"""What holds for every registered method, and that the interface carries the methods to come."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

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
from sempairs.testing import METHOD_CHECKS, methods
from sempairs.testing.methods import WIDTH

from .conftest import OBJECTIVES, VARIANTS


class Recipe(Config):
    method: AnyMethodConfig


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_method_keeps_the_contract(variant, check):
    name, _, objective = variant.partition(" with ")
    check(name, OBJECTIVES.get(objective))


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


OURS = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("sempairs.methods.")]


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS.get(name).presets])
def test_presets_are_of_their_method_and_name_their_source(name):
    """Which scales a method claims is its own matter, none among them."""
    presets = METHODS.get(name).presets
    assert all(p.config.name == name and p.training and p.source for p in presets.values())


class Fleeting(Method):
    """Says that it carries nothing, and keeps a buffer; claims no published number."""

    Config = MethodConfig

    def __init__(self, config, encoder, width):
        super().__init__(config, encoder, width)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, views) -> StepOutput:
        rows = self.encoder(views.crops[0].pixels)
        return StepOutput(rows.square().mean(), {}, rows.detach())

    def after_step(self, progress: float) -> None:
        self.steps += 1


class Counting(Fleeting):
    stateful = True


class Stuck(Counting):
    def after_step(self, progress: float) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "said"), [(Fleeting, "must be true"), (Counting, None), (Stuck, "unchanged")]
)
def test_a_class_states_whether_it_carries_anything(monkeypatch, encoder, kind, said):
    monkeypatch.setattr(methods, "small_method", lambda *_: kind(MethodConfig(name="toy"), encoder, WIDTH))
    assert not kind.presets
    with contextlib.nullcontext() if said is None else pytest.raises(AssertionError, match=said):
        methods.check_carried("toy")


@pytest.mark.parametrize("name", OURS)
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
