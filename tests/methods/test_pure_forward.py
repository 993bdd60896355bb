"""A forward pass can be repeated: it gives the same loss, and only batch statistics remember it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sempairs.methods import Method
from sempairs.testing.methods import STATISTICS
from sempairs.views.records import Views

from .conftest import VARIANTS, build_variant

SMALL = {"hidden": 8, "out": 5, "predictor_hidden": 7, "queue": 12, "neighbours": 2, "prototypes": 6}

Build = Callable[[], Method]
Advance = Callable[[Method, int], None]


@pytest.fixture(params=VARIANTS)
def build(request: pytest.FixtureRequest, new_encoder: Callable[[], nn.Module]) -> Build:
    """Builds the same method again and again."""
    return lambda: build_variant(request.param, new_encoder(), SMALL)


@pytest.fixture
def method(build: Build) -> Method:
    return build()


@pytest.fixture
def seen(method: Method, new_views: Callable[..., Views]) -> Callable[[int], Views]:
    """The views of a seed that the method asks for."""
    return lambda seed: new_views(slots=method.slots, local=2 if method.takes_local else 0, seed=seed)


@pytest.fixture
def advance(seen: Callable[[int], Views]) -> Advance:
    """One whole step, so that queues hold something and targets are not their networks any more."""

    def run(method: Method, step: int) -> None:
        method.before_step(step / 10)
        method.zero_grad()
        method(seen(step)).loss.backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        method.after_step(step / 10)

    return run


def state(method: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def changed(method: Method, before: dict[str, Tensor]) -> set[str]:
    after = method.state_dict()
    assert after.keys() == before.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_forward_may_be_repeated_and_leaves_everything_but_batch_statistics(method, seen, advance) -> None:
    for step in range(2):
        advance(method, step)
    method.before_step(0.2)
    before = state(method)
    first, second = method(seen(7)), method(seen(7))
    assert torch.equal(first.loss, second.loss)
    assert first.logs.keys() == second.logs.keys()
    assert all(torch.equal(first.logs[name], second.logs[name]) for name in first.logs)
    assert torch.equal(first.embeddings, second.embeddings)
    moved = changed(method, before)
    assert {name for name in moved if not name.endswith(STATISTICS)} == set()
    assert moved  # the encoder has a normalisation, which did see the batches


def test_gradients_of_a_repeated_forward_are_the_same(method, seen, advance) -> None:
    advance(method, 0)
    method.before_step(0.1)
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    one, other = (torch.autograd.grad(method(seen(7)).loss, parameters, allow_unused=True) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


def test_forwards_without_a_step_leave_no_trace_in_the_steps_that_follow(
    build, method, seen, advance
) -> None:
    twin = build()
    for step in range(3):
        twin(seen(step + 9))
        advance(method, step)
        advance(twin, step)
    assert {name for name in changed(method, state(twin)) if not name.endswith(STATISTICS)} == set()


def test_what_a_method_carries_changes_after_the_step(method, seen, advance) -> None:
    """Targets follow their networks, and queues and centres take in the batch."""
    advance(method, 0)
    method.before_step(0.1)
    method(seen(7))
    before = state(method)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    online = changed(method, before)
    carried = {name for name in before if name not in online and not name.endswith(STATISTICS)}
    method.after_step(0.1)
    assert carried <= changed(method, before)
    assert bool(carried) == method.stateful
