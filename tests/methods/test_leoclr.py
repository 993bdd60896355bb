"""LeOCLR's loss against the paper's sum, MoCo's and lightly's; its original, crops, queue and key network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import Tensor

from sempairs.methods.leoclr import LeOCLR, LeOCLRConfig, leoclr_loss
from sempairs.methods.moco_v2 import moco_loss
from sempairs.methods.sides import draw_sides
from sempairs.views.records import Crop, Views

CONFIG = LeOCLRConfig(hidden=8, out=5, queue=20, momentum=0.9, final_momentum=0.9)


def unit(rows: int, width: int = 4, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1)


@pytest.fixture
def three(projections: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """float64 leaves (original, crop, other crop) with gradients."""

    def make(batch: int = 5, width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
        return (*projections(batch, width), projections(batch, width, seed=1)[0])

    return make


@pytest.fixture
def views(new_views: Callable[..., Views]) -> Views:
    return double(new_views(slots=LeOCLR.slots))


def double(views: Views) -> Views:
    crops = tuple(Crop(crop.pixels.double(), crop.member, crop.kind) for crop in views.crops)
    return Views(crops, views.pair_id, views.meaning, views.distinct)


def reference(
    original: Tensor, crops: tuple[Tensor, ...], queue: Tensor, temperature: float, masked=None
) -> Tensor:
    """Pair by pair, crop by crop and key by key."""
    total = torch.zeros((), dtype=torch.float64)
    for i, q in enumerate(original):
        q = q / q.dot(q).sqrt()
        for crop in crops:
            k = crop.detach()[i] / crop.detach()[i].norm()
            positive = torch.exp(q.dot(k) / temperature)
            every = positive
            for j, negative in enumerate(queue):
                if masked is None or not masked[i, j]:
                    every = every + torch.exp(q.dot(negative) / temperature)
            total = total - torch.log(positive / every)
    return total / len(original)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_equal_the_papers_loop(three, temperature, masked):
    original, *crops = three()
    exclude = (torch.arange(5)[:, None] + torch.arange(9)) % 3 == 0 if masked else None
    loss = leoclr_loss(original, tuple(crops), unit(9), temperature=temperature, exclude=exclude)
    expected = reference(original, tuple(crops), unit(9), temperature, exclude)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, original)
    torch.testing.assert_close(got, torch.autograd.grad(expected, original), rtol=1e-10, atol=1e-12)


def test_value_and_gradient_equal_the_sum_of_lightlys_over_both_crops(three):
    original, *crops = three(batch=6)
    theirs = torch.zeros((), dtype=torch.float64)
    for crop in crops:
        criterion = NTXentLoss(temperature=0.2, memory_bank_size=(9, 4)).double()
        criterion.memory_bank.bank = unit(9)
        theirs = theirs + criterion(original, crop.detach())
    ours = leoclr_loss(original, tuple(crops), unit(9), temperature=0.2)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    got, expected = torch.autograd.grad(ours, original), torch.autograd.grad(theirs, original)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_gradcheck_and_no_gradient_to_crops_and_queue(three):
    original, *crops = three(batch=3)
    queue = unit(6).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q: leoclr_loss(q, tuple(crops), queue, temperature=0.5), (original,)
    )
    leoclr_loss(original, tuple(crops), queue, temperature=0.5).backward()
    assert all(tensor.grad is None for tensor in (*crops, queue))


def test_loss_is_computed_in_float32_inside_autocast():
    rows = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    queue = unit(9).bfloat16()

    def loss(rows: Tensor) -> Tensor:
        return leoclr_loss(rows[0], (rows[1], rows[2]), queue.to(rows.dtype), temperature=0.2)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        from_half, from_float = loss(rows), loss(rows.float())
    assert from_half.dtype == from_float.dtype == torch.float32
    exact = loss(rows.double()).float()
    torch.testing.assert_close(from_float, exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(from_half, exact, rtol=1e-5, atol=1e-6)


def test_order_of_crops_and_pairs_and_length_of_rows_change_nothing(three):
    original, crop, other = three(batch=7)
    loss = leoclr_loss(original, (crop, other), unit(9), temperature=0.2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    rows = 3 * original[order], (0.2 * other[order], crop[order])
    torch.testing.assert_close(leoclr_loss(*rows, unit(9).flip(0), temperature=0.2), loss, rtol=1e-12, atol=0)


def test_limits(three):
    rows = torch.ones(4, 3, dtype=torch.float64)
    same = F.normalize(torch.ones(10, 3, dtype=torch.float64), dim=1)
    at_one_point = leoclr_loss(rows, (rows, rows), same, temperature=0.1)
    assert at_one_point.item() == pytest.approx(2 * math.log(11), rel=1e-12)
    assert leoclr_loss(rows, (rows, rows), -same, temperature=0.05).item() == pytest.approx(0, abs=1e-12)
    # Crops that are one are MoCo's loss twice.
    original, crop, _ = three()
    twice = leoclr_loss(original, (crop, crop), unit(9), temperature=0.2)
    expected = 2 * moco_loss(original, crop, unit(9), temperature=0.2)
    torch.testing.assert_close(twice, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_shapes_that_are_not_paired_batches_are_refused(shapes):
    original, crop = torch.randn(shapes[0]), torch.randn(shapes[1])
    with pytest.raises(ValueError):
        leoclr_loss(original, (original, crop), unit(4, 3).float(), temperature=0.2)


def test_a_step_by_hand_an_original_is_the_query_and_crops_of_both_members_the_keys(encoder, views):
    method = LeOCLR(CONFIG, encoder, 6).double()
    anchor_crop, partner_crop, anchor, partner = (crop.pixels for crop in views.crops)
    assert [crop.kind for crop in views.crops] == ["global", "global", "original", "original"]
    swap = draw_sides(views.pair_id, 0)
    assert 0 < swap.sum() < 8
    original = torch.stack([b if s else a for a, b, s in zip(anchor, partner, swap, strict=True)])
    twin = copy.deepcopy(method)
    query = twin.projector(twin.encoder(original))
    keys = [twin.key_projector(twin.key_encoder(crop)) for crop in (anchor_crop, partner_crop)]
    before = method.queue.vectors.clone()

    step = method(views)
    torch.testing.assert_close(step.loss, reference(query, tuple(keys), before, CONFIG.temperature))
    torch.testing.assert_close(step.embeddings, copy.deepcopy(twin).encoder(original).detach())
    assert torch.equal(method.queue.vectors, before)
    step.loss.backward()
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.projector.parameters()):
            parameter -= 0.5 * parameter.grad
    start = copy.deepcopy(method.key_encoder)
    method.after_step(0.3)
    # Both keys of each pair, one after another.
    joined = F.normalize(torch.stack(keys, dim=1).flatten(0, 1), dim=1)
    torch.testing.assert_close(method.queue.vectors[:16], joined)
    assert torch.equal(method.queue.vectors[16:], before[16:])
    assert method.queue.meaning.tolist() == [m for m in views.meaning.tolist() for _ in range(2)] + [-1] * 4
    for old, now, online in zip(
        start.parameters(), method.key_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * online.detach())


def test_a_pair_of_an_image_with_itself_is_the_papers_three_views(encoder, views):
    """Whichever side is drawn, the query is the one original."""
    crops = (*views.crops[:3], Crop(views.crops[2].pixels, "partner", "original"))
    method = LeOCLR(CONFIG, encoder, 6).double()
    twin = copy.deepcopy(method)
    query = twin.projector(twin.encoder(views.crops[2].pixels))
    keys = tuple(twin.key_projector(twin.key_encoder(crop.pixels)) for crop in views.crops[:2])
    loss = method(Views(crops, views.pair_id, views.meaning)).loss
    torch.testing.assert_close(loss, reference(query, keys, method.queue.vectors, CONFIG.temperature))


def test_which_member_is_the_query_changes_from_step_to_step(encoder, views):
    method = LeOCLR(CONFIG, encoder, 6).double()
    seen: list[Tensor] = []
    method.encoder.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    for _ in range(2):
        method(views)
        method.after_step(0.0)
    of_anchor = [(rows == views.crops[2].pixels).flatten(1).all(1) for rows in seen]
    of_partner = [(rows == views.crops[3].pixels).flatten(1).all(1) for rows in seen]
    assert all(torch.equal(a, ~b) for a, b in zip(of_anchor, of_partner, strict=True))
    assert not torch.equal(*of_anchor)


def test_logs_count_queued_keys_of_the_same_meaning_and_the_option_masks_them(encoder, views):
    kept = LeOCLR(CONFIG, encoder, 6).double()
    masked = LeOCLR(CONFIG.model_copy(update={"same_meaning_negatives": "mask"}), encoder, 6).double()
    assert kept(views).logs["same_meaning_negatives"] == 0
    kept.after_step(0.0)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    # Four meanings of two pairs each, two keys a pair, in a queue of twenty.
    assert first.logs["same_meaning_negatives"].item() == 4
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(4 / 20)
    assert second.logs == first.logs
    assert second.loss < first.loss


def test_groups_normalise_originals_and_crops_over_different_images(encoder, views):
    method = LeOCLR(CONFIG.model_copy(update={"norm_groups": 4}), encoder, 6).double()
    seen: dict[str, list[Tensor]] = {"query": [], "key": []}
    for name, network in (("query", method.encoder), ("key", method.key_encoder)):
        network.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].clone()))
    method(views).loss.backward()
    assert [len(part) for part in seen["query"]] == [2] * 4
    assert [len(part) for part in seen["key"]] == [2] * 8
    crops = torch.cat(seen["key"][:4])
    place = [int((views.crops[0].pixels == crop).flatten(1).all(dim=1).nonzero()) for crop in crops]
    assert sorted(place) == list(range(8))
    assert place != list(range(8))
