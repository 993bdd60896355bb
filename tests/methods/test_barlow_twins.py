"""Barlow Twins' terms against loops over the paper's formulas and against lightly."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from torch import Tensor

from sempairs.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig, barlow_terms
from sempairs.methods.base import ParamRule

LAMBDA = 0.0051


def reference(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 1 and 2 entry by entry, columns normalised as the paper's code does."""
    n, d = left.shape

    def normalised(rows: Tensor) -> list[list[Tensor]]:
        columns = []
        for j in range(d):
            mean = sum(rows[b, j] for b in range(n)) / n
            variance = sum((rows[b, j] - mean) ** 2 for b in range(n)) / n
            columns.append([(rows[b, j] - mean) / torch.sqrt(variance + 1e-5) for b in range(n)])
        return columns

    z_left, z_right = normalised(left), normalised(right)
    on, off = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for i in range(d):
        for j in range(d):
            c = sum(a * b for a, b in zip(z_left[i], z_right[j], strict=True)) / n
            if i == j:
                on = on + (1 - c) ** 2
            else:
                off = off + c**2
    return on, off


def total(terms: tuple[Tensor, Tensor]) -> Tensor:
    return terms[0] + LAMBDA * terms[1]


def test_each_term_and_gradient_equals_the_papers_loop(projections):
    left, right = projections(batch=6, width=4)
    for got, expected in zip(barlow_terms(left, right), reference(left, right), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)
        ours = torch.autograd.grad(got, [left, right], retain_graph=True)
        theirs = torch.autograd.grad(expected, [left, right], retain_graph=True)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_value_and_gradient_equal_lightlys_scale_included(projections):
    left, right = projections(batch=9, width=7)
    ours, theirs = total(barlow_terms(left, right)), BarlowTwinsLoss(lambda_param=LAMBDA)(left, right)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    got = torch.autograd.grad(ours, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(theirs, [left, right]), rtol=1e-9, atol=1e-12)


def test_gradcheck(projections):
    left, right = projections(batch=4, width=3)
    assert torch.autograd.gradcheck(lambda a, b: total(barlow_terms(a, b)), (left, right))


def test_swapping_views_and_reordering_pairs_and_shifting_columns_change_nothing(projections):
    left, right = projections(batch=7)
    loss = total(barlow_terms(left, right))
    torch.testing.assert_close(total(barlow_terms(right, left)), loss, rtol=1e-11, atol=0)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(total(barlow_terms(left[order], right[order])), loss, rtol=1e-11, atol=0)
    torch.testing.assert_close(total(barlow_terms(left + 3, right - 2)), loss, rtol=1e-10, atol=0)


def test_aligned_and_uncorrelated_columns_cost_nothing():
    rows = 10 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert [term.item() for term in barlow_terms(rows, rows)] == pytest.approx([0, 0], abs=1e-12)


def test_collapse_costs_the_whole_diagonal_and_equal_columns_all_off_it():
    constant = torch.full((6, 4), 0.3, dtype=torch.float64)
    assert [t.item() for t in barlow_terms(constant, constant)] == pytest.approx([4, 0], abs=1e-12)
    # One column four times: every entry of the correlation is 1, but for ε beside a variance of 2500.
    column = torch.tensor([50.0, -50, 50, -50], dtype=torch.float64)[:, None].expand(4, 4)
    assert [t.item() for t in barlow_terms(column, column)] == pytest.approx([0, 12], abs=1e-6)
    assert barlow_terms(column, -column).on_diagonal.item() == pytest.approx(16, abs=1e-6)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        barlow_terms(torch.randn(shapes[0]), torch.randn(shapes[1]))


def test_loss_weighs_and_scales_the_logged_terms_and_each_view_passes_by_itself(
    encoder, views, swapped_views
):
    method = BarlowTwins(BarlowTwinsConfig(hidden=8, out=5, off_diagonal=0.3, scale=0.1), encoder, 6)
    seen = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    step = method(views)
    weighed = 0.1 * (step.logs["on_diagonal"] + 0.3 * step.logs["off_diagonal"])
    torch.testing.assert_close(step.loss.detach(), weighed)
    assert seen == [8, 8]
    swapped = method(swapped_views(views))
    torch.testing.assert_close(swapped.loss, step.loss, rtol=1e-4, atol=0)


def test_biases_and_norms_have_a_rate_of_their_own(encoder):
    config = BarlowTwins.presets["imagenet-r50"].config.model_copy(update={"hidden": 8, "out": 5})
    method = BarlowTwins(config, encoder, 6)
    rules = {group.rule: group.parameters for group in method.param_groups()}
    assert rules.keys() == {ParamRule(), ParamRule(lr_scale=0.0048 / 0.2)}
    assert all(p.ndim == 1 for _, p in rules[ParamRule(lr_scale=0.0048 / 0.2)])
    assert all(p.ndim > 1 for _, p in rules[ParamRule()])
