"""DCL and DCLW against the paper's Eq. 6 as a loop and against lightly; limits, and what holds it apart."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from lightly.loss import DCLLoss, DCLWLoss
from torch import Tensor

from sempairs.methods.dcl import DCL, DCLConfig, dcl_loss
from sempairs.methods.simclr import nt_xent, same_meaning


def reference(left: Tensor, right: Tensor, temperature: float, sigma=None, meaning=None) -> Tensor:
    """Eq. 6, view by view and negative by negative, as a mean."""
    views = [row / row.dot(row).sqrt() for row in (*left, *right)]
    count, total = len(left), 2 * len(left)
    density = [math.exp(views[i].dot(views[i + count]).item() / (sigma or 1)) for i in range(count)]
    losses = []
    for i in range(total):
        j = (i + count) % total
        weight = 1 if sigma is None else 2 - density[i % count] / (sum(density) / count)
        others = torch.zeros((), dtype=torch.float64)
        for k in range(total):
            if k in (i, j) or (meaning and meaning[k % count] == meaning[i % count]):
                continue
            others = others + torch.exp(views[i].dot(views[k]) / temperature)
        second = torch.log(others) if others > 0 else 0
        losses.append(-weight * views[i].dot(views[j]) / temperature + second)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("meaning", [None, [0, 1, 0, 2, 1], [0, 0, 0, 0, 0]])
def test_value_and_gradient_equal_the_papers_loop(projections, temperature, sigma, meaning):
    left, right = projections()
    exclude = same_meaning(torch.tensor(meaning)) if meaning else None
    loss = dcl_loss(left, right, temperature=temperature, sigma=sigma, exclude=exclude)
    expected = reference(left, right, temperature, sigma, meaning)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(expected, [left, right]), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_value_and_gradient_equal_lightlys_scale_included(projections, sigma):
    left, right = projections(batch=9, width=7)
    criterion = DCLLoss(temperature=0.1) if sigma is None else DCLWLoss(temperature=0.1, sigma=sigma)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it copies a tensor in a way that torch warns of
        theirs = criterion(left, right)
    ours = dcl_loss(left, right, temperature=0.1, sigma=sigma)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(ours, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(theirs, [left, right]), rtol=1e-10, atol=1e-12)


def test_gradcheck(projections):
    left, right = projections(batch=3, width=3)
    exclude = same_meaning(torch.tensor([0, 0, 0]))
    assert torch.autograd.gradcheck(lambda a, b: dcl_loss(a, b, temperature=0.5), (left, right))
    alone = torch.autograd.gradcheck(
        lambda a, b: dcl_loss(a, b, temperature=0.5, exclude=exclude), (left, right)
    )
    assert alone


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_swapping_views_reordering_pairs_and_length_of_rows_change_nothing(projections, sigma):
    left, right = projections(batch=7)
    loss = dcl_loss(left, right, temperature=0.2, sigma=sigma)
    again = dcl_loss(3 * right, left, temperature=0.2, sigma=sigma)
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=0)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    again = dcl_loss(left[order], right[order], temperature=0.2, sigma=sigma)
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=0)


def test_limits_of_collapse_and_of_perfect_alignment():
    rows = torch.ones(6, 4, dtype=torch.float64)
    expected = math.log(2 * 6 - 2)
    assert dcl_loss(rows, rows, temperature=0.1).item() == pytest.approx(expected, rel=1e-12)
    # All pairs alike: the density is everywhere its mean, so that every weight is one.
    assert dcl_loss(rows, rows, temperature=0.1, sigma=0.5).item() == pytest.approx(expected, rel=1e-12)
    eye = torch.eye(4, dtype=torch.float64)
    assert dcl_loss(eye, eye, temperature=0.5).item() == pytest.approx(math.log(6) - 1 / 0.5, rel=1e-12)


def test_simclrs_loss_is_larger_by_the_positives_part_in_its_sum(projections):
    left, right = projections()
    # log(e^p + S) − p = softplus(log S − p) ≥ log S − p
    assert nt_xent(left, right, temperature=0.2) > dcl_loss(left, right, temperature=0.2)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        dcl_loss(torch.randn(shapes[0]), torch.randn(shapes[1]), temperature=0.2)


def test_logs_count_same_meaning_negatives_and_the_option_masks_them(encoder, views):
    kept = DCL(DCLConfig(hidden=8, out=4), encoder, 6)
    masked = DCL(DCLConfig(hidden=8, out=4, same_meaning_negatives="mask"), encoder, 6)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    assert first.logs["same_meaning_negatives"].item() == 2
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(2 / 14)
    assert second.logs == first.logs
    assert second.loss < first.loss


def test_the_weight_changes_the_loss_of_a_step(encoder, views):
    plain = DCL(DCLConfig(hidden=8, out=4), encoder, 6)
    weighed = DCL(DCLConfig(hidden=8, out=4, sigma=0.5), encoder, 6)
    weighed.load_state_dict(plain.state_dict())
    assert plain(views).loss != weighed(views).loss
    assert DCL.joint_forward
