"""Keyed randomness: known answers, purity, and the laws the draws should follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sempairs import keyed
from sempairs.errors import UserError


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's published known answers for philox4x32-10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    words = tuple(np.array([c], dtype=np.uint64) for c in counter)
    assert tuple(int(w[0]) for w in keyed.philox(words, key)) == expected


@given(
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 10_000),
    occurrences=st.lists(st.integers(0, 2**31), min_size=1, max_size=20),
    n=st.integers(1, 7),
)
def test_a_draw_depends_on_its_key_alone(seed, epoch, occurrences, n):
    whole = keyed.uniform(seed, "views", epoch=epoch, occurrence=occurrences, n=n)
    assert whole.shape == (len(occurrences), n)
    assert ((whole >= 0) & (whole < 1)).all()
    for row, occurrence in enumerate(occurrences):
        alone = keyed.uniform(seed, "views", epoch=epoch, occurrence=[occurrence], n=n + 3)
        np.testing.assert_array_equal(alone[0, :n], whole[row])


def test_every_part_of_the_key_matters():
    base = {"epoch": 1, "slot": 1, "operation": 1}
    draws = [keyed.uniform(0, "views", occurrence=np.arange(50), n=2, **base)]
    draws += [keyed.uniform(0, "views", occurrence=np.arange(50), n=2, **(base | {k: 2})) for k in base]
    draws.append(keyed.uniform(1, "views", occurrence=np.arange(50), n=2, **base))
    draws.append(keyed.uniform(0, "pairing", occurrence=np.arange(50), n=2, **base))
    for i, a in enumerate(draws):
        for b in draws[i + 1 :]:
            assert not np.isin(a, b).any()


def test_draws_are_uniform_and_uncorrelated():
    u = keyed.uniform(3, "views", occurrence=np.arange(20_000), n=4)
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.03


@given(seed=st.integers(0, 1000), n=st.integers(0, 300))
def test_permutation_holds_each_number_once(seed, n):
    np.testing.assert_array_equal(np.sort(keyed.permutation(seed, "order", n=n)), np.arange(n))


def test_integers_stay_below_each_bound_and_reach_all():
    bounds = np.tile([1, 2, 5], 4000)
    drawn = keyed.integers(0, "pairing", high=bounds, occurrence=np.arange(12_000))
    for bound in (1, 2, 5):
        counts = np.bincount(drawn[bounds == bound], minlength=bound)
        assert len(counts) == bound
        assert stats.chisquare(counts).pvalue > 1e-3 or bound == 1


def test_text_keys_do_not_depend_on_company():
    keys = keyed.text_key(0, "splits", ["a", "b", "\udcff"])
    assert keyed.text_key(0, "splits", ["b"])[0] == keys[1]
    assert len(set(keys.tolist())) == 3


def test_torch_draws_are_of_their_key_and_leave_torchs_state_alone():
    before, masks = torch.get_rng_state(), {}
    keys = ((0, "dropout", "0 0"), (0, "dropout", "1 0"), (1, "dropout", "0 0"), (0, "weights", "0 0"))
    for key in (*keys, keys[0]):
        with pytest.raises(RuntimeError), keyed.torch_draws(*key, torch.device("cpu")):
            drawn = torch.rand(8)
            raise RuntimeError
        assert key not in masks or torch.equal(masks[key], drawn)
        masks[key] = drawn
    assert len({tuple(mask.tolist()) for mask in masks.values()}) == 4
    assert torch.equal(torch.get_rng_state(), before)
    known = torch.Generator().manual_seed(int(keyed.text_key(0, "weights", ["0 0"])[0]) >> 1)
    assert torch.equal(torch.rand(8, generator=known), masks[keys[3]])


def test_seed_out_of_range_is_a_users_error():
    with pytest.raises(UserError, match="seed must be in"):
        keyed.uniform(-1, "views", occurrence=[0])
