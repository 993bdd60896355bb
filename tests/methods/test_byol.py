"""BYOL's loss against a loop and lightly; its target network step by step."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from torch import Tensor

from sempairs.methods.byol import BYOL, BYOLConfig, byol_loss
from sempairs.methods.momentum import cosine_momentum

CONFIG = BYOLConfig(hidden=8, out=5, predictor_hidden=7, momentum=0.9)


def reference(prediction: Tensor, target: Tensor) -> Tensor:
    """Eq. 2: squared distance of the normalised vectors, row by row."""
    losses = []
    for q, z in zip(prediction, target.detach(), strict=True):
        losses.append(((q / q.dot(q).sqrt() - z / z.dot(z).sqrt()) ** 2).sum())
    return torch.stack(losses).mean()


def test_value_and_gradient_equal_the_papers_loop(projections):
    prediction, target = projections()
    loss, expected = byol_loss(prediction, target), reference(prediction, target)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, prediction)
    torch.testing.assert_close(got, torch.autograd.grad(expected, prediction), rtol=1e-10, atol=1e-12)


def test_both_directions_equal_lightlys_benchmark_loss_plus_four(projections):
    from_left, target_left = projections(batch=9, width=7)
    from_right, target_right = projections(batch=9, width=7, seed=1)
    criterion = NegativeCosineSimilarity()
    ours = byol_loss(from_left, target_right) + byol_loss(from_right, target_left)
    theirs = 2 * criterion(target_left.detach(), from_right) + 2 * criterion(target_right.detach(), from_left)
    torch.testing.assert_close(ours, theirs + 4, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(ours, [from_left, from_right])
    expected = torch.autograd.grad(theirs, [from_left, from_right])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_target(projections):
    prediction, target = projections(batch=3, width=3)
    assert torch.autograd.gradcheck(lambda p: byol_loss(p, target), (prediction,))
    byol_loss(prediction, target).backward()
    assert target.grad is None


def test_reordering_pairs_changes_nothing(projections):
    prediction, target = projections(batch=7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    again = byol_loss(prediction[order], target[order])
    torch.testing.assert_close(again, byol_loss(prediction, target), rtol=1e-12, atol=0)


def test_limits_from_aligned_to_opposed():
    rows = torch.randn(4, 3, dtype=torch.float64)
    assert byol_loss(rows, 3 * rows).item() == pytest.approx(0, abs=1e-12)
    assert byol_loss(rows, -rows).item() == pytest.approx(4, rel=1e-12)
    assert byol_loss(torch.eye(4)[:2], torch.eye(4)[2:]).item() == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        byol_loss(torch.randn(shapes[0]), torch.randn(shapes[1]))


def test_swapping_views_changes_nothing_but_rounding(encoder, views, swapped_views):
    method = BYOL(CONFIG, encoder, 6).double()
    crops = tuple(type(c)(c.pixels.double(), c.member, c.kind) for c in views.crops)
    views = type(views)(crops, views.pair_id, views.meaning)
    first = method(views).loss
    second = method(swapped_views(views)).loss
    torch.testing.assert_close(first, second, rtol=1e-12, atol=0)


def test_momentum_rises_along_half_a_cosine():
    assert cosine_momentum(0.99, 1.0, 0.0) == 0.99
    assert cosine_momentum(0.99, 1.0, 0.5) == pytest.approx(0.995, abs=1e-15)
    assert cosine_momentum(0.99, 1.0, 1.0) == 1.0
    k, total, base = 37, 200, 0.996  # the paper's formula, term by term
    expected = 1 - (1 - base) * (math.cos(math.pi * k / total) + 1) / 2
    assert cosine_momentum(base, 1.0, k / total) == pytest.approx(expected, abs=1e-15)


def test_target_starts_equal_follows_parameters_and_keeps_its_own_statistics(encoder, views):
    method = BYOL(CONFIG, encoder, 6)
    start = copy.deepcopy(method.encoder.state_dict())
    assert all(torch.equal(value, start[name]) for name, value in method.target_encoder.state_dict().items())
    assert not any(p.requires_grad for p in method.target_encoder.parameters())

    method(views).loss.backward()
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter -= 0.5 * parameter.grad
    # With equal weights so far, the target has gathered equal statistics by its own forward passes.
    torch.testing.assert_close(method.target_encoder[1].running_mean, method.encoder[1].running_mean)
    assert not torch.equal(method.target_encoder[1].running_mean, start["1.running_mean"])
    statistics = method.target_encoder[1].running_mean.clone()

    method.after_step(0.25)
    momentum = cosine_momentum(0.9, 1.0, 0.25)
    for name, value in method.target_encoder.named_parameters():
        online = dict(method.encoder.named_parameters())[name]
        torch.testing.assert_close(value, momentum * start[name] + (1 - momentum) * online.detach())
    assert torch.equal(method.target_encoder[1].running_mean, statistics)


def test_each_view_passes_each_network_by_itself(encoder, views):
    method = BYOL(CONFIG, encoder, 6)
    seen = []
    for network in (method.encoder, method.target_encoder):
        network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    method(views)
    assert seen == [8, 8, 8, 8]
    assert not BYOL.joint_forward
