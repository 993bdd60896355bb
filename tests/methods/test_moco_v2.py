"""MoCo's loss against the paper's sum and lightly; its queue, key network and sides step by step."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import Tensor

from sempairs.methods.moco_v2 import MoCoV2, MoCoV2Config, moco_loss
from sempairs.methods.sides import draw_sides

CONFIG = MoCoV2Config(hidden=8, out=5, queue=12, momentum=0.9, final_momentum=0.9)


def unit(rows: int, width: int = 4, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1)


def reference(query: Tensor, key: Tensor, queue: Tensor, temperature: float, masked=None) -> Tensor:
    """Eq. 1 of MoCo, query by query and key by key."""
    losses = []
    for i, (q, k) in enumerate(zip(query, key.detach(), strict=True)):
        q, k = q / q.dot(q).sqrt(), k / k.dot(k).sqrt()
        positive = torch.exp(q.dot(k) / temperature)
        total = positive
        for j, negative in enumerate(queue):
            if masked is None or not masked[i, j]:
                total = total + torch.exp(q.dot(negative) / temperature)
        losses.append(-torch.log(positive / total))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_equal_the_papers_loop(projections, temperature, masked):
    query, key = projections()
    queue = unit(9)
    exclude = (torch.arange(5)[:, None] + torch.arange(9)) % 3 == 0 if masked else None
    loss = moco_loss(query, key, queue, temperature=temperature, exclude=exclude)
    expected = reference(query, key, queue, temperature, exclude)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, query)
    torch.testing.assert_close(got, torch.autograd.grad(expected, query), rtol=1e-10, atol=1e-12)


def test_value_and_gradient_equal_lightlys_scale_included(projections):
    query, key = projections(batch=6, width=4)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(9, 4)).double()
    criterion.memory_bank.bank = unit(9)
    theirs = criterion(query, key.detach())
    ours = moco_loss(query, key, unit(9), temperature=0.2)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    got, expected = torch.autograd.grad(ours, query), torch.autograd.grad(theirs, query)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_gradcheck_and_no_gradient_to_keys_and_queue(projections):
    query, key = projections(batch=3, width=4)
    queue = unit(6).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: moco_loss(q, key, queue, temperature=0.5), (query,))
    moco_loss(query, key, queue, temperature=0.5).backward()
    assert key.grad is None and queue.grad is None


def test_order_of_pairs_and_queue_and_length_of_rows_change_nothing(projections):
    query, key = projections(batch=7)
    loss = moco_loss(query, key, unit(9), temperature=0.2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    again = moco_loss(3 * query[order], 0.2 * key[order], unit(9).flip(0), temperature=0.2)
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=0)


def test_limits():
    rows = torch.ones(4, 3, dtype=torch.float64)
    same = F.normalize(torch.ones(10, 3, dtype=torch.float64), dim=1)
    assert moco_loss(rows, rows, same, temperature=0.1).item() == pytest.approx(math.log(11), rel=1e-12)
    assert moco_loss(rows, rows, -same, temperature=0.05).item() == pytest.approx(0, abs=1e-12)
    everything = torch.ones(4, 10, dtype=torch.bool)
    nothing_left = moco_loss(rows, rows, same, temperature=0.1, exclude=everything)
    assert nothing_left.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        moco_loss(torch.randn(shapes[0]), torch.randn(shapes[1]), unit(4, 3).float(), temperature=0.2)


def test_a_step_by_hand_keys_join_after_the_loss_and_the_key_network_follows(encoder, views):
    method = MoCoV2(CONFIG, encoder, 6).double()
    views = type(views)(
        tuple(type(c)(c.pixels.double(), c.member, c.kind) for c in views.crops), views.pair_id, views.meaning
    )
    swap = draw_sides(views.pair_id, 0)
    assert 0 < swap.sum() < 8
    left, right = (crop.pixels for crop in views.crops)
    query, key = left.clone(), right.clone()
    query[swap], key[swap] = right[swap], left[swap]
    twin = copy.deepcopy(method)
    queries = twin.projector(twin.encoder(query))
    keys = twin.key_projector(twin.key_encoder(key))
    before = method.queue.vectors.clone()

    step = method(views)
    torch.testing.assert_close(step.loss, reference(queries, keys, before, CONFIG.temperature))
    assert torch.equal(method.queue.vectors, before)
    step.loss.backward()
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.projector.parameters()):
            parameter -= 0.5 * parameter.grad
    start = copy.deepcopy(method.key_encoder)
    method.after_step(0.3)
    torch.testing.assert_close(method.queue.vectors[:8], F.normalize(keys, dim=1).detach())
    assert torch.equal(method.queue.vectors[8:], before[8:])
    assert method.queue.meaning.tolist() == [*views.meaning.tolist(), -1, -1, -1, -1]
    for old, now, online in zip(
        start.parameters(), method.key_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * online.detach())


def test_a_step_that_was_not_finished_leaves_the_queue_alone(encoder, views, new_views):
    method = MoCoV2(CONFIG, encoder, 6)
    method(views)
    method(new_views(seed=1))
    method.after_step(0.0)
    assert method.queue.filled == 8
    method.after_step(0.0)
    assert method.queue.filled == 8


def test_symmetric_is_the_mean_of_both_directions_and_swapping_views_changes_nothing(
    encoder, views, swapped_views
):
    method = MoCoV2(CONFIG.model_copy(update={"symmetric": True}), encoder, 6).double()
    crops = tuple(type(c)(c.pixels.double(), c.member, c.kind) for c in views.crops)
    views = type(views)(crops, views.pair_id, views.meaning)
    back = swapped_views(views)
    loss = method(views).loss
    torch.testing.assert_close(method(back).loss, loss, rtol=1e-12, atol=0)
    q = [method.projector(method.encoder(crop.pixels)) for crop in crops]
    k = [method.key_projector(method.key_encoder(crop.pixels)) for crop in crops]
    queue = method.queue.vectors
    expected = (reference(q[0], k[1], queue, 0.2) + reference(q[1], k[0], queue, 0.2)) / 2
    torch.testing.assert_close(loss, expected)
    method.after_step(0.0)
    assert method.queue.pushed == 16


def test_logs_count_queued_keys_of_the_same_meaning_and_the_option_masks_them(encoder, views):
    kept = MoCoV2(CONFIG, encoder, 6)
    masked = MoCoV2(CONFIG.model_copy(update={"same_meaning_negatives": "mask"}), encoder, 6)
    assert kept(views).logs["same_meaning_negatives"] == 0
    kept.after_step(0.0)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    # meanings 0 0 1 1 2 2 3 3 lie in the queue of twelve: two of each query's own
    assert first.logs["same_meaning_negatives"].item() == 2
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(2 / 12)
    assert second.logs == first.logs
    assert second.loss < first.loss


def test_groups_normalise_queries_and_keys_over_different_images(encoder, views):
    seen = {"query": [], "key": []}
    method = MoCoV2(CONFIG.model_copy(update={"norm_groups": 4}), encoder, 6)
    for name, network in (("query", method.encoder), ("key", method.key_encoder)):
        network.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].clone()))
    step = method(views)
    assert [len(part) for part in (*seen["query"], *seen["key"])] == [2] * 8
    step.loss.backward()
    # Every image passes once; pairs that share a group of queries do not all share one of keys.
    swap = draw_sides(views.pair_id, 0)
    images = torch.where(swap[:, None, None, None], views.crops[0].pixels, views.crops[1].pixels)
    place = [int((images == key).flatten(1).all(dim=1).nonzero()) for key in torch.cat(seen["key"])]
    assert sorted(place) == list(range(8))
    assert place != list(range(8))
    # The keys in the queue stand in the order of the pairs, whatever way they went.
    method.after_step(0.0)
    assert method.queue.meaning[:8].tolist() == views.meaning.tolist()


def test_heads_have_no_normalisation_and_biases(encoder):
    layers = [type(layer).__name__ for layer in MoCoV2(CONFIG, encoder, 6).projector]
    assert layers == ["Linear", "ReLU", "Linear"]
    assert all(layer.bias is not None for layer in MoCoV2(CONFIG, encoder, 6).projector[::2])
