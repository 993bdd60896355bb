"""SePP-ID's loss against a loop over all positives; MoCo v2 without semantic pairs; its roles and queue."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sempairs.methods.moco_v2 import MoCoV2, MoCoV2Config, moco_loss
from sempairs.methods.sepp_id import SePPID, SePPIDConfig, sepp_id_loss
from sempairs.methods.sides import draw_sides
from sempairs.views.records import Crop, Views

SIZES = {"hidden": 8, "out": 5, "queue": 12, "momentum": 0.9, "final_momentum": 0.9}
CONFIG = SePPIDConfig(**SIZES)
SOME = torch.tensor([True, False, True, True, False])


def unit(rows: int, width: int = 4, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1)


@pytest.fixture
def three(projections: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """float64 leaves (query, key, semantic) with gradients."""

    def make(batch: int = 5, width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
        return (*projections(batch, width), projections(batch, width, seed=1)[0])

    return make


@pytest.fixture
def views(new_views: Callable[..., Views]) -> Views:
    """The first pair, the fourth and the seventh are an image with itself."""
    made = new_views(slots=SePPID.slots)
    crops = tuple(Crop(crop.pixels.double(), crop.member, crop.kind) for crop in made.crops)
    # From 7 on the first step's coins show all four ways.
    return Views(crops, made.pair_id + 7, made.meaning, torch.arange(8) % 3 > 0)


def reference(
    query: Tensor,
    key: Tensor,
    semantic: Tensor,
    queue: Tensor,
    *,
    distinct: Tensor,
    temperature: float,
    exclude: Tensor | None = None,
) -> Tensor:
    """The mean over a list of all positives, augmented and semantic, key by key."""
    union = [(i, key[i]) for i in range(len(query))]
    union += [(i, semantic[i]) for i in range(len(query)) if distinct[i]]
    losses = []
    for i, positive in union:
        q, k = query[i] / query[i].norm(), positive.detach() / positive.detach().norm()
        total = torch.exp(q.dot(k) / temperature)
        for j, negative in enumerate(queue):
            if exclude is None or not exclude[i, j]:
                total = total + torch.exp(q.dot(negative) / temperature)
        losses.append(-torch.log(torch.exp(q.dot(k) / temperature) / total))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("distinct", [SOME, ~SOME, torch.ones_like(SOME), torch.zeros_like(SOME)])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_equal_the_loop_over_the_union(three, distinct, temperature, masked):
    exclude = (torch.arange(5)[:, None] + torch.arange(9)) % 3 == 0 if masked else None
    rows, options = three(), {"distinct": distinct, "temperature": temperature, "exclude": exclude}
    loss, expected = sepp_id_loss(*rows, unit(9), **options), reference(*rows, unit(9), **options)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss, rows[0])
    torch.testing.assert_close(got, torch.autograd.grad(expected, rows[0]), rtol=1e-10, atol=1e-12)


def test_gradcheck_and_no_gradient_to_keys_and_queue(three):
    query, key, semantic = three(batch=3)
    queue, distinct = unit(6).requires_grad_(), SOME[:3]

    def loss(rows: Tensor) -> Tensor:
        return sepp_id_loss(rows, key, semantic, queue, distinct=distinct, temperature=0.5)

    assert torch.autograd.gradcheck(loss, (query,))
    loss(query).backward()
    assert key.grad is None and semantic.grad is None and queue.grad is None


def test_loss_is_computed_in_float32_inside_autocast():
    rows = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    queue = unit(9).bfloat16()

    def loss(rows: Tensor) -> Tensor:
        return sepp_id_loss(*rows, queue.to(rows.dtype), distinct=SOME, temperature=0.2)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        from_half, from_float = loss(rows), loss(rows.float())
    assert from_half.dtype == from_float.dtype == torch.float32
    exact = loss(rows.double()).float()
    torch.testing.assert_close(from_float, exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(from_half, exact, rtol=1e-5, atol=1e-6)


def test_order_of_pairs_and_queue_and_length_of_rows_change_nothing(three):
    query, key, semantic = three()
    loss = sepp_id_loss(query, key, semantic, unit(9), distinct=SOME, temperature=0.2)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    rows = 3 * query[order], 0.2 * key[order], 7 * semantic[order]
    again = sepp_id_loss(*rows, unit(9).flip(0), distinct=SOME[order], temperature=0.2)
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=0)


def test_limits(three):
    query, key, semantic = three()
    none, every = torch.zeros_like(SOME), torch.ones_like(SOME)
    options = {"temperature": 0.2}
    augmented = moco_loss(query, key, unit(9), **options)
    other = moco_loss(query, semantic, unit(9), **options)
    # Without a semantic pair it is MoCo's loss, with one for each pair the mean of two, and in between the
    # mean over the union; where the semantic key is the key, nothing but the weights of pairs are new.
    alone = sepp_id_loss(query, key, semantic, unit(9), distinct=none, **options)
    torch.testing.assert_close(alone, augmented, rtol=1e-14, atol=0)
    both = sepp_id_loss(query, key, semantic, unit(9), distinct=every, **options)
    torch.testing.assert_close(both, (augmented + other) / 2, rtol=1e-13, atol=0)
    of_those = moco_loss(query[SOME], semantic[SOME], unit(9), **options)
    some = sepp_id_loss(query, key, semantic, unit(9), distinct=SOME, **options)
    torch.testing.assert_close(some, (5 * augmented + 3 * of_those) / 8, rtol=1e-13, atol=0)
    rows = torch.ones(4, 3, dtype=torch.float64)
    same = F.normalize(torch.ones(10, 3, dtype=torch.float64), dim=1)
    at_one_point = sepp_id_loss(rows, rows, rows, same, distinct=SOME[:4], temperature=0.1)
    assert at_one_point.item() == pytest.approx(math.log(11), rel=1e-12)
    excluded = torch.ones(4, 10, dtype=torch.bool)
    nothing_left = sepp_id_loss(rows, rows, rows, same, distinct=SOME[:4], temperature=0.1, exclude=excluded)
    assert nothing_left.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((1, 3), (1, 3))])
@pytest.mark.parametrize("place", [1, 2])
def test_shapes_that_are_not_paired_batches_are_refused(shapes, place):
    rows = [torch.randn(shapes[0]) for _ in range(3)]
    rows[place] = torch.randn(shapes[1])
    distinct = torch.ones(len(rows[0]), dtype=torch.bool)
    with pytest.raises(ValueError):
        sepp_id_loss(*rows, unit(4, 3).float(), distinct=distinct, temperature=0.2)


def test_without_semantic_pairs_three_steps_are_moco_v2s_on_the_anchors_two_crops(
    new_encoder, new_views: Callable[..., Views]
):
    ours = SePPID(CONFIG, new_encoder(), 6).double()
    theirs = MoCoV2(MoCoV2Config(**SIZES), new_encoder(), 6).double()
    theirs.load_state_dict(ours.state_dict())
    for step in range(3):
        made = new_views(slots=SePPID.slots, seed=step)
        crops = tuple(Crop(crop.pixels.double(), crop.member, crop.kind) for crop in made.crops)
        none = torch.zeros(8, dtype=torch.bool)
        first = ours(Views(crops, made.pair_id, made.meaning, none))
        pair = (crops[0], Crop(crops[1].pixels, "partner"))
        second = theirs(Views(pair, made.pair_id, made.meaning))
        torch.testing.assert_close(first.loss, second.loss, rtol=1e-12, atol=0)
        assert first.logs["semantic_fraction"] == 0
        for method, out in ((ours, first), (theirs, second)):
            method.zero_grad()
            out.loss.backward()
            with torch.no_grad():
                for parameter in method.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.1 * parameter.grad
            method.after_step(step / 3)
    other = theirs.state_dict()
    for name, value in ours.state_dict().items():
        # The key network sees partners too, which its running statistics remember and nothing else does.
        if not name.startswith("key_encoder.1.running") and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, other[name], rtol=1e-10, atol=1e-12)


def test_a_step_by_hand_roles_follow_two_coins_and_augmented_keys_join(encoder, views):
    method = SePPID(CONFIG, encoder, 6).double()
    pixels = [crop.pixels for crop in views.crops]
    assert [crop.member for crop in views.crops] == ["anchor", "anchor", "partner", "partner"]
    swap, member = draw_sides(views.pair_id, 0), draw_sides(views.pair_id, -1) & views.distinct
    query, key, semantic = (torch.empty_like(pixels[0]) for _ in range(3))
    cases = set()
    for i in range(8):
        own, other = (pixels[2:], pixels[:2]) if member[i] else (pixels[:2], pixels[2:])
        at = int(swap[i])
        query[i], key[i], semantic[i] = own[at][i], own[1 - at][i], other[1 - at][i]
        cases.add((bool(swap[i]), bool(member[i])))
    assert len(cases) == 4
    twin = copy.deepcopy(method)
    queries = twin.projector(twin.encoder(query))
    keys, others = (twin.key_projector(twin.key_encoder(images)) for images in (key, semantic))
    before = method.queue.vectors.clone()

    step = method(views)
    options = {"distinct": views.distinct, "temperature": CONFIG.temperature}
    torch.testing.assert_close(step.loss, reference(queries, keys, others, before, **options))
    assert step.logs["semantic_fraction"].item() == pytest.approx(5 / 8)
    assert torch.equal(method.queue.vectors, before)
    step.loss.backward()
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.projector.parameters()):
            parameter -= 0.5 * parameter.grad
    start = copy.deepcopy(method.key_encoder)
    method.after_step(0.3)
    torch.testing.assert_close(method.queue.vectors[:8], F.normalize(keys, dim=1))
    assert torch.equal(method.queue.vectors[8:], before[8:])
    assert method.queue.meaning.tolist() == [*views.meaning.tolist(), -1, -1, -1, -1]
    for old, now, online in zip(
        start.parameters(), method.key_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * online.detach())


def test_an_anchor_with_itself_is_never_exchanged_and_its_partner_counts_for_nothing(encoder, views):
    none = Views(views.crops, views.pair_id, views.meaning, torch.zeros(8, dtype=torch.bool))
    noise = [torch.randn(8, 3, 8, 8, dtype=torch.float64) for _ in range(2)]
    crops = (*views.crops[:2], *(Crop(pixels, "partner") for pixels in noise))
    method = SePPID(CONFIG, encoder, 6).double()
    loss = method(none).loss
    other = method(Views(crops, none.pair_id, none.meaning, none.distinct)).loss
    assert torch.equal(loss, other)
    assert not torch.equal(method(views).loss, method(Views(crops, *(none.pair_id, none.meaning))).loss)


def test_where_views_do_not_say_every_partner_is_another_image(encoder, views):
    method = SePPID(CONFIG, encoder, 6).double()
    every = torch.ones(8, dtype=torch.bool)
    silent = method(Views(views.crops, views.pair_id, views.meaning))
    assert torch.equal(silent.loss, method(Views(views.crops, views.pair_id, views.meaning, every)).loss)
    assert silent.logs["semantic_fraction"] == 1


def test_roles_change_from_step_to_step(encoder, new_views):
    method, views = SePPID(CONFIG, encoder, 6), new_views(batch=32, slots=SePPID.slots)
    seen: list[Tensor] = []
    method.encoder.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    for _ in range(2):
        method(views)
        method.after_step(0.0)
    which = [
        torch.stack([(rows == crop.pixels).flatten(1).all(1) for crop in views.crops]).int().argmax(dim=0)
        for rows in seen
    ]
    assert all(len(crops.unique()) == 4 for crops in which)
    assert not torch.equal(*which)


def test_logs_count_queued_keys_of_the_same_meaning_and_the_option_masks_them(encoder, views):
    kept = SePPID(CONFIG, encoder, 6).double()
    masked = SePPID(CONFIG.model_copy(update={"same_meaning_negatives": "mask"}), encoder, 6).double()
    assert kept(views).logs["same_meaning_negatives"] == 0
    kept.after_step(0.0)
    masked.load_state_dict(kept.state_dict())
    first, second = kept(views), masked(views)
    assert first.logs["same_meaning_negatives"].item() == 2
    assert first.logs["same_meaning_fraction"].item() == pytest.approx(2 / 12)
    assert second.logs == first.logs
    assert second.loss < first.loss


def test_groups_normalise_queries_and_both_keys_over_different_images(encoder, views):
    method = SePPID(CONFIG.model_copy(update={"norm_groups": 4}), encoder, 6).double()
    seen: dict[str, list[int]] = {"query": [], "key": []}
    for name, network in (("query", method.encoder), ("key", method.key_encoder)):
        network.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(len(inputs[0])))
    method(views).loss.backward()
    assert seen == {"query": [2] * 4, "key": [2] * 8}
