"""SwAV's codes and loss against loops and lightly; its prototypes and queues step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn
from torch import Tensor

from sempairs.methods import build_method
from sempairs.methods.multicrop import code_loss, sinkhorn
from sempairs.methods.swav import SwAV, SwAVConfig
from sempairs.views.records import Views

SMALL = {"hidden": 8, "out": 4, "prototypes": 5, "epsilon": 0.05}
CONFIG = SwAVConfig(**SMALL, freeze_prototypes=0.1, queue=16, queue_start=0.3)


def made(*shape: int, seed: int = 0) -> Tensor:
    """float64 scores: cosines."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1


def reference(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """Section 3.1 and algorithm 1 as they stand: Q (K, N) brought to marginals 1/K and 1/N, in turn."""
    q = np.exp(scores.T / epsilon)
    k, n = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        for row in range(k):
            q[row] = q[row] / q[row].sum() / k
        for column in range(n):
            q[:, column] = q[:, column] / q[:, column].sum() / n
    return (q * n).T


@pytest.mark.parametrize(("rows", "prototypes"), [(12, 5), (5, 12), (2, 2)])
@pytest.mark.parametrize("iterations", [1, 3])
def test_codes_equal_the_papers_and_lightlys(rows, prototypes, iterations):
    scores = made(rows, prototypes)
    got = sinkhorn(scores, epsilon=0.05, iterations=iterations)
    expected = torch.from_numpy(reference(scores.numpy(), 0.05, iterations))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    theirs = lightly_sinkhorn(scores, iterations=iterations, epsilon=0.05)
    torch.testing.assert_close(got, theirs, rtol=1e-10, atol=1e-12)


def test_crops_are_assigned_each_by_itself():
    scores = made(2, 9, 4)
    alone = torch.stack([sinkhorn(crop, epsilon=0.05, iterations=3) for crop in scores])
    torch.testing.assert_close(sinkhorn(scores, epsilon=0.05, iterations=3), alone, rtol=1e-12, atol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.floats(0.2, 2), st.integers(0, 1000))
def test_many_iterations_give_every_prototype_the_same_share(rows, prototypes, epsilon, seed):
    codes = sinkhorn(made(rows, prototypes, seed=seed), epsilon=epsilon, iterations=3000)
    torch.testing.assert_close(codes.sum(1), torch.ones(rows, dtype=torch.float64), rtol=1e-12, atol=0)
    share = torch.full((prototypes,), rows / prototypes, dtype=torch.float64)
    torch.testing.assert_close(codes.sum(0), share, rtol=1e-6, atol=0)


def test_codes_at_the_ends_of_epsilon_and_under_a_shift():
    scores = made(6, 6)
    flat = sinkhorn(scores, epsilon=1e6, iterations=3)
    torch.testing.assert_close(flat, torch.full_like(flat, 1 / 6), rtol=1e-5, atol=0)
    aligned = sinkhorn(torch.eye(6, dtype=torch.float64), epsilon=0.01, iterations=3)
    torch.testing.assert_close(aligned, torch.eye(6, dtype=torch.float64))
    shifted = sinkhorn(scores + 3, epsilon=0.05, iterations=3)
    torch.testing.assert_close(shifted, sinkhorn(scores, epsilon=0.05, iterations=3), rtol=1e-10, atol=0)


def test_rows_that_are_all_one_get_the_uniform_code():
    codes = sinkhorn(made(1, 4).expand(6, 4), epsilon=0.05, iterations=3)
    torch.testing.assert_close(codes, torch.full_like(codes, 0.25), rtol=1e-12, atol=0)


@pytest.mark.parametrize("epsilon", [1e-3, 0.05])
def test_small_epsilons_stay_finite_in_float32(epsilon):
    codes = sinkhorn(made(8, 5).float(), epsilon=epsilon, iterations=3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(8))


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("queued", [0, 10])
def test_loss_and_gradient_equal_lightlys(local, queued):
    scores, queue = made(2 + local, 6, 5).requires_grad_(), made(2, queued, 5, seed=1)
    rows = torch.cat([scores[:2].detach(), queue], dim=1)
    codes = sinkhorn(rows, epsilon=0.05, iterations=3)[:, :6]
    ours = code_loss(codes, scores / 0.1)
    theirs = SwaVLoss()(list(scores[:2]), list(scores[2:]), list(queue) if queued else None)
    torch.testing.assert_close(ours, theirs.squeeze(), rtol=1e-10, atol=0)
    got = torch.autograd.grad(ours, scores)
    torch.testing.assert_close(got, torch.autograd.grad(theirs, scores), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("crops", [2, 4])
def test_value_and_gradient_equal_the_papers_loop(crops):
    scores = made(crops, 6, 5).requires_grad_()
    total, count = torch.zeros((), dtype=torch.float64), 0
    for x in range(2):
        q = reference(scores[x].detach().numpy(), 0.05, 3)
        for other in range(crops):
            if other != x:
                for n in range(6):
                    powers = torch.exp(scores[other, n] / 0.1)
                    total = total - (torch.from_numpy(q[n]) * (powers / powers.sum()).log()).sum()
                    count += 1
    loss = code_loss(sinkhorn(scores[:2], epsilon=0.05, iterations=3), scores / 0.1)
    torch.testing.assert_close(loss, total / count, rtol=1e-10, atol=0)
    got, expected = torch.autograd.grad(loss, scores), torch.autograd.grad(total / count, scores)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_gradcheck_of_predictions_with_codes_held():
    scores = made(3, 3, 4)
    codes = sinkhorn(scores[:2], epsilon=0.5, iterations=3)
    assert torch.autograd.gradcheck(lambda x: code_loss(codes, x / 0.1), (scores.requires_grad_(),))


def test_order_of_pairs_and_of_prototypes_changes_nothing():
    scores = made(3, 6, 5)

    def loss(scores: Tensor) -> Tensor:
        return code_loss(sinkhorn(scores[:2], epsilon=0.05, iterations=3), scores / 0.1)

    pairs, places = torch.tensor([5, 2, 0, 1, 4, 3]), torch.tensor([4, 1, 0, 2, 3])
    for other in (scores[:, pairs], scores[..., places], scores[[1, 0, 2]]):
        torch.testing.assert_close(loss(other), loss(scores), rtol=1e-10, atol=0)


def test_prototypes_have_unit_length_at_each_step_stand_still_and_then_move(encoder, new_views):
    method = build_method(CONFIG, encoder, 6, seed=0)
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1)
    first = method.head.directions.weight.detach().clone()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(5))
    for step in range(20):
        method.before_step(step / 20)
        now = method.head.directions.weight.detach().clone()
        torch.testing.assert_close(now.norm(dim=1), torch.ones(5))
        assert torch.allclose(now, first, rtol=0, atol=1e-6) == (step <= 2)  # what steps 0 and 1 left
        optimiser.zero_grad()
        method(new_views(seed=step)).loss.backward()
        optimiser.step()
        method.after_step(step / 20)


