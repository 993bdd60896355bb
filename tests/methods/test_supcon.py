"""SupCon against Eq. 2 as a loop, and against SimCLR and lightly where it comes down to theirs."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor

from sempairs.methods.simclr import nt_xent
from sempairs.methods.supcon import SupCon, SupConConfig, positives, supcon_loss
from sempairs.views.records import Views

MEANING = [3, 1, 3, -1, 1, -1, 3]


def reference(left: Tensor, right: Tensor, meaning: list[int], temperature: float, base: float) -> Tensor:
    """Eq. 2, L_out, view by view and positive by positive, as a mean; times T / T₀."""
    views = [*left, *right]
    count, total = len(left), 2 * len(left)

    def share(i: int, j: int) -> Tensor:
        return views[i].dot(views[j]) / (views[i].dot(views[i]).sqrt() * views[j].dot(views[j]).sqrt())

    losses = []
    for i in range(total):
        others = [k for k in range(total) if k != i]
        denominator = sum(torch.exp(share(i, k) / temperature) for k in others)
        same = [
            p
            for p in others
            if p % count == i % count
            or (meaning[i % count] >= 0 and meaning[p % count] == meaning[i % count])
        ]
        logs = [torch.log(torch.exp(share(i, p) / temperature) / denominator) for p in same]
        losses.append(-sum(logs) / len(same))
    return temperature / base * torch.stack(losses).mean()


@pytest.mark.parametrize(("temperature", "base"), [(0.1, 1.0), (0.1, 0.07), (0.5, 0.5)])
def test_value_and_gradient_equal_the_papers_loop(projections, temperature, base):
    left, right = projections(batch=7)
    loss = supcon_loss(left, right, torch.tensor(MEANING), temperature=temperature, base_temperature=base)
    expected = reference(left, right, MEANING, temperature, base)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(expected, [left, right]), rtol=1e-9, atol=1e-12)


def supcon(left: Tensor, right: Tensor, meaning: Tensor, temperature: float = 0.2) -> Tensor:
    return supcon_loss(left, right, meaning, temperature=temperature, base_temperature=temperature)


@pytest.mark.parametrize("meaning", [torch.arange(9), torch.full((9,), -1)])
def test_without_shared_meanings_it_is_simclrs_loss_and_lightlys(projections, meaning):
    left, right = projections(batch=9, width=7)
    ours = supcon(left, right, meaning)
    for theirs in (nt_xent(left, right, temperature=0.2), NTXentLoss(temperature=0.2)(left, right)):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        got = torch.autograd.grad(ours, [left, right], retain_graph=True)
        torch.testing.assert_close(got, torch.autograd.grad(theirs, [left, right]), rtol=1e-10, atol=1e-12)


def test_gradcheck(projections):
    left, right = projections(batch=3, width=3)
    meaning = torch.tensor([0, 0, 1])
    assert torch.autograd.gradcheck(lambda a, b: supcon(a, b, meaning, 0.5), (left, right))


def test_swapping_views_reordering_pairs_renaming_meanings_and_length_change_nothing(projections):
    left, right = projections(batch=7)
    meaning = torch.tensor(MEANING)
    loss = supcon(left, right, meaning)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    renamed = torch.where(meaning >= 0, 10 - meaning, meaning)
    for again in (
        supcon(right, left, meaning),
        supcon(left[order], right[order], meaning[order]),
        supcon(left, right, renamed),
        supcon(100 * left, right / 3, meaning),
    ):
        torch.testing.assert_close(again, loss, rtol=1e-12, atol=0)


def test_the_factor_keeps_the_gradients_scale_and_temperature_alone_does_not(projections):
    left, right = projections(batch=5)
    meaning = torch.arange(5)
    one = supcon_loss(left, right, meaning, temperature=0.1, base_temperature=1.0)
    other = supcon_loss(left, right, meaning, temperature=0.1, base_temperature=0.1)
    torch.testing.assert_close(10 * one, other, rtol=1e-12, atol=0)


def test_collapse_gives_the_log_of_the_number_of_candidates():
    rows = torch.ones(6, 4, dtype=torch.float64)
    loss = supcon(rows, rows, torch.arange(6) // 2)
    assert loss.item() == pytest.approx(math.log(2 * 6 - 1), rel=1e-12)


def test_classes_on_orthogonal_points_reach_the_papers_lower_bound():
    """Three pairs of each of two meanings, a point each: log of |P| + |N| exp(−1/T), the least L_out here."""
    rows = torch.eye(2, dtype=torch.float64).repeat_interleave(3, dim=0)
    expected = math.log(5 + 6 * math.exp(-1 / 0.5))
    assert supcon(rows, rows, torch.arange(6) // 3, 0.5).item() == pytest.approx(expected, rel=1e-12)


def test_positives_in_a_case_done_by_hand():
    # views are 0 1 2 3 | 0 1 2 3; pairs 0 and 2 share a meaning, pairs 1 and 3 have none known
    expected = torch.zeros(8, 8, dtype=torch.bool)
    for view, others in {0: (2, 4, 6), 4: (0, 2, 6), 2: (0, 4, 6), 6: (0, 2, 4)}.items():
        expected[view, list(others)] = True
    for view in (1, 3, 5, 7):
        expected[view, (view + 4) % 8] = True
    assert torch.equal(positives(torch.tensor([5, -1, 5, -1])), expected)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        supcon(torch.randn(shapes[0]), torch.randn(shapes[1]), torch.zeros(4, dtype=torch.long))


def test_method_counts_positives_and_passes_both_views_in_one_batch(encoder, views):
    method = SupCon(SupConConfig(hidden=8, out=4), encoder, 6)
    seen = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[0]))
    step = method(views)
    assert seen == [16]
    assert step.logs["positives"].item() == 3  # meanings 0 0 1 1 2 2 3 3: partner, and two views of one other
    alone = method(Views(views.crops, views.pair_id, torch.arange(8)))
    assert alone.logs["positives"].item() == 1
    assert alone.loss != step.loss
