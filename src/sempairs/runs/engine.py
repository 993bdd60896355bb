"""The engine of every run: it goes on where the last session ended, takes steps, keeps states, and stops.

What is trained is a `Work`: it takes a step, and gives and takes back its state. A step is a pure function of
the state and the step's number; so a run that was killed at any moment ends bit for bit like one that was
not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from torch import Tensor

from sempairs.config import Config
from sempairs.errors import UserError
from sempairs.files import folder_lock
from sempairs.progress import bar
from sempairs.runs import folder, processes
from sempairs.runs.checkpoint import Found, disk_full_is_told, find_checkpoint, save_checkpoint
from sempairs.runs.signals import Interrupted, stop_signals


class Work(ABC):
    """What a run works on, one step after another.

    what: its name beside the progress bar. total: steps in all. save_every: steps between two checkpoints.
    identity: what a checkpoint must have been made of, by name, for this session to go on with it.
    resumed_by: what the same command needs beside, to go on.
    """

    what: str
    total: int
    save_every: int
    identity: Mapping[str, str]
    resumed_by: str = " and --resume"

    def __init__(self) -> None:
        self.stop = Event()  # asked of this process

    @abstractmethod
    def steps(self, start: int) -> Iterator[int]:
        """Take the steps that follow the first `start`; yield after each how many have been taken."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Every tensor that decides what comes next."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Put back what `state` and `scalars` gave."""

    def scalars(self) -> dict[str, Any]:
        """Whatever else decides what comes next or is reported in the end, as JSON values."""
        return {}

    def after(self, taken: int) -> str | None:
        """Do what follows a step, before its state is saved: record, look. Returns: a note for the bar."""
        return None

    def before_save(self) -> None:  # noqa: B027 (not all work has a record)
        """Bring the record to the disk: a state there never lacks the lines before it. First process only."""

    def stopping(self) -> bool:
        """Whether any process was asked to stop; all agree. Collective, once a step."""
        return processes.any_of(self.stop.is_set())

    def halted(self, taken: int) -> UserError | None:
        """What ends the run here, after its state is saved; None to go on. The same in all processes."""
        return None

    def changed(self, name: str) -> UserError:
        """What to say of an entry of `identity` that is another than in the checkpoint."""
        remedy = "restore it, or start afresh in another folder"
        return UserError(name, "is another than when the run began", remedy=remedy)


def finished(
    out: Path, recipe: Config, *, resume: bool, leave: Collection[str] = ()
) -> dict[str, Any] | None:
    """Look whether `out` can take a run of `recipe`, before anything is computed.

    Args:
        out: the run folder.
        recipe: what is asked for.
        resume: go on with what is there.
        leave: dotted fields of the recipe that may differ from those the run was started with.

    Returns: what a finished run wrote last, None for a run that starts or goes on.
    Raises: UserError for a folder in use, and for a run that was started with another recipe.
    """
    if resume and (out / folder.RECIPE).exists() and folder.has_state(out):
        folder.refuse_other_recipe(out, recipe, leave=leave)
        done = folder.finished(out)
        if done is not None:
            return done
    folder.refuse_if_used(out, resume=resume)
    return None


@contextmanager
def held(out: Path, *, resume: bool) -> Iterator[None]:
    """Hold the run folder for this run inside the block, by the first process for all. Collective.

    Raises: UserError if another process holds it or has used it meanwhile; and, for what happens inside, if
    the disk is full or another process of the run is gone.
    """
    with ExitStack() as holding, processes.lost_partner_is_told(), disk_full_is_told(out):

        def hold() -> None:
            holding.enter_context(folder_lock(out))
            folder.refuse_if_used(out, resume=resume)

        processes.from_first(hold)
        yield


def resume(work: Work, out: Path) -> int | None:
    """Put `work` into the newest sound state in `out`, and remove what a killed session left half-written.

    Collective. Returns: the number of steps it has taken; None for a start, for which earlier files of a run
    are removed.
    Raises: UserError if no state is sound, or if it was made of other things than this session has.
    """
    found = processes.from_first(partial(_find, out))
    last = found.checkpoint
    if last is None:
        return None
    kept = last.scalars["identity"]
    for name, value in work.identity.items():
        if kept.get(name, value) != value:
            raise work.changed(name)
    for path, reason in found.rejected:
        line = f"checkpoint {path.name} is corrupt ({reason}); using the previous one, of step {last.step}"
        processes.say(line)
        if processes.rank() == 0:
            folder.remove(path)
    work.restore(last.tensors, last.scalars)
    processes.say(f"going on from step {last.step} of {work.total}")
    return last.step


def drive(work: Work, out: Path, *, start: int = 0) -> None:
    """Take all steps of `work` after the first `start`, with checkpoints in `out`, the last one at the end.

    Raises: what `Work.halted` gives; Interrupted after Ctrl-C or the system's request to end, when the state
    is saved. Collective.
    """
    total = work.total
    with (
        stop_signals(work.stop),
        bar(total=total, what=work.what, unit="step", initial=start) as shown,
    ):
        for taken in work.steps(start):
            note = work.after(taken)
            if note is not None:
                shown.set_postfix_str(note, refresh=False)
            shown.update(1)
            stopping, halted = work.stopping(), work.halted(taken)
            if taken % work.save_every == 0 or taken == total or stopping or halted is not None:
                processes.from_first(partial(_save, work, out, taken))
            if halted is not None and taken < total:
                raise halted
            if stopping and taken < total:
                done = f"stopped and saved after step {taken} of {total}"
                raise Interrupted(f"{done}; go on with the same command{work.resumed_by}")


def _find(out: Path) -> Found:
    found = find_checkpoint(out / folder.CHECKPOINTS)
    folder.clean(out, afresh=found.checkpoint is None)
    return found


def _save(work: Work, out: Path, taken: int) -> None:
    work.before_save()
    scalars = {"identity": dict(work.identity), **work.scalars()}
    save_checkpoint(out / folder.CHECKPOINTS, taken, work.state(), scalars)
