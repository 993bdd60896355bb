"""What DINO and SwAV share: terms between crops, batches by resolution, the head, and signs of collapse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sempairs.errors import UserError
from sempairs.methods import METHODS, MethodConfig, build_method, dino, swav
from sempairs.methods.dino import DINOConfig
from sempairs.methods.multicrop import (
    CodeHead,
    by_resolution,
    code_health,
    code_loss,
    code_warning,
    sinkhorn,
)
from sempairs.methods.swav import SwAVConfig
from sempairs.training.monitor import projection_warning
from sempairs.views.records import Crop, Slot, Views


def made(crops: int, codes: int = 2, batch: int = 4, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(crops, batch, width, generator=generator, dtype=torch.float64)
    targets = torch.randn(codes, batch, width, generator=generator, dtype=torch.float64).mul(2).softmax(-1)
    return targets, logits.requires_grad_()


def reference(codes: Tensor, logits: Tensor) -> Tensor:
    """Pair by pair, term by term, place by place."""
    terms = []
    for i in range(codes.shape[1]):
        for t in range(len(codes)):
            for v in range(len(logits)):
                if v == t:
                    continue
                powers = [math.e ** logits[v, i, k] for k in range(codes.shape[2])]
                chances = [power / sum(powers) for power in powers]
                terms.append(-sum(codes[t, i, k] * chance.log() for k, chance in enumerate(chances)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("crops", "codes"), [(2, 2), (2, 1), (3, 2), (6, 2)])
def test_value_and_gradient_equal_the_papers_loop(crops, codes):
    targets, logits = made(crops, codes)
    loss, expected = code_loss(targets, logits), reference(targets, logits)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(got, torch.autograd.grad(expected, logits), rtol=1e-10, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_codes():
    targets, logits = made(3, batch=2, width=3)
    assert torch.autograd.gradcheck(lambda x: code_loss(targets, x), (logits,))
    targets.requires_grad_()
    code_loss(targets, logits).backward()
    assert targets.grad is None


def test_order_of_pairs_of_places_and_of_local_crops_changes_nothing():
    targets, logits = made(5)
    loss = code_loss(targets, logits)
    pairs, places = torch.tensor([2, 0, 3, 1]), torch.tensor([4, 1, 0, 2, 3])
    for codes, scores in (
        (targets[:, pairs], logits[:, pairs]),
        (targets[..., places], logits[..., places]),
        (targets, logits[[0, 1, 4, 2, 3]]),
        (targets[[1, 0]], logits[[1, 0, 2, 3, 4]]),
    ):
        torch.testing.assert_close(code_loss(codes, scores), loss, rtol=1e-12, atol=0)


def test_limits_from_certain_and_right_to_uniform():
    right = torch.eye(5, dtype=torch.float64)[:4].expand(2, 4, 5)
    assert code_loss(right, 100 * right).item() == pytest.approx(0, abs=1e-12)
    assert code_loss(right, 0 * right).item() == pytest.approx(math.log(5), rel=1e-12)
    uniform = torch.full_like(right, 0.2)
    assert code_loss(uniform, 0 * right).item() == pytest.approx(math.log(5), rel=1e-12)


def test_a_crop_never_predicts_its_own_code():
    targets, logits = made(3, codes=1)
    code_loss(targets, logits).backward()
    assert logits.grad[0].abs().max() == 0
    assert (logits.grad[1:].abs().sum(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize(
    "shapes",
    [
        *[((2, 4, 3), (2, 5, 3)), ((2, 4, 3), (2, 4, 2)), ((4, 3), (4, 3))],
        *[((3, 4, 3), (2, 4, 3)), ((1, 4, 3), (1, 4, 3)), ((2, 1, 3), (2, 1, 3))],
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError):
        code_loss(torch.rand(shapes[0]), torch.rand(shapes[1]))


def test_loss_and_sinkhorn_are_computed_in_float32_inside_autocast():
    targets, logits = (x.detach().float() for x in made(4, batch=16))
    tight = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = code_loss(targets, logits), code_loss(targets.bfloat16(), logits.bfloat16())
        codes = sinkhorn(logits.bfloat16(), epsilon=0.5, iterations=3)
    assert {x.dtype for x in (*losses, codes)} == {torch.float32}
    torch.testing.assert_close(losses[0], code_loss(targets.double(), logits.double()), **tight)
    rounded = targets.bfloat16().double(), logits.bfloat16().double()
    torch.testing.assert_close(losses[1], code_loss(*rounded), **tight)
    torch.testing.assert_close(codes, sinkhorn(rounded[1], epsilon=0.5, iterations=3), **tight)


def test_each_resolution_passes_the_network_once_and_rows_come_back_to_their_crops(new_encoder):
    generator = torch.Generator().manual_seed(0)
    crops = [torch.randn(3, 3, size, size, generator=generator) for size in (8, 8, 4, 6, 4)]
    encoder, seen = new_encoder().eval(), []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    out = by_resolution(encoder, crops)
    assert seen == [(6, 3, 8, 8), (6, 3, 4, 4), (3, 3, 6, 6)]
    torch.testing.assert_close(out, torch.stack([encoder(crop) for crop in crops]))


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_crops_are_two_global_ones_then_local_ones(name, encoder, new_views):
    method = build_method(METHODS.get(name).Config(), encoder, 6, seed=0)
    views = new_views(local=3)
    assert all(got is crop.pixels for got, crop in zip(method.crops(views), views.crops, strict=True))
    last = Views(views.crops[::-1], views.pair_id, views.meaning)
    third = new_views(slots=[Slot("anchor"), Slot("partner"), Slot("anchor")])
    for wrong in (new_views(slots=[Slot("anchor")]), last, third):
        rule = f"^views must be global of anchor, global of partner, then local ones if any for {name}"
        with pytest.raises(UserError, match=rule):
            method.crops(wrong)


@pytest.mark.parametrize("unit_rows", [True, False])
def test_a_frozen_head_gives_the_same_and_its_directions_get_a_gradient_of_zero(unit_rows):
    head = CodeHead(nn.Linear(6, 4), 4, 7, unit_rows=unit_rows)
    features = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    gradients, outputs = [], []
    for frozen in (False, True):
        head.frozen = frozen
        head.zero_grad()
        _, scores = head(features)
        scores.square().sum().backward()
        outputs.append(scores)
        gradients.append((head.directions.weight.grad.clone(), head.layers.weight.grad.clone()))
    assert torch.equal(*outputs)
    assert gradients[0][0].abs().sum() > 0
    assert gradients[1][0].abs().sum() == 0
    assert torch.equal(gradients[0][1], gradients[1][1])


def test_code_health_of_one_code_of_certain_ones_and_of_uniform_ones():
    certain = code_health(torch.eye(6)[torch.tensor([0, 1, 2, 0, 1, 2])].view(2, 3, 6))
    assert certain["code_entropy"].item() == pytest.approx(0, abs=1e-6)
    assert certain["code_usage"].item() == pytest.approx(3, rel=1e-5)
    assert certain["code_information"].item() == pytest.approx(3, rel=1e-5)
    for same, usage in ((torch.eye(6)[:1], 1), (torch.full((1, 6), 1 / 6), 6)):
        health = code_health(same.expand(8, 6))
        assert health["code_entropy"].item() == pytest.approx(math.log(usage), abs=1e-6)
        assert health["code_usage"].item() == pytest.approx(usage, rel=1e-5)
        assert health["code_information"].item() == pytest.approx(1, rel=1e-5)


BATCH, STEPS = 64, 150
DINO_SMALL = DINOConfig(hidden=32, bottleneck=16, out=64)
SWAV_SMALL = SwAVConfig(hidden=32, out=16, prototypes=32)


def made_views(step: int) -> Views:
    """The same 64 pictures, each view with noise of its own."""
    pictures = torch.randn(BATCH, 3, 4, 4, generator=torch.Generator().manual_seed(1_000_000))
    generator = torch.Generator().manual_seed(step)
    views = [pictures + torch.randn(pictures.shape, generator=generator) for _ in range(2)]
    rows = torch.arange(BATCH)
    return Views((Crop(views[0], "anchor"), Crop(views[1], "partner")), rows, rows)


def last_logs(config: MethodConfig) -> dict[str, float]:
    """The logs after the steps, averaged over the last ten."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 16))
    method = build_method(config, encoder, 16, seed=0)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    kept = []
    for step in range(STEPS):
        method.before_step(step / STEPS)
        out = method(made_views(step))
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
        method.after_step(step / STEPS)
        kept.append(out.logs)
    return {name: torch.stack([logs[name] for logs in kept[-10:]]).mean().item() for name in kept[0]}


