"""Keyed randomness: every draw is a pure function of its key.

Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", Philox4x32-10. A generator with a state
gives other numbers when workers, batches or a resume change the order of calls; a counter-based one gives
draw (seed, stream, epoch, occurrence, slot, operation) the same value always. The key is (seed, stream); the
128-bit counter is (occurrence, epoch, slot and operation, block).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sempairs.errors import UserError

UINT32 = 1 << 32
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_PIECE = 1 << 14  # keys worked on at once: the words in between take many times the memory of the draws
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Word = NDArray[np.uint64]


def philox(counter: tuple[Word, Word, Word, Word], key: tuple[int, int]) -> tuple[Word, Word, Word, Word]:
    """Ten rounds of Philox4x32 on words held in uint64 arrays of one shape; returns four words < 2**32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c1 = p1 & _LOW
        c2 = (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c3 = p0 & _LOW
        k0, k1 = (k0 + _W0) % UINT32, (k1 + _W1) % UINT32
    return c0, c1, c2, c3


def uniform(
    seed: int,
    stream: str,
    *,
    epoch: int = 0,
    occurrence: ArrayLike,
    slot: int = 0,
    operation: int = 0,
    n: int = 1,
) -> Float:
    """Draws in [0, 1) with 53 random bits, shape (B, n), for the B values of `occurrence`.

    Column j does not depend on n, row i only on occurrence[i].
    Raises: UserError for a seed outside [0, 2**32).
    """
    if not 0 <= seed < UINT32:
        raise UserError("seed", "must be in [0, 2**32)", seed)
    assert 0 <= epoch < UINT32 and 0 <= slot < 1 << 16 and 0 <= operation < 1 << 16
    assert n >= 1
    rows = np.atleast_1d(np.asarray(occurrence))
    blocks = np.arange((n + 1) // 2, dtype=np.uint64)
    key = (seed, _stream_word(stream))
    drawn = np.empty((len(rows), n))
    for start in range(0, len(rows), _PIECE):
        some = rows[start : start + _PIECE].astype(np.uint64)
        shape = (len(some), len(blocks))
        counter = (
            np.broadcast_to(some[:, None], shape),
            np.full(shape, epoch, dtype=np.uint64),
            np.full(shape, (slot << 16) | operation, dtype=np.uint64),
            np.broadcast_to(blocks, shape),
        )
        w0, w1, w2, w3 = philox(counter, key)
        out = np.empty((*shape, 2))
        out[..., 0] = _double(w0, w1)
        out[..., 1] = _double(w2, w3)
        drawn[start : start + _PIECE] = out.reshape(len(some), 2 * len(blocks))[:, :n]
    return drawn


def integers(
    seed: int,
    stream: str,
    *,
    high: ArrayLike,
    epoch: int = 0,
    occurrence: ArrayLike,
    slot: int = 0,
    operation: int = 0,
) -> Int:
    """One draw in [0, high) an occurrence, (B,); `high` is one bound or one each, all at least 1."""
    bounds = np.asarray(high, dtype=np.int64)
    assert np.all(bounds >= 1)
    u = uniform(seed, stream, epoch=epoch, occurrence=occurrence, slot=slot, operation=operation)[:, 0]
    return np.minimum((u * bounds).astype(np.int64), bounds - 1)


def permutation(seed: int, stream: str, *, epoch: int = 0, n: int) -> Int:
    """An order of range(n), (n,): the ranks of n keyed draws."""
    draws = uniform(seed, stream, epoch=epoch, occurrence=np.arange(n))[:, 0]
    return np.argsort(draws, kind="stable").astype(np.int64, copy=False)


def text_key(seed: int, stream: str, texts: Sequence[str]) -> Word:
    """A 64-bit hash of each text under (seed, stream), (N,): sort by it to sample independently of order."""
    prefix = f"{seed}\0{stream}\0".encode()
    digests = (
        hashlib.blake2b(prefix + text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def text_keys(seed: int, stream: str, pieces: Iterable[Any]) -> Word:
    """`text_key` of all texts of several Arrow arrays, one array after another."""
    keys = [text_key(seed, stream, piece.to_pylist()) for piece in pieces]
    return np.concatenate(keys) if keys else np.empty(0, dtype=np.uint64)


@contextmanager
def torch_draws(seed: int, stream: str, name: str, device: Any = None) -> Iterator[None]:
    """Key torch's global generators inside the block, for code that draws from nothing else.

    After the block they are what they were before.

    Args:
        seed, stream, name: the key.
        device: a torch.device. The generator of a CUDA device is keyed as well as that of the CPU; generators
            of other accelerators are left alone (torch.manual_seed would reseed them and not put them back).
    """
    import torch

    key = int(text_key(seed, stream, [name])[0]) >> 1
    cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(key)
        if cuda:
            torch.cuda.manual_seed(key)
        yield


@lru_cache
def _stream_word(stream: str) -> int:
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=4).digest(), "little")


def _double(high: Word, low: Word) -> Float:
    """53 bits of two words as a float64 in [0, 1)."""
    return ((high >> np.uint64(5)) * 67108864.0 + (low >> np.uint64(6))) / 9007199254740992.0
