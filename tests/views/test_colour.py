"""Colour operations and blur against torchvision's on the same parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from sempairs.views.background import backdrop, composite
from sempairs.views.blur import blur_matrix, gaussian_blur, kernel_size
from sempairs.views.colour import blend_, grayscale_, shift_hue_, solarise_
from sempairs.views.crop import resized_crop
from sempairs.views.parameters import GRID

BATCH, SIZE = 12, 16
seeds = st.integers(0, 2**31)


def planes_of(seed: int) -> torch.Tensor:
    """Random planes, with the cases where a hue is hard: grays, ties, black, white, pure and nearly gray."""
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(3, BATCH, SIZE, SIZE, generator=generator)
    planes[:, 0] = planes[0, 0]
    planes[1, 1] = planes[0, 1]
    planes[2, 2] = planes[1, 2]
    planes[2, 3] = planes[0, 3]
    planes[:, 4] = planes[:, 4].round()
    planes[:, 5] = 0.5 + 1e-6 * planes[:, 5]
    planes[:, 6] = (planes[:, 6] * 255).round() / 255
    return planes


def worst(planes: torch.Tensor, expected: list[torch.Tensor]) -> float:
    return float((planes - torch.stack(expected, dim=1)).abs().max())


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["brightness", "contrast", "saturation"]))
def test_a_blend_is_torchvisions_adjustment(seed, name):
    planes = planes_of(seed)
    factor = torch.rand(BATCH, generator=torch.Generator().manual_seed(seed)) * 2
    factor[:2] = torch.tensor([0.0, 1.0])
    zero = torch.zeros(BATCH)
    of_gray = 1 - factor if name == "saturation" else zero
    of_mean = 1 - factor if name == "contrast" else zero
    adjust = getattr(reference, f"adjust_{name}")
    expected = [adjust(planes[:, i], float(factor[i])) for i in range(BATCH)]
    assert worst(blend_(planes, *(p[:, None, None] for p in (factor, of_gray, of_mean))), expected) <= 5e-7


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_a_hue_shift_is_torchvisions(seed):
    planes = planes_of(seed)
    shift = torch.rand(BATCH, generator=torch.Generator().manual_seed(seed)) - 0.5
    shift[:3] = torch.tensor([-0.5, 0.0, 0.5])
    expected = [reference.adjust_hue(planes[:, i], float(shift[i])) for i in range(BATCH)]
    assert worst(shift_hue_(planes, shift[:, None, None]), expected) <= 2e-6


def test_a_hue_shift_leaves_grays_bit_for_bit():
    gray = torch.rand(1, BATCH, SIZE, SIZE).expand(3, -1, -1, -1).clone()
    assert torch.equal(shift_hue_(gray.clone(), torch.linspace(-0.5, 0.5, BATCH)[:, None, None]), gray)


def test_gray_and_solarise_are_torchvisions():
    planes = planes_of(3)
    grays = [reference.rgb_to_grayscale(planes[:, i], 3) for i in range(BATCH)]
    solarised = [reference.solarize(planes[:, i], 0.5) for i in range(BATCH)]
    assert worst(grayscale_(planes.clone()), grays) <= 5e-7
    assert worst(solarise_(planes.clone()), solarised) == 0.0


@pytest.mark.parametrize(("size", "taps"), [(4, 3), (32, 3), (64, 7), (96, 9), (224, 23)])
def test_a_blur_is_torchvisions(size, taps):
    assert kernel_size(size) == taps
    generator = torch.Generator().manual_seed(size)
    planes = torch.rand(3, 6, size, size, generator=generator)
    sigma = torch.linspace(0.1, 2.0, 6)
    expected = [reference.gaussian_blur(planes[:, i], [taps, taps], [float(sigma[i])] * 2) for i in range(6)]
    assert worst(gaussian_blur(planes, sigma), expected) <= 2e-6


def test_a_blur_keeps_the_mean_of_each_row_of_weights():
    weights = blur_matrix(torch.tensor([0.1, 0.7, 2.0]), 9)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 9))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_crop_over_one_colour_equals_the_crop_of_the_image_over_it(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, 4, 20, 20), dtype=torch.uint8, generator=generator)
    draws = torch.rand(3, 6 + GRID * GRID, generator=generator)
    box = torch.tensor([[2.0, 1.0, 13.0, 18.0]]).expand(3, 4)
    behind = backdrop(draws, 12, texture=False)
    got = composite(resized_crop(images, box, torch.zeros(3, dtype=torch.bool), 12), behind)
    for i in range(3):
        alpha = images[i, 3:].float() / 255
        full = images[i, :3].float() / 255 * alpha + (1 - alpha) * draws[i, :3, None, None]
        expected = reference.resized_crop(full, 2, 1, 13, 18, [12, 12], antialias=True)
        assert (got[:, i] - expected).abs().max() <= 1e-6


def test_a_texture_lies_between_its_two_colours_and_has_its_grid_at_the_knots():
    draws = torch.rand(5, 6 + GRID * GRID)
    texture = backdrop(draws, 2 * GRID - 1, texture=True)
    first, second = draws[:, :3].T[:, :, None, None], draws[:, 3:6].T[:, :, None, None]
    assert (texture >= torch.minimum(first, second) - 1e-6).all()
    assert (texture <= torch.maximum(first, second) + 1e-6).all()
    grid = draws[:, 6:].view(5, GRID, GRID)
    torch.testing.assert_close(texture[:, :, ::2, ::2], first + (second - first) * grid)
