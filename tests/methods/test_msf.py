"""Mean shift against a loop over the paper's code, BYOL's loss for one neighbour; its queue and target."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from sempairs.errors import UserError
from sempairs.methods.byol import byol_loss
from sempairs.methods.msf import MSF, MSFConfig, Shift, mean_shift
from sempairs.methods.sides import draw_sides, on_sides
from sempairs.views.records import Crop, Views

CONFIG = MSFConfig(hidden=8, out=5, predictor_hidden=7, momentum=0.9, queue=32, neighbours=3)


def reference(
    prediction: Tensor, target: Tensor, queue: Tensor, filled: list[bool], neighbours: int
) -> tuple[Tensor, list[list[int]]]:
    """Row by row: squared distances to every filled place, the nearest to the target, their mean to q."""
    losses, nearest = [], []
    for q, u in zip(prediction, target.detach(), strict=True):
        q, u = q / q.dot(q).sqrt(), u / u.dot(u).sqrt()
        distance = {m: ((u - queue[m]) ** 2).sum().item() for m in range(len(queue)) if filled[m]}
        chosen = sorted(distance, key=distance.__getitem__)[:neighbours]
        losses.append(sum(((q - queue[m]) ** 2).sum() for m in chosen) / len(chosen))
        nearest.append(chosen)
    return torch.stack(losses).mean(), nearest


def made_queue(target: Tensor, size: int = 12) -> tuple[Tensor, Tensor]:
    """Unit vectors (size, D), the targets first, the last three places not filled."""
    generator = torch.Generator().manual_seed(9)
    more = torch.randn(size - len(target), target.shape[1], generator=generator, dtype=torch.float64)
    return F.normalize(torch.cat([target.detach(), more]), dim=1), torch.arange(size) < size - 3


def shift(prediction: Tensor, target: Tensor, neighbours: int = 3) -> Shift:
    queue, filled = made_queue(target)
    return mean_shift(prediction, target, queue, filled=filled, neighbours=neighbours)


@pytest.mark.parametrize("neighbours", [1, 3, 9])
def test_value_gradient_and_neighbours_equal_the_loop(projections, neighbours):
    prediction, target = projections(batch=5)
    queue, filled = made_queue(target)
    got = mean_shift(prediction, target, queue, filled=filled, neighbours=neighbours)
    expected, nearest = reference(prediction, target, queue, filled.tolist(), neighbours)
    torch.testing.assert_close(got.loss, expected, rtol=1e-12, atol=1e-12)
    assert got.nearest.tolist() == nearest
    assert got.nearest[:, 0].tolist() == list(range(5))  # a target is its own nearest
    ours = torch.autograd.grad(got.loss, prediction)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, prediction), rtol=1e-10, atol=1e-12)


def test_one_neighbour_is_one_direction_of_byols_loss(projections):
    prediction, target = projections(batch=6)
    loss, expected = shift(prediction, target, 1).loss, byol_loss(prediction, target)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, prediction)
    torch.testing.assert_close(got, torch.autograd.grad(expected, prediction), rtol=1e-10, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_target(projections):
    prediction, target = projections(batch=3, width=3)
    assert torch.autograd.gradcheck(lambda p: shift(p, target).loss, (prediction,))
    shift(prediction, target).loss.backward()
    assert target.grad is None


def test_reordering_pairs_and_length_of_rows_change_nothing(projections):
    prediction, target = projections(batch=7)
    loss = shift(prediction, target).loss
    queue, filled = made_queue(target)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    again = mean_shift(prediction[order], 3 * target[order], queue, filled=filled, neighbours=3)
    torch.testing.assert_close(again.loss, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(shift(9 * prediction, target).loss, loss, rtol=1e-12, atol=0)


def test_fewer_filled_places_than_neighbours_give_the_mean_over_those(projections):
    prediction, target = projections(batch=2)
    queue, _ = made_queue(target)
    filled = torch.arange(12) < 2
    got = mean_shift(prediction, target, queue, filled=filled, neighbours=5)
    expected, _ = reference(prediction, target, queue, filled.tolist(), 5)
    torch.testing.assert_close(got.loss, expected, rtol=1e-12, atol=1e-12)
    assert got.found.sum(dim=1).tolist() == [2, 2]


def test_all_on_one_point_costs_nothing_and_all_opposed_costs_four():
    rows = torch.ones(4, 3, dtype=torch.float64)
    queue, filled = F.normalize(rows, dim=1), torch.ones(4, dtype=torch.bool)
    for sign, expected in ((1, 0), (-1, 4)):
        got = mean_shift(sign * rows, rows, queue, filled=filled, neighbours=2)
        assert got.loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    filled = torch.ones(6, dtype=torch.bool)
    with pytest.raises(ValueError):
        mean_shift(torch.randn(shapes[0]), torch.randn(shapes[1]), torch.eye(6), filled=filled, neighbours=1)


def test_more_neighbours_than_the_queue_holds_are_refused():
    with pytest.raises(ValidationError, match="neighbours must be at most the queue, 4, got 5"):
        MSFConfig(queue=4, neighbours=5)


def test_steps_of_the_method_equal_the_papers_code_written_out(encoder, new_views):
    """Three steps: targets join the queue before it is searched, sides follow the coin, purity is counted."""
    method = MSF(CONFIG, encoder, 6).double()
    queue: list[Tensor] = []
    meanings: list[int] = []
    for number in range(3):
        views = new_views(seed=number)
        crops = tuple(Crop(c.pixels.double(), c.member, c.kind) for c in views.crops)
        views = Views(crops, views.pair_id, views.meaning)
        swap = draw_sides(views.pair_id, len(queue))
        assert 0 < swap.sum() < 8
        query, other = on_sides(crops[0].pixels, crops[1].pixels, swap)
        twin = copy.deepcopy(method)  # the forward passes move its running statistics
        prediction = twin.predictor(twin.projector(twin.encoder(query)))
        target = twin.target_projector(twin.target_encoder(other))
        queue += [row / row.dot(row).sqrt() for row in target]
        meanings += views.meaning.tolist()
        step = method(views)
        expected, nearest = reference(prediction, target, torch.stack(queue), [True] * len(queue), 3)
        torch.testing.assert_close(step.loss, expected, rtol=1e-11, atol=1e-12)
        same = torch.tensor(
            [[meanings[m] == own for m in row] for row, own in zip(nearest, meanings[-8:], strict=True)]
        )
        assert step.logs["neighbour_purity"].item() == pytest.approx(same.double().mean().item(), rel=1e-6)
        assert step.logs["other_purity"].item() == pytest.approx(same[:, 1:].double().mean().item(), rel=1e-6)
        assert step.logs["other_purity"] <= step.logs["neighbour_purity"]
        method.zero_grad()
        step.loss.backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        method.after_step(number / 3)


def test_targets_follow_with_constant_momentum_and_take_no_gradient(encoder, views):
    method = MSF(CONFIG, encoder, 6)
    assert not any(p.requires_grad for n, p in method.named_parameters() if n.startswith("target_"))
    targets = (method.target_encoder, method.target_projector)
    start = [copy.deepcopy(target.state_dict()) for target in targets]
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.projector.parameters()):
            parameter += 1
    method.after_step(0.9)
    for target, before in zip(targets, start, strict=True):
        for name, value in target.named_parameters():
            torch.testing.assert_close(value, before[name] + 0.1)


def test_unknown_meanings_are_never_pure(encoder, views):
    method = MSF(CONFIG, encoder, 6)
    step = method(Views(views.crops, views.pair_id, torch.full((8,), -1)))
    assert step.logs["neighbour_purity"].item() == 0


def test_which_member_is_the_query_changes_from_step_to_step(encoder, views):
    method = MSF(CONFIG, encoder, 6)
    seen = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    for _ in range(2):
        method(views)
        method.after_step(0.0)
    from_left = [torch.isclose(q, views.crops[0].pixels).flatten(1).all(1).tolist() for q in seen]
    assert from_left[0] != from_left[1]
    assert all(0 < sum(rows) < 8 for rows in from_left)


def test_a_queue_smaller_than_the_batch_is_refused(encoder, views):
    method = MSF(CONFIG.model_copy(update={"queue": 7}), encoder, 6)
    with pytest.raises(UserError, match=r"^method.queue must hold a batch, 8, got 7"):
        method(views)
    MSF(CONFIG.model_copy(update={"queue": 8}), encoder, 6)(views)
