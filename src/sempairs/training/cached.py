"""Large batches on small memory: gradients cached at the encoder's output. Gao et al. 2021, arXiv:2101.06983.

A loss over pairs of a whole batch cannot be added up from pieces of the batch. But it reaches the encoder
through its outputs alone. So the batch passes the encoder in micro-batches that keep no activations; heads
and loss run on all outputs together, and the loss's gradient at these outputs is what is cached; then one
micro-batch after the other passes again, with activations, and takes its part of that gradient further back.
Nothing of this is a method's business: whatever it calls of its encoders is cut into micro-batches, those
without gradients (momentum encoders) as well.

The second pass repeats the first's random draws, and moves no running statistics of batch normalisation. The
gradient is that of the whole batch, exactly, if the encoder has no batch normalisation; if it has, statistics
are taken over each micro-batch (with several processes, over the matching ones of all). Norms in heads see
the whole batch.

Departure from the paper, which runs a backward pass of its own for each micro-batch: the second pass happens
inside the one backward pass (`torch.utils.checkpoint`), so that hooks on gradients, and with them
data-parallel training, see each parameter's gradient once and whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from sempairs.methods import Method

Forward = Callable[[Tensor], Tensor]


def encoders(method: Method) -> list[nn.Module]:
    """The method's encoder, and whatever in it is built alike: the networks that follow it."""

    def shapes(module: nn.Module) -> dict[str, torch.Size]:
        return {name: p.shape for name, p in module.named_parameters()}

    kind, own = type(method.encoder), shapes(method.encoder)
    alike = [m for m in method.modules() if type(m) is kind and shapes(m) == own]
    return alike if own else [method.encoder]


def normalises_batches(method: Method) -> bool:
    """Whether the encoder has layers whose output for an image depends on the others of its batch."""
    return any(isinstance(module, _BatchNorm) for module in method.encoder.modules())


def micro_batch_note(method: Method, micro_batch: int | None, pairs: int) -> str | None:
    """What a run says about micro-batches of at most `micro_batch` of a process's `pairs`, if anything."""
    if micro_batch is None or micro_batch >= pairs or not normalises_batches(method):
        return None
    sizes = _piece_sizes(pairs, micro_batch)
    return (
        f"micro_batch: the encoder's batch normalisation takes its statistics over {sizes[0]} pairs at a "
        f"time instead of {pairs}; heads and loss see all {pairs}"
    )


@contextmanager
def micro_batches(method: Method, micro_batch: int | None, pairs: int) -> Iterator[None]:
    """Inside the block, encoders of `method` take at most `micro_batch` pairs' crops at once.

    pairs: how many the batch has. Crops that the method passes together stay together: of a call with the
    crops of both members, each micro-batch holds both of its pairs. Pieces are as near equal as can be. The
    backward pass may come after the block. null: encoders are left alone.
    """
    if micro_batch is None or micro_batch >= pairs:
        yield
        return
    with ExitStack() as stack:
        for encoder in encoders(method):
            stack.enter_context(_in_pieces(encoder, micro_batch, pairs))
        yield


@contextmanager
def _in_pieces(encoder: nn.Module, micro_batch: int, pairs: int) -> Iterator[None]:
    real: Forward = encoder.forward
    compiled = "forward" in vars(encoder)
    again = _second_pass(encoder)

    def forward(images: Tensor) -> Tensor:
        crops = len(images) // pairs if len(images) % pairs == 0 else 1
        sizes = _piece_sizes(len(images) // crops, micro_batch)
        # One list of pieces for each crop; then, for each piece, that of every crop.
        pieces = zip(*(torch.split(crop, sizes) for crop in images.chunk(crops)), strict=True)
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())
        outputs: list[Tensor] = []
        for piece in pieces:
            joined = torch.cat(piece) if crops > 1 else piece[0]
            # Weights that autocast keeps in half precision would add up the pieces' gradients in it.
            torch.clear_autocast_cache()
            if learns:
                outputs.append(checkpoint(real, joined, use_reentrant=False, context_fn=lambda: again))
            else:
                outputs.append(real(joined))
        by_crop = zip(*(output.chunk(crops) for output in outputs), strict=True)
        return torch.cat([part for crop in by_crop for part in crop])

    encoder.forward = forward
    try:
        yield
    finally:
        if compiled:
            encoder.forward = real
        else:
            del encoder.forward


def _second_pass(
    encoder: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The surroundings of both passes: in the second, running statistics go to copies nobody reads."""
    return nullcontext(), cast("AbstractContextManager[None]", _Aside(encoder))


class _Aside:
    """Inside, buffers of batch normalisation are copies. Swapped, not restored: autograd may hold them."""

    def __init__(self, encoder: nn.Module) -> None:
        self.norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
        self.copies: list[dict[str, Tensor | None]] | None = None

    def _swap(self) -> None:
        assert self.copies is not None
        for norm, buffers in zip(self.norms, self.copies, strict=True):
            for name, other in buffers.items():
                buffers[name], norm._buffers[name] = norm._buffers[name], other

    def __enter__(self) -> None:
        if self.copies is None:
            self.copies = [
                {name: None if value is None else value.clone() for name, value in norm._buffers.items()}
                for norm in self.norms
            ]
        self._swap()

    def __exit__(self, *raised: object) -> None:
        self._swap()


def _piece_sizes(n: int, most: int) -> list[int]:
    """`n` rows in the fewest pieces of at most `most`: as near equal as can be, larger ones first."""
    count = math.ceil(n / most)
    return [n // count + (i < n % count) for i in range(count)]
