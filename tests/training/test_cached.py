"""Micro-batches: the gradient of the whole batch from encoders that never see it at once."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sempairs.config import save_config
from sempairs.methods import METHODS, Method, build_method
from sempairs.methods.objectives.joint import JointObjective
from sempairs.runs.checkpoint import load_checkpoint
from sempairs.training.cached import encoders, micro_batch_note, micro_batches
from sempairs.training.run import pretrain
from sempairs.views.records import Crop, Views

PAIRS, WIDTH = 9, 6
SMALL = {"hidden": 8, "out": 5, "predictor_hidden": 7, "queue": 12, "neighbours": 2}

JOINT = [
    f"{name}, joint, {heads}" for name in ("simclr", "byol", "moco_v2", "swav") for heads in ("one", "two")
]
CASES = [*METHODS.names(), *JOINT]


class Counting(nn.Module):
    """(B, 3, S, S) to (B, WIDTH); remembers how many images each call had."""

    def __init__(self, *, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        middle = nn.BatchNorm2d(WIDTH) if norm else nn.GroupNorm(2, WIDTH)
        self.layers = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3), middle, nn.Dropout(dropout), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        out: Tensor = self.layers(images)
        return out


def build(case: str, **encoder: Any) -> Method:
    """The method of a case: "simclr", or "simclr, joint, two" with two heads."""
    name, _, heads = case.partition(", joint, ")
    torch.manual_seed(3)
    kind = METHODS.get(name).Config
    config = kind(**{key: value for key, value in SMALL.items() if key in kind.model_fields})
    objective = JointObjective.model_validate({"heads": heads}) if heads else None
    built = build_method(config, Counting(**encoder), WIDTH, seed=0, meanings=5, objective=objective)
    return built.double().train()


def views_for(method: Method, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)

    def crop(member: Any, kind: Any, side: int) -> Crop:
        pixels = torch.randn(PAIRS, 3, side, side, generator=generator, dtype=torch.float64)
        return Crop(pixels, member, kind)

    crops = [crop(slot.member, slot.kind, 8) for slot in method.slots]
    if method.takes_local:
        crops += [crop(member, "local", 6) for member in ("anchor", "partner")]
    ids = torch.arange(PAIRS)
    return Views(tuple(crops), ids, ids // 2, ids % 3 > 0)


def gradients(method: Method, views: Views, micro: int | None) -> dict[str, Tensor]:
    """Loss, gradients and buffers after one pass of `views`."""
    method.zero_grad()
    method.before_step(0.0)
    with micro_batches(method, micro, PAIRS):
        out = method(views)
    out.loss.backward()
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    return {"loss": out.loss.detach(), "embeddings": out.embeddings, **found, **dict(method.named_buffers())}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("micro", [2, 4, 8, PAIRS])
def test_gradients_are_those_of_the_whole_batch(name: str, micro: int) -> None:
    method = build(name)
    plain, cached = copy.deepcopy(method), copy.deepcopy(method)
    for seed in range(2):  # a second step: queues and targets have moved
        views = views_for(method, seed)
        expected, found = gradients(plain, views, None), gradients(cached, views, micro)
        assert found.keys() == expected.keys()
        assert any(key.startswith("encoder.") for key in found)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
        for one in (plain, cached):
            torch.optim.SGD(one.parameters(), lr=0.05).step()
            one.after_step(0.0)
    torch.testing.assert_close(cached.state_dict(), plain.state_dict(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_no_encoder_sees_more_than_asked(name: str) -> None:
    """Each crop's pieces of 9 pairs at most 4 at a time have 3; both of a pair's crops are in one piece."""
    method = build(name)
    whole = copy.deepcopy(method)
    views = views_for(method)
    gradients(whole, views, None)
    gradients(method, views, 4)
    for small, large in zip(encoders(method), encoders(whole), strict=True):
        assert isinstance(small, Counting) and isinstance(large, Counting)
        passes = 2 if small is method.encoder else 1
        assert sorted(small.seen) == sorted(n // 3 for n in large.seen for _ in range(3 * passes))
        assert "forward" not in vars(small)


def test_the_networks_that_follow_are_found() -> None:
    method = build("byol")
    assert encoders(method) == [method.encoder, method.target_encoder]
    assert encoders(build("simclr"))[1:] == []


def test_both_passes_draw_the_same_masks() -> None:
    """The gradient of a weight behind dropout fits the loss only if the masks are those of the loss."""
    method = build("simclr", dropout=0.5)
    views = views_for(method)

    def loss() -> Tensor:
        torch.manual_seed(11)
        with micro_batches(method, 4, PAIRS):
            return method(views).loss

    loss().backward()
    weight = method.encoder.layers[0].weight
    found = weight.grad[0, 0].clone()
    for place in ((0, 0), (1, 2)):
        step = torch.zeros_like(weight)
        step[0, 0][place] = 1e-6
        with torch.no_grad():
            weight += step
            above = loss()
            weight -= 2 * step
            below = loss()
            weight += step
        assert float(found[place]) == pytest.approx(float(above - below) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_running_statistics_move_once_and_are_those_of_micro_batches(name: str) -> None:
    method = build(name, norm=True)
    twin = copy.deepcopy(method)
    views = views_for(method)
    gradients(method, views, 3)
    left, right = (crop.pixels.split(3) for crop in views.crops)
    calls = (
        [torch.cat(both) for both in zip(left, right, strict=True)] if method.joint_forward else left + right
    )
    for piece in calls:
        twin.encoder(piece)
    if name == "byol":
        for piece in calls:
            twin.target_encoder(piece)
    for (key, found), expected in zip(method.named_buffers(), twin.buffers(), strict=True):
        if "encoder" in key:
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14, msg=key)


def test_gradients_with_batch_norm_are_those_of_statistics_by_micro_batch() -> None:
    method = build("simclr", norm=True)
    twin = copy.deepcopy(method)
    views = views_for(method)
    found = gradients(method, views, 3)

    class ByHand(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            left, right = images.chunk(2)
            pieces = [self.inner(torch.cat([left[i : i + 3], right[i : i + 3]])) for i in (0, 3, 6)]
            return torch.cat([p[:3] for p in pieces] + [p[3:] for p in pieces])

    twin.encoder = ByHand(twin.encoder)
    expected = gradients(twin, views, None)
    for key, value in found.items():
        there = expected[key.replace("encoder.", "encoder.inner.", 1)]
        torch.testing.assert_close(value, there, rtol=1e-9, atol=1e-11, msg=key)


def test_activations_of_one_micro_batch_are_alive_at_once() -> None:
    """Outputs of the convolution, which the next layer keeps for its gradient."""
    method = build("simclr")
    alive: list[int] = [0]
    most = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal most
        alive[0] += 1
        most = max(most, alive[0])
        weakref.finalize(output, lambda: alive.__setitem__(0, alive[0] - 1))

    convolution = method.encoder.layers[0]
    convolution.register_forward_hook(count)
    gradients(method, views_for(method), 2)
    assert most == 1


def test_the_note_is_for_batch_normalisation_alone() -> None:
    assert micro_batch_note(build("simclr"), 4, PAIRS) is None
    normed = build("simclr", norm=True)
    assert micro_batch_note(normed, None, PAIRS) is None
    assert micro_batch_note(normed, PAIRS, PAIRS) is None
    assert "over 3 pairs at a time instead of 9" in str(micro_batch_note(normed, 4, PAIRS))


VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "drop_path_rate": 0.0}


def test_two_processes_with_micro_batches(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    """End where one process ends that passes all at once; with batch normalisation they agree and finish."""
    common: dict[str, Any] = {"schedule__duration": "3 steps", "monitor__every": "0 steps"}
    common["optimiser"] = {"name": "sgd", "lr": 0.05}  # AdamW makes steps of what is 0 but for rounding
    common["method"] = {"name": "byol", "hidden": 8, "out": 5}
    encoder = {"arch": "vit_tiny_patch16_224", "options": VIT}
    recipe = make_recipe(encoder=encoder, speed__precision="64-true", **common)
    pretrain(recipe, tmp_path / "one")
    save_config(recipe.model_copy(update={"micro_batch": 4}), tmp_path / "two.yaml")
    save_config(make_recipe(micro_batch=4, **common), tmp_path / "norm.yaml")
    jobs = [
        {"recipe": f"{tmp_path / name}.yaml", "out": str(tmp_path / name), "resume": False, "stop": None}
        for name in ("two", "norm")
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("several_processes.py")
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "jobs.json")], capture_output=True, text=True, timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SEMPAIRS_QUIET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "statistics over 6 pairs at a time instead of 12" in done.stderr
    one, two = (
        load_checkpoint(tmp_path / name / "checkpoint" / "step-00000003").tensors for name in ("one", "two")
    )
    torch.testing.assert_close(two, one, rtol=1e-7, atol=1e-9)


def test_a_run_with_micro_batches_resumes(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    """Bit for bit, with drop path, whose masks are those of the step."""
    options = {"channels": [8, 8, 8, 8], "drop_path_rate": 0.2}
    common = {"micro_batch": 5, "encoder__options": options, "checkpoint__every": "2 steps"}
    recipe = make_recipe(schedule__duration="4 steps", monitor__every="0 steps", **common)
    whole = pretrain(recipe, tmp_path / "run")
    (tmp_path / "run" / "finished.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoint" / "step-00000004")
    torch.rand(1)
    again = pretrain(recipe, tmp_path / "run", resume=True)
    assert again.resumed_from == 2
    assert again.weight_hash == whole.weight_hash
