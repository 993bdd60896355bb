"""NT-Xent against the paper's Eq. 1 as a loop, against lightly, and its limits and masks."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor

from sempairs.methods.simclr import SimCLR, SimCLRConfig, nt_xent, same_meaning


def reference(left: Tensor, right: Tensor, temperature: float, meaning: list[int] | None = None) -> Tensor:
    """Eq. 1, view by view and negative by negative."""
    views = [*left, *right]
    count, total = len(left), 2 * len(left)

    def similarity(i: int, k: int) -> Tensor:
        return views[i].dot(views[k]) / (views[i].dot(views[i]).sqrt() * views[k].dot(views[k]).sqrt())

    losses = []
    for i in range(total):
        j = (i + count) % total
        denominator = torch.zeros((), dtype=torch.float64)
        for k in range(total):
            if k == i or (meaning and k != j and meaning[k % count] == meaning[i % count]):
                continue
            denominator = denominator + torch.exp(similarity(i, k) / temperature)
        losses.append(-torch.log(torch.exp(similarity(i, j) / temperature) / denominator))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_value_and_gradient_equal_the_papers_loop(projections, temperature):
    left, right = projections()
    loss = nt_xent(left, right, temperature=temperature)
    expected = reference(left, right, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(expected, [left, right]), rtol=1e-10, atol=1e-12)


def test_value_and_gradient_equal_lightlys_scale_included(projections):
    left, right = projections(batch=9, width=7)
    ours = nt_xent(left, right, temperature=0.3)
    theirs = NTXentLoss(temperature=0.3)(left, right)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(ours, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(theirs, [left, right]), rtol=1e-10, atol=1e-12)


def test_masked_value_and_gradient_equal_the_papers_loop_without_those_negatives(projections):
    left, right = projections(batch=6)
    meaning = [3, 1, 3, 2, 1, 3]
    loss = nt_xent(left, right, temperature=0.2, exclude=same_meaning(torch.tensor(meaning)))
    expected = reference(left, right, 0.2, meaning)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, [left, right])
    torch.testing.assert_close(got, torch.autograd.grad(expected, [left, right]), rtol=1e-10, atol=1e-12)


def test_gradcheck(projections):
    left, right = projections(batch=3, width=3)
    exclude = same_meaning(torch.tensor([0, 0, 1]))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.5), (left, right))
    assert torch.autograd.gradcheck(
        lambda a, b: nt_xent(a, b, temperature=0.5, exclude=exclude), (left, right)
    )


def test_swapping_views_and_reordering_pairs_change_nothing(projections):
    left, right = projections(batch=7)
    loss = nt_xent(left, right, temperature=0.2)
    torch.testing.assert_close(nt_xent(right, left, temperature=0.2), loss, rtol=1e-12, atol=0)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(nt_xent(left[order], right[order], temperature=0.2), loss, rtol=1e-12, atol=0)


def test_length_of_rows_does_not_matter(projections):
    left, right = projections()
    scaled = nt_xent(left * 100, right * torch.rand(5, 1, dtype=torch.float64).add(0.1), temperature=0.2)
    torch.testing.assert_close(scaled, nt_xent(left, right, temperature=0.2), rtol=1e-12, atol=0)


def test_collapse_gives_the_log_of_the_number_of_candidates():
    rows = torch.ones(6, 4, dtype=torch.float64)
    assert nt_xent(rows, rows, temperature=0.1).item() == pytest.approx(math.log(2 * 6 - 1), rel=1e-12)


def test_perfect_alignment_of_orthogonal_pairs_has_its_closed_form():
    rows = torch.eye(4, dtype=torch.float64)
    expected = math.log(math.exp(1 / 0.5) + 6) - 1 / 0.5
    assert nt_xent(rows, rows, temperature=0.5).item() == pytest.approx(expected, rel=1e-12)
    assert nt_xent(rows, rows, temperature=0.01).item() == pytest.approx(0, abs=1e-12)


def test_same_meaning_marks_negatives_only_in_a_case_done_by_hand():
    # pairs 0 and 2 share a meaning, pairs 1 and 3 have none known; views are 0 1 2 3 | 0 1 2 3
    expected = torch.zeros(8, 8, dtype=torch.bool)
    for view, others in {0: (2, 6), 4: (2, 6), 2: (0, 4), 6: (0, 4)}.items():
        expected[view, list(others)] = True
    assert torch.equal(same_meaning(torch.tensor([5, -1, 5, -1])), expected)


def test_when_all_share_one_meaning_masking_leaves_no_negatives_and_no_loss(projections):
    left, right = projections()
    exclude = same_meaning(torch.zeros(5, dtype=torch.long))
    assert nt_xent(left, right, temperature=0.2, exclude=exclude).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        nt_xent(torch.randn(shapes[0]), torch.randn(shapes[1]), temperature=0.2)


def test_logs_count_same_meaning_negatives_and_the_option_masks_them(encoder, views):
    kept = SimCLR(SimCLRConfig(hidden=8, out=4), encoder, 6)
    masked = SimCLR(SimCLRConfig(hidden=8, out=4, same_meaning_negatives="mask"), encoder, 6)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    # meanings 0 0 1 1 2 2 3 3: each view shares its own with both views of one other pair, of 14 negatives
    assert first.logs["same_meaning_negatives"].item() == 2
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(2 / 14)
    assert second.logs == first.logs
    assert second.loss < first.loss


def test_both_views_pass_the_encoder_in_one_batch(encoder, views):
    seen = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[0]))
    SimCLR(SimCLRConfig(hidden=8, out=4), encoder, 6)(views)
    assert seen == [16]
    assert SimCLR.joint_forward
