"""DINO's loss and head against loops and lightly; its centre and teacher step by step."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from torch import Tensor

from sempairs.methods import build_method
from sempairs.methods.dino import DINO, DINOConfig, teacher_codes
from sempairs.methods.momentum import cosine_momentum
from sempairs.methods.multicrop import code_loss
from sempairs.views.records import Crop, Views

CONFIG = DINOConfig(hidden=8, bottleneck=4, out=5, momentum=0.9, freeze_last=0.1)
TEMPERATURES = {"student": 0.1, "teacher": 0.04}


def made(crops: int, batch: int = 6, width: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """float64 outputs of student and teacher, and a centre."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(n, batch, width, generator=generator, dtype=torch.float64) / 4 for n in (crops, 2)
    )
    centre = torch.randn(width, generator=generator, dtype=torch.float64) / 10
    return student.requires_grad_(), teacher, centre


def dino_loss(student: Tensor, teacher: Tensor, centre: Tensor) -> Tensor:
    codes = teacher_codes(teacher, centre, temperature=TEMPERATURES["teacher"])
    return code_loss(codes, student / TEMPERATURES["student"])


def reference(student: Tensor, teacher: Tensor, centre: Tensor) -> Tensor:
    """Eq. 1 to 3 and algorithm 1, row by row."""

    def softmax(row: Tensor, temperature: float) -> Tensor:
        powers = torch.exp(row / temperature)
        return powers / powers.sum()

    total, count = torch.zeros((), dtype=torch.float64), 0
    for x, of_teacher in enumerate(teacher):
        for other, of_student in enumerate(student):
            if other != x:
                for t, s in zip(of_teacher, of_student, strict=True):
                    p = softmax(t - centre, TEMPERATURES["teacher"])
                    total = total - p.dot(softmax(s, TEMPERATURES["student"]).log())
                    count += 1
    return total / count


