"""How an epoch's pairs are cut into batches: keyed, and the same in every arm, as meanings are.

A sampler is a config. Its steps an epoch follow from the meanings of the pairs, its order from seed and epoch
as well.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.config import Config
from sempairs.errors import UserError
from sempairs.registry import Registry, Section

Int = NDArray[np.int64]
STREAM = "order"
# Operations of the keyed draw: of each pair its place, and whether it is left out; of meanings; of batches.
PLACE, LEFT_OUT, MEANING, BATCH = range(4)


class SamplerConfig(Config):
    """Settings of a sampler. Each narrows `name` to a literal."""

    name: str

    def steps(self, meaning: Int, batch_size: int) -> int:
        """Batches an epoch of the pairs with these meanings (N,). Raises: UserError if there is none."""
        raise NotImplementedError

    def order(self, meaning: Int, batch_size: int, *, seed: int, epoch: int) -> Int:
        """The occurrences of an epoch, batch after batch; there may be more after the last whole one."""
        raise NotImplementedError


SAMPLERS: Registry[type[SamplerConfig]] = Registry("sampler")

#: A recipe's section `sampler`: the sampler that its `name` says.
AnySampler = Annotated[SamplerConfig, Section(SAMPLERS)]


@SAMPLERS.register
class Shuffled(SamplerConfig):
    """All pairs in a keyed order. Those after the last whole batch, other ones each epoch, are left out."""

    name: Literal["shuffled"] = "shuffled"

    def steps(self, meaning: Int, batch_size: int) -> int:
        return steps_per_epoch(len(meaning), batch_size)

    def order(self, meaning: Int, batch_size: int, *, seed: int, epoch: int) -> Int:
        return keyed.permutation(seed, STREAM, epoch=epoch, n=len(meaning))


@SAMPLERS.register
class DistinctMeanings(SamplerConfig):
    """No meaning twice in a batch, so that no negative of the batch has the anchor's meaning.

    S batches, the most for which there are pairs enough, hold at most S pairs of a meaning. What a meaning
    has beyond that is left out, and of the rest what S batches do not need: drawn by key, other pairs each
    epoch. So an epoch is shorter than a shuffled one where some meanings are frequent.
    """

    name: Literal["distinct_meanings"] = "distinct_meanings"

    def steps(self, meaning: Int, batch_size: int) -> int:
        counts = np.unique(meaning, return_counts=True)[1]
        # Σ min(count, S) − S · batch_size is concave in S and 0 at 0: what fits is all S up to the largest.
        low, high = 0, len(meaning) // batch_size
        while low < high:
            middle = (low + high + 1) // 2
            enough = np.minimum(counts, middle).sum() >= middle * batch_size
            low, high = (middle, high) if enough else (low, middle - 1)
        if not low:
            rule = (
                f"must be at most the {len(counts)} meanings of an epoch, of which no batch holds one twice"
            )
            raise UserError("batch_size", rule, batch_size, "lower it, or set sampler to shuffled")
        return low

    def order(self, meaning: Int, batch_size: int, *, seed: int, epoch: int) -> Int:
        steps = self.steps(meaning, batch_size)

        def draw(operation: int, keys: Int) -> NDArray[np.float64]:
            drawn = keyed.uniform(seed, STREAM, epoch=epoch, occurrence=keys, operation=operation)
            return drawn[:, 0]

        every = np.arange(len(meaning))
        place = draw(PLACE, every)
        by_meaning = np.lexsort((place, meaning))
        first = np.flatnonzero(np.diff(meaning[by_meaning], prepend=meaning.min() - 1))
        size = np.diff(first, append=len(meaning))
        kept = by_meaning[every - np.repeat(first, size) < steps]
        needed = steps * batch_size
        kept = kept[np.argsort(draw(LEFT_OUT, kept), kind="stable")[:needed]]
        # Dealt out meaning by meaning, one pair a batch in turn: a meaning's pairs, at most S, go to
        # different batches, and each batch gets as many as another.
        order = kept[np.lexsort((place[kept], meaning[kept], draw(MEANING, meaning[kept])))]
        batch = np.argsort(draw(BATCH, np.arange(steps)), kind="stable")[np.arange(needed) % steps]
        return np.asarray(order[np.lexsort((place[order], batch))], dtype=np.int64)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in `n` pairs. Raises: UserError if there is none."""
    if batch_size > n:
        raise UserError("batch_size", f"must be at most the {n} pairs of an epoch", batch_size)
    return n // batch_size
