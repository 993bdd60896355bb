"""NNCLR's loss against the paper's Eq. 3 as a loop, its neighbours against a loop and lightly, its queue."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules import NNMemoryBankModule
from torch import Tensor

from sempairs.methods.nnclr import NNCLR, NNCLRConfig, nearest, nnclr_loss
from sempairs.methods.sides import draw_sides

CONFIG = NNCLRConfig(hidden=8, out=5, predictor_hidden=7, queue=12)


def reference(neighbour: Tensor, prediction: Tensor, temperature: float, meaning=None) -> Tensor:
    """Eq. 3 with predictions, pair by pair."""
    near = [row / row.dot(row).sqrt() for row in neighbour.detach()]
    unit = [row / row.dot(row).sqrt() for row in prediction]
    losses = []
    for i, n in enumerate(near):
        total = torch.zeros((), dtype=torch.float64)
        for k, p in enumerate(unit):
            if i == k or meaning is None or meaning[i] != meaning[k]:
                total = total + torch.exp(n.dot(p) / temperature)
        losses.append(-torch.log(torch.exp(n.dot(unit[i]) / temperature) / total))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
@pytest.mark.parametrize("meaning", [None, [0, 1, 0, 2, 1]])
def test_value_and_gradient_equal_the_papers_loop(projections, temperature, meaning):
    neighbour, prediction = projections()
    ids = torch.tensor(meaning or range(5))
    exclude = (ids[:, None] == ids) & ~torch.eye(5, dtype=torch.bool) if meaning else None
    loss = nnclr_loss(neighbour, prediction, temperature=temperature, exclude=exclude)
    expected = reference(neighbour, prediction, temperature, meaning)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, prediction)
    torch.testing.assert_close(got, torch.autograd.grad(expected, prediction), rtol=1e-10, atol=1e-12)


def test_value_equals_lightlys_contrast_with_the_other_predictions_as_its_memory(projections):
    """Its example has SimCLR's 2N − 1 candidates; a memory bank makes its contrast Eq. 3, pair by pair."""
    neighbour, prediction = projections(batch=4, width=4)
    rows = F.normalize(prediction, dim=1)
    terms = []
    for i in range(4):
        criterion = NTXentLoss(temperature=0.2, memory_bank_size=(3, 4)).double()
        criterion.memory_bank.bank = torch.cat([rows[:i], rows[i + 1 :]]).detach()
        terms.append(criterion(neighbour[i : i + 1].detach(), rows[i : i + 1].detach()))
    ours = nnclr_loss(neighbour, prediction, temperature=0.2)
    torch.testing.assert_close(ours.detach(), torch.stack(terms).mean(), rtol=1e-12, atol=1e-12)


def test_neighbours_equal_a_loop_and_lightlys():
    generator = torch.Generator().manual_seed(0)
    rows, queue = torch.randn(6, 4, generator=generator), torch.randn(20, 4, generator=generator)
    queue = F.normalize(queue, dim=1)
    places = nearest(3 * rows, queue)
    for row, place in zip(rows, places, strict=True):
        distances = [((row / row.norm() - other) ** 2).sum() for other in queue]
        assert place == torch.stack(distances).argmin()
    bank = NNMemoryBankModule(size=(20, 4))
    bank.bank = queue
    assert torch.equal(bank(rows, update=False), queue[places])


def test_gradcheck_and_no_gradient_to_neighbours(projections):
    neighbour, prediction = projections(batch=3, width=3)
    assert torch.autograd.gradcheck(lambda p: nnclr_loss(neighbour, p, temperature=0.5), (prediction,))
    nnclr_loss(neighbour, prediction, temperature=0.5).backward()
    assert neighbour.grad is None


def test_order_of_pairs_and_length_of_rows_change_nothing(projections):
    neighbour, prediction = projections(batch=7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    again = nnclr_loss(3 * neighbour[order], 0.2 * prediction[order], temperature=0.2)
    expected = nnclr_loss(neighbour, prediction, temperature=0.2)
    torch.testing.assert_close(again, expected, rtol=1e-12, atol=0)


def test_limits_of_collapse_and_of_perfect_alignment():
    rows = torch.ones(6, 4, dtype=torch.float64)
    assert nnclr_loss(rows, rows, temperature=0.1).item() == pytest.approx(math.log(6), rel=1e-12)
    eye = torch.eye(4, dtype=torch.float64)
    expected = math.log(math.exp(1 / 0.5) + 3) - 1 / 0.5
    assert nnclr_loss(eye, eye, temperature=0.5).item() == pytest.approx(expected, rel=1e-12)
    others = ~torch.eye(6, dtype=torch.bool)
    assert nnclr_loss(rows, rows, temperature=0.1, exclude=others).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    with pytest.raises(ValueError):
        nnclr_loss(torch.randn(shapes[0]), torch.randn(shapes[1]), temperature=0.2)


def test_a_step_is_half_of_both_directions_and_drawn_projections_join_the_queue_after_it(encoder, views):
    method = NNCLR(CONFIG, encoder, 6).double()
    crops = [type(c)(c.pixels.double(), c.member, c.kind) for c in views.crops]
    views = type(views)((crops[0], crops[1]), views.pair_id, views.meaning)
    z = [method.projector(method.encoder(crop.pixels)) for crop in crops]
    p = [method.predictor(rows) for rows in z]
    before = method.queue.vectors.clone()
    near = [before[nearest(rows, before)] for rows in z]
    step = method(views)
    expected = (reference(near[0], p[1], 0.2) + reference(near[1], p[0], 0.2)) / 2
    torch.testing.assert_close(step.loss, expected)
    assert torch.equal(method.queue.vectors, before)
    method.after_step(0.0)
    swap = draw_sides(views.pair_id, 0)
    assert 0 < swap.sum() < 8
    rows = torch.where(swap[:, None], z[1], z[0]).detach()
    torch.testing.assert_close(method.queue.vectors[:8], F.normalize(rows, dim=1))
    assert method.queue.meaning[:8].tolist() == views.meaning.tolist()
    assert torch.equal(method.queue.vectors[8:], before[8:])


def test_swapping_views_changes_nothing_but_rounding(encoder, views, swapped_views):
    method = NNCLR(CONFIG, encoder, 6).double()
    crops = tuple(type(c)(c.pixels.double(), c.member, c.kind) for c in views.crops)
    views = type(views)(crops, views.pair_id, views.meaning)
    forth = method(views).loss
    back = method(swapped_views(views)).loss
    torch.testing.assert_close(back, forth, rtol=1e-12, atol=0)


def test_purity_is_the_share_of_neighbours_of_the_pairs_meaning(encoder, views):
    method = NNCLR(CONFIG, encoder, 6)
    assert method(views).logs["neighbour_purity"] == 0  # empty places have no meaning
    method.queue.meaning.fill_(2)
    assert method(views).logs["neighbour_purity"].item() == pytest.approx(2 / 8)
    unknown = type(views)(views.crops, views.pair_id, torch.full_like(views.meaning, -1))
    method.queue.meaning.fill_(-1)
    assert method(unknown).logs["neighbour_purity"] == 0


def test_logs_count_same_meaning_negatives_and_the_option_masks_them(encoder, views):
    kept = NNCLR(CONFIG, encoder, 6)
    masked = NNCLR(CONFIG.model_copy(update={"same_meaning_negatives": "mask"}), encoder, 6)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    assert first.logs["same_meaning_negatives"].item() == 1
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(1 / 7)
    assert second.logs == first.logs
    assert second.loss < first.loss