@pytest.mark.parametrize("config", [DINO_SMALL, SWAV_SMALL], ids=["dino", "swav"])
def test_they_stay_healthy(config):
    logs = last_logs(config)
    assert logs["code_information"] > 2
    assert code_warning(logs) is None
    assert projection_warning(logs) is None


def test_dino_without_centring_puts_all_in_one_place_and_is_told(monkeypatch):
    whole = dino.teacher_codes
    monkeypatch.setattr(
        dino, "teacher_codes", lambda x, c, temperature: whole(x, 0 * c, temperature=temperature)
    )
    logs = last_logs(DINO_SMALL)
    assert logs["code_usage"] < 2
    assert logs["code_divergence"] < 0.2
    assert "collapsing" in code_warning(logs)


def test_dino_without_sharpening_becomes_uniform_and_is_told():
    flat = {"teacher_temperature": 0.2, "warm_up_temperature": 0.2}
    logs = last_logs(DINO_SMALL.model_copy(update=flat))
    assert logs["code_entropy"] > 0.98 * math.log(64)
    assert logs["code_divergence"] < 0.2
    assert "collapsing" in code_warning(logs)


def test_swav_without_sinkhorn_puts_all_in_one_place_and_is_told(monkeypatch):
    monkeypatch.setattr(swav, "sinkhorn", lambda scores, epsilon, iterations: (scores / epsilon).softmax(-1))
    logs = last_logs(SWAV_SMALL)
    assert logs["code_usage"] < 2
    assert "collapsing" in code_warning(logs)