def projections_of(method: SwAV, views: Views) -> list[Tensor]:
    """Of both global crops, by themselves but for the batch both pass the encoder and the projector in."""
    joint = method.encoder(torch.cat([crop.pixels for crop in views.crops[:2]]))
    return list(F.normalize(method.head.layers(joint).detach(), dim=1).chunk(2))


def test_queues_fill_from_their_share_of_the_steps_on_each_with_its_crop(encoder, new_views):
    method = build_method(CONFIG, encoder, 6, seed=0)
    for step, filled in ((1, 0), (2, 0), (3, 8), (4, 16), (5, 16)):
        views = new_views(seed=step)
        method.before_step(step / 10)
        method(views)
        method.after_step(step / 10)
        assert [queue.filled for queue in method.queue] == [filled] * 2
        if filled:
            for queue, rows in zip(method.queue, projections_of(method, views), strict=True):
                first = (step - 3) * 8 % 16
                torch.testing.assert_close(queue.vectors[first : first + 8], rows)
                assert torch.equal(queue.meaning[first : first + 8], views.meaning)


def test_a_queue_takes_part_in_the_codes_once_it_is_full(encoder, new_views):
    method = build_method(CONFIG, encoder, 6, seed=0)
    scores = made(2, 8, 5).float()
    alone = sinkhorn(scores, epsilon=0.05, iterations=3)
    for step in range(2):
        assert torch.equal(method.codes(scores), alone)
        method(new_views(seed=step))
        method.after_step(0.5)
    queued = torch.stack([queue.vectors @ method.head.directions.weight.T for queue in method.queue])
    together = sinkhorn(torch.cat([scores, queued.detach()], dim=1), epsilon=0.05, iterations=3)[:, :8]
    torch.testing.assert_close(method.codes(scores), together)
    assert not torch.allclose(together, alone, rtol=0, atol=1e-3)
    assert method(new_views()).logs["same_meaning_fraction"] == pytest.approx(2 / 8)


def test_without_a_queue_there_is_none_and_nothing_of_it_is_logged(encoder, views):
    method = build_method(CONFIG.model_copy(update={"queue": 0}), encoder, 6, seed=0)
    out = method(views)
    method.after_step(0.9)
    assert not any(name.startswith("queue") for name in method.state_dict())
    assert "same_meaning_fraction" not in out.logs


def test_the_whole_step_is_the_papers_on_what_the_networks_give(encoder, new_views):
    method = build_method(CONFIG, encoder, 6, seed=0)
    for module in method.modules():  # so that crops may pass one at a time below
        if isinstance(module, torch.nn.modules.batchnorm._NormBase):
            module.eval()
    views = new_views(local=3)
    units = [F.normalize(method.head.layers(method.encoder(c.pixels)), dim=1) for c in views.crops]
    scores = [rows @ method.head.directions.weight.T for rows in units]
    expected = SwaVLoss()(scores[:2], scores[2:])
    torch.testing.assert_close(method(views).loss, expected.squeeze(), rtol=1e-4, atol=1e-5)


def test_each_size_passes_the_encoder_in_one_batch_and_all_crops_the_head(encoder, new_views):
    method, seen = SwAV(CONFIG, encoder, 6), []
    for network in (method.encoder, method.head.layers):
        network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    out = method(new_views(local=3))
    assert seen == [16, 24, 40]
    assert 1 <= out.logs["prototypes_nearest"] <= 5
    assert SwAV.joint_forward
    assert SwAV.takes_local
