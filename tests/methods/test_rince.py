"""RINCE against the paper's formula as a loop, its limits in q and λ, and how it weighs false pairs."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor

from sempairs.methods.rince import RINCE, RINCEConfig, rince_loss
from sempairs.methods.simclr import nt_xent, same_meaning


def reference(left: Tensor, right: Tensor, temperature: float, q: float, lam: float, meaning=None) -> Tensor:
    """The paper's loss, view by view and negative by negative."""
    views = [row / row.dot(row).sqrt() for row in (*left, *right)]
    count, total = len(left), 2 * len(left)
    losses = []
    for i in range(total):
        j = (i + count) % total
        positive = torch.exp(views[i].dot(views[j]) / temperature)
        whole = positive
        for k in range(total):
            if k in (i, j) or (meaning and meaning[k % count] == meaning[i % count]):
                continue
            whole = whole + torch.exp(views[i].dot(views[k]) / temperature)
        losses.append(-(positive**q) / q + (lam * whole) ** q / q)
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("temperature", "q", "lam"), [(0.1, 0.1, 0.01), (0.5, 0.5, 0.001), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("meaning", [None, [0, 1, 0, 2, 1], [0, 0, 0, 0, 0]])
def test_value_and_gradient_equal_the_papers_loop(projections, temperature, q, lam, meaning):
    left, right = projections()
    exclude = same_meaning(torch.tensor(meaning)) if meaning else None
    loss = rince_loss(left, right, temperature=temperature, q=q, lam=lam, exclude=exclude)
    expected = reference(left, right, temperature, q, lam, meaning)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(expected, [left, right]), rtol=1e-10, atol=1e-11)


def test_small_q_gives_infonce_as_lightly_has_it_plus_the_logarithm_of_lambda(projections):
    left, right = projections()
    loss = rince_loss(left, right, temperature=0.5, q=1e-7, lam=0.01)
    theirs = NTXentLoss(temperature=0.5)(left, right)
    torch.testing.assert_close(loss, theirs + math.log(0.01), rtol=0, atol=1e-5)
    got = torch.autograd.grad(loss, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(theirs, [left, right]), rtol=1e-5, atol=1e-6)


def test_small_lambda_leaves_the_positives_alone(projections):
    left, right = projections()
    cosines = torch.nn.functional.cosine_similarity(left, right)
    expected = -((0.5 * cosines / 0.2).exp() / 0.5).mean()
    loss = rince_loss(left, right, temperature=0.2, q=0.5, lam=1e-30)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)


def test_a_false_pair_has_less_of_the_gradient_than_in_infonce(projections):
    """The point of the loss: pairs that disagree do not dominate."""
    rows = torch.eye(6, dtype=torch.float64)[:5]
    left = rows.clone().requires_grad_()
    right = rows + 0.3 * torch.eye(6, dtype=torch.float64)[5]
    right[0] = torch.eye(6, dtype=torch.float64)[5] - 0.5 * rows[0]  # against its anchor

    def share(loss: Tensor) -> float:
        (gradient,) = torch.autograd.grad(loss, left)
        return float(gradient[0].norm() / gradient.norm(dim=1).sum())

    robust = share(rince_loss(left, right, temperature=0.5, q=1.0, lam=0.01))
    plain = share(nt_xent(left, right, temperature=0.5))
    assert robust < plain / 2


def test_gradcheck(projections):
    left, right = projections(batch=3, width=3)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return rince_loss(a, b, temperature=0.5, q=0.5, lam=0.1)

    assert torch.autograd.gradcheck(loss, (left, right))


def test_swapping_views_reordering_pairs_and_length_of_rows_change_nothing(projections):
    left, right = projections(batch=7)
    settings = {"temperature": 0.2, "q": 0.3, "lam": 0.05}
    loss = rince_loss(left, right, **settings)
    torch.testing.assert_close(rince_loss(3 * right, left, **settings), loss, rtol=1e-12, atol=0)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rince_loss(left[order], right[order], **settings), loss, rtol=1e-12, atol=0)


def test_collapse_has_its_closed_form():
    rows = torch.ones(6, 4, dtype=torch.float64)
    expected = (-math.exp(0.5 / 0.2) + (0.01 * 11 * math.exp(1 / 0.2)) ** 0.5) / 0.5
    got = rince_loss(rows, rows, temperature=0.2, q=0.5, lam=0.01).item()
    assert got == pytest.approx(expected, rel=1e-12)


def test_exponentials_beyond_float32_stay_finite():
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    left, right = rows.clone().requires_grad_(), rows + 0.01
    loss = rince_loss(left, right, temperature=0.01, q=0.1, lam=0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(left.grad).all()


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        rince_loss(torch.randn(shapes[0]), torch.randn(shapes[1]), temperature=0.2, q=0.5, lam=0.01)


@pytest.mark.parametrize(
    ("field", "value"), [("q", 0), ("q", 1.1), ("lam", 0), ("lam", 2), ("temperature", 0)]
)
def test_settings_outside_their_range_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        RINCEConfig(**{field: value})


def test_logs_count_same_meaning_negatives_and_the_option_masks_them(encoder, views):
    kept = RINCE(RINCEConfig(hidden=8, out=4), encoder, 6)
    masked = RINCE(RINCEConfig(hidden=8, out=4, same_meaning_negatives="mask"), encoder, 6)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    assert first.logs["same_meaning_negatives"].item() == 2
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(2 / 14)
    assert second.logs == first.logs
    assert second.loss < first.loss
    assert RINCE.joint_forward
