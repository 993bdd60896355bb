"""Draws of sides and orders: fair, of the pair alone, and SplitMix64 as published."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sempairs.methods.sides import _mixed, draw_order, draw_sides, in_groups, on_sides

PAIRS = torch.arange(4096)


def splitmix(value: int) -> int:
    """The generator's output function on plain integers."""
    full = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & full
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & full
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & full
    return value ^ (value >> 31)


def test_the_mix_is_that_of_plain_integers():
    assert splitmix(0) == 0xE220A8397B1DCDAF  # the published first output for seed 0
    numbers = [0, 1, 2, 12345, (1 << 62) + 7]
    got = [value % (1 << 64) for value in _mixed(torch.tensor(numbers)).tolist()]
    assert got == [splitmix(number) for number in numbers]


def test_sides_are_a_fair_coin_for_each_pair_and_turn():
    first, second = draw_sides(PAIRS, 0), draw_sides(PAIRS, 256)
    for share in (first, second, first ^ second, first[1:] ^ first[:-1]):
        assert abs(share.double().mean() - 0.5) < 4 * 0.5 / len(PAIRS) ** 0.5
    turns = torch.stack([draw_sides(torch.tensor([7]), 64 * turn) for turn in range(1024)])
    assert abs(turns.double().mean() - 0.5) < 4 * 0.5 / 32


def test_a_draw_is_of_its_own_pair_alone():
    some = torch.tensor([5, 900, 17])
    assert torch.equal(draw_sides(PAIRS, 3)[some], draw_sides(some, 3))
    assert torch.equal(draw_sides(some, torch.tensor(3)), draw_sides(some, 3))


def test_rows_change_sides_where_drawn():
    left, right = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    a, b = on_sides(left, right, torch.tensor([True, False, True]))
    assert a[:, 0, 0].tolist() == [1, 0, 1]
    assert torch.equal(b, 1 - a)


def test_orders_are_permutations_that_differ_by_turn():
    first, second = draw_order(PAIRS, 0), draw_order(PAIRS, 1)
    assert torch.equal(first.sort().values, PAIRS)
    assert not torch.equal(first, second)
    assert (first == second).sum() < 10


@pytest.mark.parametrize("order", [None, torch.tensor([4, 2, 0, 6, 1, 3, 5])])
def test_groups_are_normalised_by_themselves_and_rows_keep_their_places(order):
    images = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    whole, split = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    got = in_groups(split, images, 3, order)
    dealt = torch.arange(7) if order is None else order
    for part in dealt.tensor_split(3):
        torch.testing.assert_close(got[part], whole(images[part]))
    assert torch.equal(in_groups(nn.Identity(), images, 3, order), images)


@pytest.mark.parametrize(("groups", "sizes"), [(1, [5]), (2, [3, 2]), (4, [3, 2]), (99, [3, 2])])
def test_a_group_has_two_images_at_least(groups, sizes):
    seen = []
    in_groups(lambda part: seen.append(len(part)) or part, torch.zeros(5, 1), groups)
    assert seen == sizes
