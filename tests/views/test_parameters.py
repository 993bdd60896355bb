"""The draws: their law, and what they depend on."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from sempairs.views.config import OPERATIONS, RECIPES, ViewsConfig
from sempairs.views.parameters import ORDERS, ViewParameters, crop_box, draw_parameters

SIZE = 40


def parameters(
    config: ViewsConfig, occurrence: np.ndarray, *, epoch: int = 0, seed: int = 0
) -> ViewParameters:
    recipe = config.resolved()
    return draw_parameters(recipe, size=SIZE, seed=seed, epoch=epoch, occurrence=occurrence, background=True)


def same(left: ViewParameters, right: ViewParameters, *, but: tuple[str, ...] = ()) -> bool:
    names = [field.name for field in fields(ViewParameters) if field.name not in but]
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(RECIPES.names()),
    st.lists(st.integers(0, 2**40), min_size=2, max_size=40, unique=True),
    st.integers(1, 39),
    st.integers(0, 1000),
    st.integers(0, 2**32 - 1),
)
def test_draws_of_a_batch_are_those_of_its_parts_in_any_order(recipe, keys, cut, epoch, seed):
    config, occurrence = ViewsConfig(recipe=recipe), np.array(keys)
    cut, n = min(cut, len(keys) - 1), len(keys)
    whole = parameters(config, occurrence, epoch=epoch, seed=seed)
    places = np.arange(n)[::-1]
    for part in (places[:cut], places[cut:]):
        alone = parameters(config, occurrence[part], epoch=epoch, seed=seed)
        assert same(alone, whole.take(np.concatenate([part, n + part])))


def test_views_epochs_and_seeds_differ():
    occurrence = np.arange(64)
    config = ViewsConfig(recipe="lab")
    drawn = parameters(config, occurrence)
    for other in (parameters(config, occurrence, epoch=1), parameters(config, occurrence, seed=1)):
        assert not np.array_equal(drawn.box, other.box)
    assert not np.array_equal(drawn.box[:64], drawn.box[64:])


# What each operation decides; leaving it out may change nothing else.
OWNED = {
    "crop": ("box",),
    "flip": ("flip",),
    "jitter": ("jitter",),
    "gray": ("gray",),
    "blur": ("sigma",),
    "solarise": ("solarise",),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("recipe", RECIPES.names())
def test_leaving_an_operation_out_leaves_the_others_bit_for_bit(recipe, operation):
    occurrence = np.arange(300)
    whole = parameters(ViewsConfig(recipe=recipe), occurrence)
    left = parameters(ViewsConfig(recipe=recipe, without=(operation,)), occurrence)
    assert same(whole, left, but=OWNED[operation])
    if operation == "crop":
        assert (left.box == [0, 0, SIZE, SIZE]).all()
    else:
        assert not getattr(left, OWNED[operation][0]).any()


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0), (0.9, 1.0)])
def test_crops_follow_torchvisions_law(scale):
    torch.manual_seed(0)
    transform = RandomResizedCrop(8, scale=scale)
    image = torch.zeros(1, SIZE, SIZE)
    expected = np.array([transform.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(6000)])
    drawn = parameters(ViewsConfig(recipe="lab", crop_scale=scale), np.arange(6000)).box
    assert (drawn[:, :2] >= 0).all() and (drawn[:, :2] + drawn[:, 2:] <= SIZE).all()
    for column in range(4):
        assert stats.ks_2samp(drawn[:, column], expected[:, column]).pvalue > 1e-3
    area, theirs = (box[:, 2] * box[:, 3] for box in (drawn, expected))
    assert stats.ks_2samp(area, theirs).pvalue > 1e-3
    shape, theirs = (box[:, 2] / box[:, 3] for box in (drawn, expected))
    assert stats.ks_2samp(shape, theirs).pvalue > 1e-3
    whole, of_theirs = ((box[:, 2:] == SIZE).all(axis=1).mean() for box in (drawn, expected))
    assert abs(whole - of_theirs) < 0.02


def test_the_first_attempt_that_fits_is_taken_and_none_means_the_whole_image():
    wide, fits = [1 - 1e-9, 1 - 1e-9, 0.5, 0.5], [0.0, 0.5, 0.5, 0.5]
    draws = np.array([[wide, fits, wide], [fits, wide, wide], [wide, wide, wide]])
    box, found = crop_box(draws, (0.25, 1.0), (3 / 4, 4 / 3), SIZE)
    assert box.tolist() == [[10, 10, 20, 20], [10, 10, 20, 20], [0, 0, SIZE, SIZE]]
    assert found.tolist() == [True, True, False]


def test_factors_orders_and_probabilities_are_the_recipes():
    n = 20000
    drawn = parameters(ViewsConfig(recipe="simclr"), np.arange(n // 2))
    low, high = np.array([0.2, 0.2, 0.2, -0.2]), np.array([1.8, 1.8, 1.8, 0.2])
    for column in range(4):
        uniform = stats.uniform(low[column], high[column] - low[column])
        assert stats.kstest(drawn.factors[:, column], uniform.cdf).pvalue > 1e-3
    counts = np.unique(drawn.order, axis=0, return_counts=True)[1]
    assert len(counts) == len(ORDERS) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    for share, expected in (
        (drawn.jitter, 0.8),
        (drawn.flip, 0.5),
        (drawn.gray, 0.2),
        (drawn.sigma > 0, 0.5),
    ):
        assert abs(share.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / n)
    blurred = drawn.sigma[drawn.sigma > 0]
    assert stats.kstest(blurred, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    assert not drawn.solarise.any()


def test_a_strong_jitter_never_turns_a_factor_negative():
    drawn = parameters(ViewsConfig(recipe="simclr", jitter_strength=2.0), np.arange(500))
    assert drawn.factors[:, :3].min() >= 0 and drawn.factors[:, :3].max() > 2


def test_asymmetric_sides_go_to_the_two_members_by_a_coin_of_the_pair():
    n = 8000
    drawn = parameters(ViewsConfig(recipe="byol"), np.arange(n))
    anchor_blurred, partner_blurred = drawn.sigma[:n] > 0, drawn.sigma[n:] > 0
    # One side is always blurred, the other one time in ten: never neither, both at 0.1.
    assert (anchor_blurred | partner_blurred).all()
    assert abs((anchor_blurred & partner_blurred).mean() - 0.1) < 0.02
    assert abs(anchor_blurred.mean() - 0.55) < 0.03
    assert abs(partner_blurred.mean() - 0.55) < 0.03
    # Solarise belongs to the side that is rarely blurred.
    solarised = np.concatenate([drawn.solarise[:n], drawn.solarise[n:]])
    assert abs(solarised.mean() - 0.1) < 0.01
    assert not (drawn.solarise[:n] & drawn.solarise[n:]).any()
