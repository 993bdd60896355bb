"""Several processes as one run: who they are, and how they agree.

torchrun or SLURM's srun starts them; lightning-fabric joins them. The first of them (rank 0) alone writes and
speaks; whatever may fail there fails in all (`from_first`). With one process nothing here communicates.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from sempairs.errors import UserError
from sempairs.methods.distributed import layout_of

T = TypeVar("T")


class Launch(NamedTuple):
    """What started this process, as its environment tells: processes a machine, machines, its rank."""

    per_node: int
    nodes: int
    rank: int

    @property
    def processes(self) -> int:
        return self.per_node * self.nodes


def launch() -> Launch:
    """How this process was started, before anything is joined.

    Raises: UserError where the environment speaks of several processes that nothing known has started.
    """
    # Fabric's own ways of telling.
    from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        world, per_node = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        return Launch(per_node, world // per_node, int(os.environ["RANK"]))
    if "SLURM_PROCID" in os.environ and SLURMEnvironment.detect():
        world, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
        return Launch(world // nodes, nodes, int(os.environ["SLURM_PROCID"]))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        remedy = "use torchrun --nproc-per-node N -m sempairs pretrain, or srun"
        raise UserError("WORLD_SIZE", "is of processes started by hand", os.environ["WORLD_SIZE"], remedy)
    return Launch(1, 1, 0)


def count() -> int:
    """How many processes have joined."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is."""
    return dist.get_rank() if count() > 1 else 0


def say(line: str) -> None:
    """One line to the user on stderr, beside a progress bar that may be there, from the first process."""
    if rank() == 0:
        tqdm.write(line, file=sys.stderr)


@contextmanager
def arithmetic_threads(count: int | None) -> Iterator[None]:
    """torch's number of threads for arithmetic, inside the block."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share_of(batch_size: int) -> int:
    """How many pairs of a batch each process gets. Raises: UserError if not equally many, or fewer than 2."""
    if batch_size < 2 * count():
        remedy = f"use at least {2 * count()}, or fewer processes"
        raise UserError("batch_size", f"must be 2 pairs for each of {count()} processes", batch_size, remedy)
    if batch_size % count():
        remedy = f"use a multiple of {count()}, or another number of processes"
        raise UserError("batch_size", f"must be divisible by the {count()} processes", batch_size, remedy)
    return batch_size // count()


def from_first(call: Callable[[], T]) -> T:
    """What `call` returns in the first process, for all; the others wait meanwhile. Collective.

    Raises: whatever it raises there; in the others the same as UserError.
    """
    if count() == 1:
        return call()
    told: list[Any] = [None, None]
    failure: Exception | None = None
    if rank() == 0:
        try:
            told[0] = call()
        except Exception as error:
            failure, told[1] = error, str(error) or type(error).__name__
    dist.broadcast_object_list(told)
    if failure is not None:
        raise failure
    if told[1] is not None:
        raise UserError(told[1], "")
    return told[0]  # type: ignore[no-any-return]


def any_of(asked: bool) -> bool:
    """Whether it is so in any process. Collective."""
    if count() == 1:
        return asked
    every: list[Any] = [False] * count()
    dist.all_gather_object(every, asked)
    return any(every)


@contextmanager
def lost_partner_is_told() -> Iterator[None]:
    """Turns "the other side hung up" inside the block into one line for the user. Raises: UserError."""
    try:
        yield
    except RuntimeError as error:
        lost = "gloo" in str(error) and "onnection" in str(error)
        if count() == 1 or not (lost or isinstance(error, dist.DistBackendError)):
            raise
        remedy = "see what it said; run again with --resume, what was saved before is intact"
        raise UserError("processes", "must all go on, but another one ended", remedy=remedy) from error


def refuse_unless_same(what: dict[str, str]) -> None:
    """Raises: UserError in all processes for the first key whose value differs between them. Collective."""
    if count() == 1:
        return
    every: list[Any] = [None] * count()
    dist.all_gather_object(every, what)
    for key in what:
        if any(other[key] != every[0][key] for other in every):
            remedy = "give all of them the same images and the same version of sempairs"
            raise UserError("data", f"must be the same in all processes, but {key} differs", remedy=remedy)


def rows_of_all(values: Tensor) -> list[list[float]]:
    """`values` (n,) of every process, in order of rank; the one look at the device. Collective."""
    if count() == 1:
        return [values.tolist()]
    parts = [torch.empty_like(values) for _ in range(count())]
    dist.all_gather(parts, values)
    every: list[list[float]] = torch.stack(parts).tolist()
    return every


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (B, …) of all processes in order of rank, without gradient. Collective."""
    rows = rows.detach()
    return layout_of(rows).gather(rows)


def first_to_tell() -> bool:
    """Whether this process is the first of its launch that failed, and so the one to say why.

    What fails in one process soon fails in all, for the same reason or because a partner is gone. Asked once,
    at the end of a process; it works before processes have joined and after they have lost each other.
    """
    try:
        started = launch()
    except UserError:
        return True
    if started.processes == 1:
        return True
    # torchrun starts a failed group again, under the same address.
    key = f"sempairs/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5)
        )
        first = bool(store.add(key, 1) == 1)
    except (KeyError, RuntimeError):  # nobody keeps the count: not yet, or no longer
        first = started.rank == 0
    if not first:
        # torchrun ends all as soon as one has ended: the one that speaks needs a moment.
        time.sleep(1.0)
    return first
