"""Crops against torchvision's, and the weights for themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from sempairs.views.crop import resized_crop, triangles

TOLERANCE = 5e-7


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, int, int]]]:
    size, out = draw(st.sampled_from([(64, 32), (64, 64), (48, 33), (20, 32), (96, 7), (9, 1)]))
    chosen = []
    for _ in range(4):
        height, width = draw(st.integers(1, size)), draw(st.integers(1, size))
        corner = draw(st.integers(0, size - height)), draw(st.integers(0, size - width))
        chosen.append((*corner, height, width))
    return size, out, chosen


@settings(max_examples=60, deadline=None)
@given(boxes(), st.integers(0, 15), st.integers(0, 2**31))
def test_a_crop_is_torchvisions_antialiased_crop(case, flips, seed):
    size, out, chosen = case
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=generator)
    flip = torch.tensor([bool(flips >> i & 1) for i in range(4)])
    planes = resized_crop(images, torch.tensor(chosen, dtype=torch.float32), flip, out)
    for i, box in enumerate(chosen):
        expected = reference.resized_crop(images[i].float() / 255, *box, [out, out], antialias=True)
        if flip[i]:
            expected = expected.flip(-1)
        assert (planes[:, i] - expected).abs().max() <= TOLERANCE


@settings(max_examples=40, deadline=None)
@given(boxes())
def test_weights_are_shares_of_the_pixels_in_the_box(case):
    size, out, chosen = case
    start = torch.tensor([float(box[0]) for box in chosen])
    length = torch.tensor([float(box[2]) for box in chosen])
    weights = triangles(start, length, torch.zeros(4, dtype=torch.bool), size=size, out=out).weights()
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4, out))
    place = torch.arange(size)
    outside = (place < start[:, None]) | (place >= (start + length)[:, None])
    assert not weights[outside].any()


def test_the_whole_image_at_its_own_size_comes_out_as_it_was():
    images = torch.randint(0, 256, (3, 3, 17, 17), dtype=torch.uint8)
    box = torch.tensor([[0.0, 0.0, 17.0, 17.0]]).expand(3, 4)
    planes = resized_crop(images, box, torch.zeros(3, dtype=torch.bool), 17)
    torch.testing.assert_close(planes.transpose(0, 1), images / 255, atol=1e-7, rtol=0)


def test_colours_are_weighted_by_alpha():
    images = torch.randint(0, 256, (2, 4, 16, 16), dtype=torch.uint8)
    box = torch.tensor([[1.0, 2.0, 11.0, 9.0]]).expand(2, 4)
    planes = resized_crop(images, box, torch.zeros(2, dtype=torch.bool), 8)
    opaque = images.float() / 255
    opaque[:, :3] *= opaque[:, 3:]
    for i in range(2):
        expected = reference.resized_crop(opaque[i], 1, 2, 11, 9, [8, 8], antialias=True)
        assert (planes[:, i] - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("block", [1, 3, 100])
def test_how_many_are_worked_on_at_once_changes_nothing(monkeypatch, block):
    images = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    box = torch.tensor([[0.0, 1.0, 13.0, 14.0]]).expand(7, 4)
    flip = torch.arange(7) % 2 == 0
    whole = resized_crop(images, box, flip, 8)
    monkeypatch.setattr("sempairs.views.crop._AT_ONCE", 256 * block // torch.get_num_threads())
    assert torch.equal(resized_crop(images, box, flip, 8), whole)
