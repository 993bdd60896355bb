"""More than two crops: whose they are, what decides them, and that none changes another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from sempairs.catalog.table import Catalog
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import EpochPairs, plan_pairs
from sempairs.views.config import LocalConfig, ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.records import PAIR, Slot, Views
from sempairs.views.store import PixelStore

ANCHOR, PARTNER = PAIR
ORIGINALS = (Slot("anchor", "original"), Slot("partner", "original"))
SLOTS = {
    "pair": PAIR,
    "originals": (*PAIR, *ORIGINALS),
    "two of each": (ANCHOR, ANCHOR, PARTNER, PARTNER),
    "between": (ANCHOR, ORIGINALS[1], PARTNER, ANCHOR),
    "partner alone": (PARTNER,),
}
KINDS = {
    "augmented": PairsConfig(relation="same_category", mode="redrawn", arm="augmented"),
    "semantic": PairsConfig(relation="same_category", mode="redrawn"),
    "mixed": PairsConfig(relation="same_category", mode="redrawn", mixed=0.5),
    "fixed": PairsConfig(relation="same_category", mode="fixed"),
}
IMAGES = 40


def pairs(kind: str) -> EpochPairs:
    """Those of an epoch over 40 images in 4 categories."""
    columns = {
        "image_id": [f"{i:02d}" for i in range(IMAGES)],
        "file_hash": [f"{i:064d}" for i in range(IMAGES)],
        "uri": [str(i) for i in range(IMAGES)],
        "width": [8] * IMAGES,
        "height": [8] * IMAGES,
        "source": ["made"] * IMAGES,
        "category": [f"class{i % 4}" for i in range(IMAGES)],
    }
    return plan_pairs(Catalog.from_columns(columns), KINDS[kind]).epoch(1)


def made(
    store: PixelStore, slots: Sequence[Slot] = PAIR, *, local: int = 0, n: int = 30, **config: object
) -> Views:
    """Views of n pairs of different images of a store of 12."""
    locals_ = LocalConfig(count=local, size=6) if local else None
    maker = ViewMaker(ViewsConfig(size=10, local=locals_, **config), store, seed=4, slots=slots)
    keys = np.arange(n)
    return maker.make(1, keys % 12, (keys + 1) % 12, keys, keys)


def pixels(views: Views) -> list[torch.Tensor]:
    return [crop.pixels for crop in views.crops]


@pytest.mark.parametrize("slots", SLOTS.values(), ids=SLOTS)
def test_crops_come_in_the_order_of_the_slots_then_local_ones_of_either_member(noise_store, slots):
    views = made(noise_store(), slots, local=3)
    roles = [Slot(crop.member, crop.kind) for crop in views.crops]
    assert roles[:-3] == list(slots)
    assert roles[-3:] == [Slot("anchor", "local"), Slot("partner", "local"), Slot("anchor", "local")]
    assert {crop.pixels.shape for crop in views.crops[:-3]} == {(30, 3, 10, 10)}
    assert {crop.pixels.shape for crop in views.crops[-3:]} == {(30, 3, 6, 6)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", SLOTS.values(), ids=SLOTS)
def test_each_crop_shows_its_own_member_in_every_kind_of_pair(kind, slots):
    shades = torch.linspace(0, 255, IMAGES).round().to(torch.uint8)
    store = PixelStore(shades[:, None, None, None].expand(-1, 3, 20, 20), "")
    config = ViewsConfig(
        recipe="lab", size=8, without=("jitter",), mean=(0, 0, 0), std=(1, 1, 1),
        local=LocalConfig(count=3, size=5),
    )  # fmt: skip
    anchor, partner, occurrence = pairs(kind)
    meaning = np.arange(len(anchor)) % 7
    views = ViewMaker(config, store, seed=0, slots=slots).make(1, anchor, partner, occurrence, meaning)
    rows = {"anchor": anchor, "partner": partner}
    for crop in views.crops:
        expected = (shades[rows[crop.member]] / 255)[:, None, None, None].expand_as(crop.pixels)
        torch.testing.assert_close(crop.pixels, expected, atol=1e-3, rtol=0)
    assert views.distinct is not None and views.distinct.tolist() == (anchor != partner).tolist()
    share = views.distinct.float().mean()
    assert {"augmented": share == 0, "mixed": 0 < share < 1}.get(kind, share == 1)
    assert views.meaning.tolist() == meaning.tolist() and views.pair_id.tolist() == occurrence.tolist()


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["byol", "dino", "swav", "lab"]),
    st.sampled_from(["white", "texture"]),
    st.sampled_from(sorted(SLOTS)),
    st.integers(2, 20),
    st.data(),
)
def test_crops_depend_neither_on_the_batch_nor_on_its_order(recipe, background, slots, n, data):
    generator = torch.Generator().manual_seed(n)
    store = PixelStore(torch.randint(0, 256, (9, 4, 16, 16), dtype=torch.uint8, generator=generator), "")
    config = ViewsConfig(recipe=recipe, size=8, background=background, local=LocalConfig(count=2, size=6))
    maker = ViewMaker(config, store, seed=1, slots=SLOTS[slots])
    anchor, partner = (
        np.array(data.draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))) for _ in range(2)
    )
    columns = [anchor, partner, np.arange(n) * 7, np.arange(n)]
    whole = maker.make(2, *columns)
    order, cut = np.array(data.draw(st.permutations(range(n)))), data.draw(st.integers(1, n - 1))
    for part in (order[:cut], order[cut:]):
        views = maker.make(2, *(column[part] for column in columns))
        for crop, of_part in zip(whole.crops, views.crops, strict=True):
            assert torch.equal(crop.pixels[part], of_part.pixels)


@pytest.mark.parametrize("recipe", ["dino", "simclr"])
def test_more_crops_leave_the_others_bit_for_bit(noise_store, recipe):
    store = noise_store()
    pair = pixels(made(store, recipe=recipe))
    with_local = pixels(made(store, local=5, recipe=recipe))
    assert all(map(torch.equal, pair, with_local[:2]))
    few = pixels(made(store, local=2, recipe=recipe))
    assert all(map(torch.equal, few, with_local[:4]))
    more = pixels(made(store, SLOTS["two of each"], local=2, recipe=recipe))
    assert all(map(torch.equal, [more[0], more[2], *more[4:]], few))
    between = pixels(made(store, SLOTS["between"], recipe=recipe))
    assert torch.equal(between[0], pair[0]) and torch.equal(between[2], pair[1])
    assert torch.equal(pixels(made(store, SLOTS["partner alone"], recipe=recipe))[0], pair[1])


def test_an_original_is_the_clean_image_of_its_member(noise_store):
    store = noise_store(channels=4)
    slots = SLOTS["originals"]
    maker = ViewMaker(ViewsConfig(recipe="byol", size=10, background="texture"), store, seed=0, slots=slots)
    anchor, partner = np.array([3, 0, 3, 5]), np.array([1, 0, 4, 4])
    crops = maker.make(0, anchor, partner, np.arange(4), np.arange(4)).crops
    assert torch.equal(crops[2].pixels, maker.clean(anchor))
    assert torch.equal(crops[3].pixels, maker.clean(partner))


def test_crops_of_one_member_are_drawn_independently(noise_store):
    config = ViewsConfig(recipe="byol", size=8, local=LocalConfig(count=4, size=6))
    maker = ViewMaker(config, noise_store(size=64), seed=0, slots=SLOTS["two of each"])
    n = 3000
    drawn = [maker.parameters(0, np.arange(n)), maker.local_parameters(0, np.arange(n))]
    for values in (
        [of.box[:, 2] * of.box[:, 3] for of in drawn],
        [of.box[:, 0] / np.maximum(64 - of.box[:, 2], 1) for of in drawn],
        [of.flip for of in drawn],
        [of.factors[:, 0] for of in drawn],
    ):
        table = np.concatenate([value.reshape(4, n) for value in values])
        apart = np.corrcoef(table) - np.eye(8)
        assert np.abs(apart).max() < 5 / np.sqrt(n)


@pytest.mark.parametrize(
    ("recipe", "given", "expected"),
    [
        ("swav", None, (0.05, 0.14)),
        ("dino", None, (0.05, 0.4)),
        ("simclr", None, (0.05, 0.14)),
        ("swav", (0.1, 0.3), (0.1, 0.3)),
    ],
)
def test_local_crops_have_the_scale_they_are_asked_for_and_global_ones_their_own(
    noise_store, recipe, given, expected
):
    config = ViewsConfig(recipe=recipe, size=8, local=LocalConfig(count=2, size=6, crop_scale=given))
    maker = ViewMaker(config, noise_store(1, 96), seed=0)
    torch.manual_seed(0)
    image = torch.zeros(1, 96, 96)
    for drawn, scale in (
        (maker.local_parameters(0, np.arange(2000)), expected),
        (maker.parameters(0, np.arange(2000)), config.resolved().crop_scale),
    ):
        wanted = [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(2000)]
        theirs = np.array(wanted)
        for of in (
            lambda box: box[:, 2] * box[:, 3],
            lambda box: box[:, 2] / box[:, 3],
            lambda box: box[:, 0],
        ):
            assert stats.ks_2samp(of(drawn.box), of(theirs)).pvalue > 1e-3
    share = np.prod(maker.local_parameters(0, np.arange(500)).box[:, 2:], axis=1) / 96**2
    assert expected[0] * 0.9 < share.min() and share.max() < expected[1] * 1.1


def test_further_global_crops_toss_for_a_side_and_local_ones_have_their_own(noise_store):
    config = ViewsConfig(recipe="dino", size=8, local=LocalConfig(count=2, size=6))
    maker, n = ViewMaker(config, noise_store(), seed=0, slots=SLOTS["two of each"]), 6000
    drawn = maker.parameters(0, np.arange(n))
    anchor, anchor_too, partner, partner_too = (drawn.sigma > 0).reshape(4, n)
    # One side is always blurred, the other one time in ten: so of two sides never neither.
    assert (anchor | partner).all()
    assert (~anchor_too & ~partner_too).any() and (~anchor & ~anchor_too).any()
    for blurred in (anchor, anchor_too, partner, partner_too):
        assert abs(blurred.mean() - 0.55) < 0.03
    assert abs(np.corrcoef(anchor_too, anchor)[0, 1]) < 0.06
    assert abs(np.corrcoef(anchor_too, partner_too)[0, 1]) < 0.06
    assert abs(drawn.solarise.mean() - 0.1) < 0.01
    local = maker.local_parameters(0, np.arange(n))
    assert abs((local.sigma > 0).mean() - 0.5) < 0.03
    assert not local.solarise.any()
    for share, expected in ((local.jitter, 0.8), (local.gray, 0.2), (local.flip, 0.5)):
        assert abs(share.mean() - expected) < 0.03


@pytest.mark.parametrize("operation", ["flip", "jitter", "gray", "blur"])
def test_what_is_left_out_is_left_out_of_local_crops_too(noise_store, operation):
    config = ViewsConfig(recipe="swav", size=8, without=(operation,), local=LocalConfig(count=2, size=6))
    whole = ViewMaker(config.model_copy(update={"without": ()}), noise_store(), seed=0)
    left = ViewMaker(config, noise_store(), seed=0).local_parameters(0, np.arange(200))
    field = {"blur": "sigma"}.get(operation, operation)
    assert not getattr(left, field).any() and getattr(whole.local_parameters(0, np.arange(200)), field).any()
    assert np.array_equal(left.box, whole.local_parameters(0, np.arange(200)).box)


def test_local_slots_are_the_recipes_to_ask_for(noise_store):
    with pytest.raises(AssertionError):
        ViewMaker(ViewsConfig(), noise_store(), seed=0, slots=(*PAIR, Slot("anchor", "local")))


@pytest.mark.parametrize("recipe", ["byol", "dino"])
def test_a_crop_of_the_opposite_side_has_the_partners_and_is_otherwise_what_it_was(noise_store, recipe):
    """Sides of BYOL and DINO: blurred always, or a tenth of the time and then perhaps solarised."""
    store, keys = noise_store(), np.arange(400)
    config = ViewsConfig(size=10, recipe=recipe)
    drawn, opposite = (
        ViewMaker(config, store, seed=4, slots=(*PAIR, Slot("anchor", opposite=side))).parameters(1, keys)
        for side in (False, True)
    )
    first, second, third = (slice(400 * slot, 400 * (slot + 1)) for slot in range(3))
    for name in ("box", "flip", "jitter", "order", "factors", "gray"):
        assert (getattr(opposite, name) == getattr(drawn, name)).all()
    assert (opposite.sigma[first] == drawn.sigma[first]).all()
    assert (opposite.sigma[second] == drawn.sigma[second]).all()
    # Where the anchor's crop is of the side that is always blurred is known by the partner's that is not.
    other = opposite.sigma[second] == 0
    assert (opposite.sigma[first][other] > 0).all()
    assert (opposite.sigma[third][other] > 0).mean() < 0.2
    always = opposite.sigma[first] == 0
    assert (opposite.sigma[third][always] > 0).all()
    assert not (drawn.sigma[third][always] > 0).all()
    assert not opposite.solarise[third][always].any()
