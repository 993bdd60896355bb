"""VICReg's terms against loops over the paper's formulas and against lightly."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import VICRegLoss
from torch import Tensor

from sempairs.methods.vicreg import EPSILON, VICReg, VICRegConfig, vicreg_terms


def reference(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 1 to 5 entry by entry, with the scale of the paper's code."""
    n, d = left.shape
    zero = torch.zeros((), dtype=torch.float64)
    invariance, variance, covariance = zero, zero, zero
    for b in range(n):
        for j in range(d):
            invariance = invariance + (left[b, j] - right[b, j]) ** 2 / (n * d)
    for rows in (left, right):
        means = [sum(rows[b, j] for b in range(n)) / n for j in range(d)]
        for i in range(d):
            spread = sum((rows[b, i] - means[i]) ** 2 for b in range(n)) / (n - 1)
            variance = variance + torch.clamp(1 - torch.sqrt(spread + EPSILON), min=0) / d / 2
            for j in range(d):
                if i != j:
                    shared = sum((rows[b, i] - means[i]) * (rows[b, j] - means[j]) for b in range(n))
                    covariance = covariance + (shared / (n - 1)) ** 2 / d
    return invariance, variance, covariance


def total(terms: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return 25 * terms[0] + 25 * terms[1] + terms[2]


def test_each_term_and_gradient_equals_the_papers_loop(projections):
    left, right = projections()
    for got, expected in zip(vicreg_terms(left, right), reference(left, right), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
        ours = torch.autograd.grad(got, [left, right], retain_graph=True, allow_unused=True)
        theirs = torch.autograd.grad(expected, [left, right], retain_graph=True, allow_unused=True)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_value_and_gradient_equal_lightlys_scale_included(projections):
    left, right = projections(batch=9, width=7)
    ours, theirs = total(vicreg_terms(left, right)), VICRegLoss()(left, right)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(ours, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(theirs, [left, right]), rtol=1e-10, atol=1e-12)


def test_gradcheck(projections):
    left, right = projections(batch=4, width=3)
    assert torch.autograd.gradcheck(lambda a, b: total(vicreg_terms(a, b)), (left, right))


def test_swapping_views_and_reordering_pairs_change_nothing(projections):
    left, right = projections(batch=7)
    loss = total(vicreg_terms(left, right))
    torch.testing.assert_close(total(vicreg_terms(right, left)), loss, rtol=1e-12, atol=0)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(total(vicreg_terms(left[order], right[order])), loss, rtol=1e-12, atol=0)


def test_collapse_costs_the_whole_variance_term_and_nothing_else():
    rows = torch.full((6, 4), 0.3, dtype=torch.float64)
    terms = vicreg_terms(rows, rows)
    assert terms.invariance.item() == 0
    assert terms.variance.item() == pytest.approx(1 - EPSILON**0.5, rel=1e-12)
    assert terms.covariance.item() == pytest.approx(0, abs=1e-12)


def test_aligned_spread_and_uncorrelated_rows_cost_nothing():
    rows = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert [term.item() for term in vicreg_terms(rows, rows)] == [0, 0, 0]


def test_a_covariance_done_by_hand():
    # Columns equal, variance 4/3 with n - 1: two off-diagonal entries of (4/3)² over D = 2, in two branches.
    rows = torch.tensor([[1.0, 1], [1, 1], [-1, -1], [-1, -1]], dtype=torch.float64)
    assert vicreg_terms(rows, rows).covariance.item() == pytest.approx(2 * (4 / 3) ** 2, rel=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        vicreg_terms(torch.randn(shapes[0]), torch.randn(shapes[1]))


def test_loss_weighs_the_logged_terms_and_each_view_passes_by_itself(encoder, views):
    method = VICReg(VICRegConfig(hidden=8, out=5, invariance=3, variance=5, covariance=7), encoder, 6)
    seen = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    step = method(views)
    logs = step.logs
    weighed = 3 * logs["invariance"] + 5 * logs["variance"] + 7 * logs["covariance"]
    torch.testing.assert_close(step.loss.detach(), weighed)
    assert seen == [8, 8]