@pytest.mark.parametrize("crops", [2, 5])
def test_value_and_gradient_equal_the_papers_loop(crops):
    student, teacher, centre = made(crops)
    loss, expected = dino_loss(student, teacher, centre), reference(student, teacher, centre)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, student)
    torch.testing.assert_close(got, torch.autograd.grad(expected, student), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("crops", [2, 5])
def test_value_and_gradient_equal_lightlys(crops):
    student, teacher, centre = made(crops)
    criterion = DINOLoss(7, teacher_temp=0.04, student_temp=0.1).double()
    criterion.center = centre.view(1, 1, -1).clone()
    theirs = criterion(list(teacher), list(student))
    ours = dino_loss(student, teacher, centre)
    # Their temperature is a float32 number.
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    got = torch.autograd.grad(ours, student)
    torch.testing.assert_close(got, torch.autograd.grad(theirs, student), rtol=1e-5, atol=1e-8)


def test_gradcheck_and_no_gradient_to_the_teacher():
    student, teacher, centre = made(3, batch=2, width=3)
    assert torch.autograd.gradcheck(lambda s: dino_loss(s, teacher, centre), (student,))
    teacher.requires_grad_()
    dino_loss(student, teacher, centre).backward()
    assert teacher.grad is None


def test_a_centre_equal_to_every_output_makes_the_teacher_uniform_and_cold_ones_make_it_certain():
    student, teacher, _ = made(2)
    same = teacher[0, 0].expand_as(teacher)
    codes = teacher_codes(same, teacher[0, 0], temperature=0.04)
    torch.testing.assert_close(codes, torch.full_like(codes, 1 / 7), rtol=1e-12, atol=0)
    uniform = -(student / 0.1).log_softmax(-1).mean()
    torch.testing.assert_close(code_loss(codes, student / 0.1), uniform, rtol=1e-12, atol=0)
    cold = teacher_codes(teacher, torch.zeros(7), temperature=1e-6)
    assert torch.equal(cold.argmax(-1), teacher.argmax(-1))
    torch.testing.assert_close(cold.amax(-1), torch.ones(2, 6, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")  # lightly's
@pytest.mark.parametrize("norm", [False, True])
def test_head_equals_lightlys_with_its_weights(norm):
    ours = build_method(CONFIG.model_copy(update={"head_norm": norm}), torch.nn.Identity(), 6, seed=0).head
    ours.frozen = False
    theirs = DINOProjectionHead(6, 8, 4, 5, batch_norm=norm)
    # Theirs has no biases before a norm, which cancels them; the paper's code and ours do.
    pairs = [(dict(ours.layers.named_parameters())[name], p) for name, p in theirs.layers.named_parameters()]
    pairs.append((ours.directions.weight, theirs.last_layer.weight_v))
    with torch.no_grad():
        for own, other in pairs:
            other.copy_(own)
    rows = torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    outputs = ours(rows[None])[1][0], theirs(rows)
    torch.testing.assert_close(*outputs)
    got, expected = (
        torch.autograd.grad(out.square().sum(), (rows, *(pair[side] for pair in pairs)))
        for side, out in enumerate(outputs)
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_the_whole_step_is_the_papers_on_what_the_networks_give(encoder, new_views):
    method = build_method(CONFIG, encoder, 6, seed=0).double()
    for module in method.modules():  # so that crops may pass one at a time below
        if isinstance(module, torch.nn.modules.batchnorm._NormBase):
            module.eval()
    views = new_views(local=3)
    views = Views(
        tuple(Crop(c.pixels.double(), c.member, c.kind) for c in views.crops), views.pair_id, views.meaning
    )
    method.centre += torch.linspace(-0.1, 0.1, 5)
    student = torch.stack([method.head(method.encoder(c.pixels)[None])[1][0] for c in views.crops])
    pixels = [c.pixels for c in views.crops[:2]]
    teacher = torch.stack([method.teacher_head(method.teacher_encoder(x)[None])[1][0] for x in pixels])
    expected = reference(student, teacher, method.centre)
    torch.testing.assert_close(method(views).loss, expected, rtol=1e-10, atol=0)


def test_centre_follows_the_mean_as_lightlys_after_the_step_alone(encoder, views):
    method = build_method(CONFIG, encoder, 6, seed=0)
    criterion, outputs = DINOLoss(5, center_momentum=0.9), []
    method.teacher_head.register_forward_hook(lambda module, inputs, output: outputs.append(output[1]))
    for step in range(3):
        before = method.centre.clone()
        method.before_step(0.5)
        method(views)
        assert torch.equal(method.centre, before)
        method.after_step(0.5)
        criterion.update_center(outputs[step])
        torch.testing.assert_close(method.centre, criterion.center.flatten())
    method.after_step(0.5)  # without a step before it
    torch.testing.assert_close(method.centre, criterion.center.flatten())


def test_teacher_starts_equal_follows_parameters_and_is_exported(encoder, views):
    method = build_method(CONFIG, encoder, 6, seed=0)
    assert method.exported_encoder() is method.teacher_encoder
    start = copy.deepcopy(method.state_dict())
    pairs = [(n, n.replace("teacher_", "")) for n in start if n.startswith("teacher_")]
    assert all(torch.equal(start[name], start[other]) for name, other in pairs)
    assert not any(p.requires_grad for n, p in method.named_parameters() if n.startswith("teacher_"))
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.head.parameters()):
            parameter += 1
    method.after_step(0.25)
    momentum = cosine_momentum(0.9, 1.0, 0.25)
    parameters = dict(method.named_parameters())
    for name, other in pairs:
        if name in parameters:
            expected = momentum * start[name] + (1 - momentum) * parameters[other].detach()
            torch.testing.assert_close(parameters[name].detach(), expected)


def test_last_map_stands_still_for_its_share_of_the_steps_and_moves_after(encoder, new_views):
    method = build_method(CONFIG, encoder, 6, seed=0)
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1)
    first = F.normalize(method.head.directions.weight.detach(), dim=1)
    for step in range(20):
        method.before_step(step / 20)
        optimiser.zero_grad()
        method(new_views(seed=step)).loss.backward()
        optimiser.step()
        method.after_step(step / 20)
        now = F.normalize(method.head.directions.weight.detach(), dim=1)
        assert torch.allclose(now, first, rtol=0, atol=1e-6) == (step / 20 < 0.1)


def test_temperature_rises_along_its_share_of_the_steps():
    settings = {"warm_up_temperature": 0.04, "teacher_temperature": 0.07}
    method = DINO(DINOConfig(warm_up=0.2, **settings), torch.nn.Identity(), 6)
    for progress, expected in ((0, 0.04), (0.1, 0.055), (0.2, 0.07), (0.9, 0.07)):
        method.before_step(progress)
        assert method.temperature == pytest.approx(expected)
    assert DINO(DINOConfig(warm_up=0, **settings), torch.nn.Identity(), 6).temperature == 0.07


def test_student_sees_all_crops_the_teacher_global_ones_each_size_in_one_batch(encoder, new_views):
    method = DINO(CONFIG, encoder, 6)
    seen = []
    for network in (method.encoder, method.teacher_encoder):
        network.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape[::2])))
    method(new_views(local=3))
    assert seen == [(16, 8), (24, 4), (16, 8)]
    assert DINO.joint_forward
    assert DINO.takes_local


def test_loss_less_entropy_is_the_divergence_logged(encoder, views):
    out = build_method(CONFIG, encoder, 6, seed=0)(views)
    assert 0 <= out.logs["code_entropy"] <= math.log(5)
    parts = out.logs["code_entropy"] + out.logs["code_divergence"]
    torch.testing.assert_close(parts, out.loss.detach())
    assert out.logs["code_divergence"] > 0
