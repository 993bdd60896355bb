"""The queue against a plain list, whatever the sizes of its batches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sempairs.methods.queue import Queue

WIDTH = 3


def batch(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, WIDTH, generator=generator), torch.randint(-1, 5, (size,), generator=generator)


@given(size=st.integers(1, 9), counts=st.lists(st.integers(0, 20), max_size=8))
def test_holds_the_last_rows_each_once(size, counts):
    queue = Queue(size, WIDTH)
    rows, ids = [], []
    for seed, count in enumerate(counts):
        vectors, meaning = batch(count, seed)
        queue.push(vectors, meaning)
        rows += [F.normalize(row, dim=0) for row in vectors]
        ids += meaning.tolist()
    total = len(rows)
    assert queue.filled == min(size, total)
    assert queue.full_places.sum() == queue.filled
    for number in range(max(0, total - size), total):  # row number n lies at n modulo the size
        torch.testing.assert_close(queue.vectors[number % size], rows[number])
        assert queue.meaning[number % size] == ids[number]
    assert (queue.meaning[~queue.full_places] == -1).all()


def test_starts_with_random_unit_vectors_that_count_as_empty():
    queue = Queue(50, WIDTH)
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(50))
    assert queue.vectors.std(dim=0).min() > 0.3
    assert queue.filled == 0
    assert (queue.meaning == -1).all()
    assert not queue.full_places.any()


def test_the_oldest_leave_first_by_hand():
    queue = Queue(3, 2)
    for number in range(5):
        queue.push(torch.tensor([[0.0, 1.0 + number]]), torch.tensor([number]))
    assert queue.meaning.tolist() == [3, 4, 2]
    queue.push(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([8, 9]))
    assert queue.meaning.tolist() == [9, 4, 8]
    assert queue.vectors[2].tolist() == [1, 0]


def test_state_goes_on_where_it_was():
    first, second = Queue(7, WIDTH), Queue(7, WIDTH)
    for seed in range(3):
        first.push(*batch(4, seed))
    second.load_state_dict(first.state_dict())
    for seed in range(3, 6):
        for queue in (first, second):
            queue.push(*batch(5, seed))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_rows_of_half_precision_become_the_queues_own_and_carry_no_gradient():
    queue = Queue(4, WIDTH)
    rows = torch.randn(4, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    queue.push(rows, torch.arange(4))
    assert queue.vectors.dtype == torch.float32
    assert not queue.vectors.requires_grad
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((4, 2), (4,)), ((4, WIDTH), (3,)), ((4, WIDTH), (4, 1))])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match="must be"):
        Queue(8, WIDTH).push(torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.int64))
