"""The maker: each view is torchvision's on the same parameters, whatever the batch it was made in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from sempairs.views.background import backdrop
from sempairs.views.blur import kernel_size
from sempairs.views.config import RECIPES, LocalConfig, ViewsConfig
from sempairs.views.maker import ViewMaker
from sempairs.views.parameters import ViewParameters
from sempairs.views.store import PixelStore

ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


def view_by_torchvision(
    image: torch.Tensor, drawn: ViewParameters, i: int, config: ViewsConfig, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """View i of an image (3, S, S) in [0, 1], and where solarising is certain (not at its threshold)."""
    view = reference.resized_crop(image, *drawn.box[i].tolist(), [size, size], antialias=True)
    if drawn.flip[i]:
        view = reference.horizontal_flip(view)
    if drawn.jitter[i]:
        for operation in drawn.order[i]:
            view = ADJUST[operation](view, float(drawn.factors[i, operation]))
    if drawn.gray[i]:
        view = reference.rgb_to_grayscale(view, 3)
    if drawn.sigma[i]:
        view = reference.gaussian_blur(view, [kernel_size(size)] * 2, [float(drawn.sigma[i])] * 2)
    certain = torch.ones_like(view, dtype=torch.bool)
    if drawn.solarise[i]:
        certain = (view - 0.5).abs() > 1e-4
        view = reference.solarize(view, 0.5)
    return reference.normalize(view, list(config.mean), list(config.std)), certain


@pytest.mark.parametrize(("store_size", "size"), [(20, 12), (16, 16)])
@pytest.mark.parametrize("recipe", RECIPES.names())
def test_views_are_torchvisions_on_the_same_parameters(noise_store, recipe, store_size, size):
    store = noise_store(10, store_size)
    config = ViewsConfig(recipe=recipe, size=size, local=LocalConfig(count=2, size=size // 2))
    maker = ViewMaker(config, store, seed=5)
    anchor, partner = np.arange(30) % 10, np.arange(30)[::-1] % 10
    views = maker.make(3, anchor, partner, np.arange(30), np.arange(30) % 4)
    for drawn, crops in (
        (maker.parameters(3, np.arange(30)), views.crops[:2]),
        (maker.local_parameters(3, np.arange(30)), views.crops[2:]),
    ):
        pixels = torch.cat([crop.pixels for crop in crops])
        for i, row in enumerate([*anchor, *partner]):
            image, shown = store.pixels[row] / 255, pixels.shape[-1]
            expected, certain = view_by_torchvision(image, drawn, i, config, shown)
            # The single operations agree to 2e-6; a chain of them, divided by std, to somewhat more.
            assert ((pixels[i] - expected).abs() * certain).max() <= 5e-5


def test_a_batch_names_its_members_pairs_and_meanings(noise_store):
    maker = ViewMaker(ViewsConfig(size=8), noise_store(), seed=0)
    views = maker.make(0, [0, 1, 2], [3, 4, 5], [7, 8, 9], [1, 1, 2])
    assert [(crop.member, crop.kind) for crop in views.crops] == [("anchor", "global"), ("partner", "global")]
    assert [crop.pixels.shape for crop in views.crops] == [(3, 3, 8, 8)] * 2
    assert views.pair_id.tolist() == [7, 8, 9] and views.meaning.tolist() == [1, 1, 2] and len(views) == 3


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(RECIPES.names()),
    st.sampled_from(["white", "colour", "texture"]),
    st.integers(2, 40),
    st.data(),
)
def test_views_of_a_batch_are_bit_for_bit_those_of_its_halves(recipe, background, n, data):
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (9, 4, 16, 16), dtype=torch.uint8, generator=generator)
    config = ViewsConfig(recipe=recipe, size=8, background=background)
    maker = ViewMaker(config, PixelStore(pixels, ""), seed=1)
    columns = [np.array(data.draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))) for _ in range(2)]
    columns += [np.array(data.draw(st.permutations(range(n)))), np.arange(n)]
    cut = data.draw(st.integers(1, n - 1))
    whole = maker.make(2, *columns)
    halves = [maker.make(2, *(column[part] for column in columns)) for part in (slice(cut), slice(cut, n))]
    for crop, *parts in zip(whole.crops, *(half.crops for half in halves), strict=True):
        assert torch.equal(crop.pixels, torch.cat([part.pixels for part in parts]))


@pytest.mark.parametrize("pixels", [64, 1 << 10, 1 << 20])
def test_how_many_views_are_worked_on_at_once_changes_nothing(noise_store, monkeypatch, pixels):
    maker, rows = ViewMaker(ViewsConfig(size=8), noise_store(), seed=0), np.arange(12)
    before = maker.make(0, rows, rows, rows, rows).crops[1].pixels
    monkeypatch.setattr("sempairs.views.maker._CORE_PIXELS", pixels)
    assert torch.equal(maker.make(0, rows, rows, rows, rows).crops[1].pixels, before)


def test_without_jitter_the_unjittered_views_stay_bit_for_bit(noise_store):
    store, rows = noise_store(), np.arange(12)
    whole, left = (
        ViewMaker(ViewsConfig(recipe="lab", size=8, without=without), store, seed=0)
        for without in ((), ("jitter",))
    )
    untouched = ~whole.parameters(0, rows).jitter
    assert 0 < untouched.sum() < 24
    one, other = (
        torch.cat([crop.pixels for crop in maker.make(0, rows, rows, rows, rows).crops])
        for maker in (whole, left)
    )
    same = (one == other).flatten(1).all(dim=1).numpy()
    assert np.array_equal(same, untouched)


def test_with_everything_left_out_a_view_is_the_clean_view(noise_store):
    without = ("crop", "flip", "jitter", "gray", "blur", "solarise")
    maker = ViewMaker(ViewsConfig(size=11, without=without), noise_store(), seed=0)
    rows = np.array([4, 0, 4])
    views = maker.make(0, rows, rows, rows, rows)
    assert torch.equal(views.crops[0].pixels, maker.clean(rows))


@pytest.mark.parametrize("size", [12, 20, 27])
def test_a_clean_view_is_the_resized_image_on_white(noise_store, size):
    store = noise_store(7, 20, channels=4)
    config = ViewsConfig(size=size, background="texture")
    clean = ViewMaker(config, store, seed=0).clean(np.array([6, 1, 1]))
    resized = reference.resize(store.on_white().pixels[[6, 1, 1]] / 255, [size, size], antialias=True)
    expected = reference.normalize(resized, list(config.mean), list(config.std))
    assert (clean - expected).abs().max() <= 5e-6
    assert ViewMaker(config, store, seed=0).clean([]).shape == (0, 3, size, size)


def test_transparent_pixels_show_a_background_of_the_views_own():
    clear = PixelStore(torch.zeros(1, 4, 16, 16, dtype=torch.uint8), "")
    rows = np.zeros(6, dtype=np.int64)
    keys = np.arange(6)
    for background in ("colour", "texture"):
        config = ViewsConfig(
            size=9, without=("jitter", "gray", "blur"), background=background, mean=(0, 0, 0), std=(1, 1, 1)
        )
        maker = ViewMaker(config, clear, seed=0)
        views = maker.make(0, rows, rows, keys, keys)
        draws = maker.parameters(0, keys).background
        assert draws is not None
        behind = backdrop(torch.from_numpy(draws).float(), 9, texture=background == "texture")
        expected = behind.transpose(0, 1).expand(-1, -1, 9, 9)
        torch.testing.assert_close(torch.cat([crop.pixels for crop in views.crops]), expected)
    white = ViewMaker(ViewsConfig(size=9, mean=(0, 0, 0), std=(1, 1, 1)), clear, seed=0).clean([0])
    torch.testing.assert_close(white, torch.ones_like(white))


def test_an_opaque_image_shows_no_background(noise_store):
    rgb = noise_store(6, 16)
    opaque = torch.cat([rgb.pixels, torch.full((6, 1, 16, 16), 255, dtype=torch.uint8)], dim=1)
    rows = np.arange(6)
    views = [
        ViewMaker(ViewsConfig(size=8, background=background), store, seed=0).make(0, rows, rows, rows, rows)
        for background, store in (("white", rgb), ("texture", PixelStore(opaque, "")))
    ]
    torch.testing.assert_close(views[0].crops[0].pixels, views[1].crops[0].pixels, atol=1e-5, rtol=0)


def test_low_precision_around_it_does_not_reach_the_views(noise_store):
    maker, rows = ViewMaker(ViewsConfig(size=16), noise_store(12, 32), seed=0), np.arange(12)
    exact = maker.make(0, rows, rows, rows, rows)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            views = maker.make(0, rows, rows, rows, rows)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    for crop, expected in zip(views.crops, exact.crops, strict=True):
        assert crop.pixels.dtype == torch.float32 and not crop.pixels.requires_grad
        assert torch.equal(crop.pixels, expected.pixels)
