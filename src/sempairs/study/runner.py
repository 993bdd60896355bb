"""Runs a study: one process a cell, some side by side, each resumable, none able to take the others down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sempairs.config import validate
from sempairs.files import folder_lock, stable_hash
from sempairs.progress import bar
from sempairs.runs.signals import Interrupted, stop_signals
from sempairs.study.folder import (
    Outcome,
    cell_folder,
    cell_progress,
    cell_results,
    read_outcome,
    write_outcome,
)
from sempairs.study.gathered import Gathered
from sempairs.study.plan import Cell, Plan, check_out, freeze, make_plan
from sempairs.study.recipe import StudyRecipe
from sempairs.study.report import write_report
from sempairs.study.seal import RECORD, seal_pictures
from sempairs.study.sights import write_sights

POLL = 0.5  # seconds between looks at the running cells
GRACE = 10.0  # seconds a cell gets to end after being told to
# Work, for the progress bar: of a pretraining cell, of its steps alone, of scoring random weights.
CELL_WORK, STEPS_WORK, REFERENCE_WORK = 100, 85, 15
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]


def run_study(study: StudyRecipe, out: Path, *, jobs: int | None = None) -> Gathered:
    """Plan, run what is not finished, certify, test, and write the report.

    jobs: cells side by side, the recipe's number if None. Running again in the same folder resumes.
    Raises: UserError for a recipe that does not hold, a folder in use or bound to another plan, data that
    cannot be read; KeyboardInterrupt after ending the children.
    """
    plan = make_plan(study, out)
    check_out(plan, out)
    with folder_lock(out):
        freeze(plan, out)
        prepare(plan, out)
        run_cells(plan, out, jobs=jobs or study.jobs)
        if write_sights(plan, out):
            seal_pictures(out, "sights")
        return write_report(out)


def prepare(plan: Plan, out: Path) -> None:
    """Builds what all cells share, once: the pixel stores, and the pictures of example pairs."""
    from sempairs.study.examples import write_examples
    from sempairs.training.data import load_data
    from sempairs.training.recipe import PretrainRecipe

    waiting = [c for c in plan.cells if c.kind == "train" and read_outcome(out, c).state != "finished"]
    seen: set[str] = set()
    for cell in waiting:
        recipe = validate(PretrainRecipe, cell.recipe)
        images = stable_hash([cell.recipe["data"], recipe.monitor.split])
        if images not in seen:
            seen.add(images)
            load_data(recipe, pixel_cache=out / "pixels")
    if not (out / "examples" / "index.json").exists():
        write_examples(plan, out)
        seal_pictures(out, "examples")


def run_cells(plan: Plan, out: Path, *, jobs: int) -> None:
    """Runs every cell that is not finished; a broken one is recorded and the others go on.

    Raises: Interrupted after Ctrl-C or SIGTERM, when no child is left.
    """
    waiting = [cell for cell in plan.cells if not _is_finished(plan, out, cell)]
    if not waiting:
        return
    running: list[_Running] = []
    stop = threading.Event()
    # Nothing is raised: an exception between the start of a cell and the note of it would leave the cell
    # running, with nobody to end it.
    with _progress(plan, out, waiting) as shown, stop_signals(stop, told="", insist=False):
        try:
            while (waiting or running) and not stop.is_set():
                while waiting and len(running) < jobs:
                    running.append(_start(plan, out, waiting.pop(0)))
                time.sleep(POLL)
                for entry in [r for r in running if r.process.poll() is not None]:
                    running.remove(entry)
                    shown.settled(entry.cell, _settle(out, entry))
                shown.update(running)
        finally:
            _end(running)
        if waiting or running:
            raise Interrupted("stopped; finished cells are kept, and the others can go on")


def _is_finished(plan: Plan, out: Path, cell: Cell) -> bool:
    outcome = read_outcome(out, cell)
    if outcome.state != "finished":
        return False
    # Results may have been removed or damaged since; the encoder is there, so only scoring is repeated.
    scored = {result.task for result in cell_results(out, cell) if result.primary}
    if scored >= set(plan.study.tasks) and (cell_folder(out, cell) / RECORD).exists():
        return True
    write_outcome(out, cell, replace(outcome, state="interrupted"))
    return False


def _start(plan: Plan, out: Path, cell: Cell) -> _Running:
    folder = cell_folder(out, cell)
    folder.mkdir(parents=True, exist_ok=True)
    threads = dict.fromkeys(THREAD_VARIABLES, str(plan.study.threads))
    environment = {**os.environ, **threads, "PYTHONUNBUFFERED": "1", "SEMPAIRS_RUNNER": str(os.getpid())}
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sempairs.study.cell", str(out), cell.id],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # A group of its own: Ctrl-C reaches the runner alone, which then ends the cells one by one.
            start_new_session=True,
        )
    return _Running(cell, process)


def _settle(out: Path, entry: _Running) -> str:
    """The line that says how a cell ended; a cell that could not write its own outcome gets one here."""
    outcome, status = read_outcome(out, entry.cell), entry.process.returncode
    if outcome.state not in ("finished", "broken"):
        signalled = f"ended by signal {-status}" + (" (out of memory?)" if status == -signal.SIGKILL else "")
        error = signalled if status < 0 else f"ended with status {status}; see its log.txt"
        outcome = Outcome("broken", error, outcome.seconds, hash=entry.cell.hash)
        write_outcome(out, entry.cell, outcome)
    if outcome.state == "broken":
        return f"{entry.cell.id} broke: {outcome.error}"
    return f"{entry.cell.id} finished in {outcome.seconds:.0f} s"


def _end(running: list[_Running]) -> None:
    """Ends the children: asks, waits, insists. Nothing is lost but the steps since their last checkpoint."""
    for entry in running:
        _signal(entry, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for entry in running:
        try:
            entry.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(entry, signal.SIGKILL)
            entry.process.wait()


def _signal(entry: _Running, number: signal.Signals) -> None:
    if entry.process.poll() is None:
        os.killpg(entry.process.pid, number)


class _Progress:
    """The work done over all cells, with time left; the steps of running cells count."""

    def __init__(self, out: Path, done: int, shown: Any) -> None:
        self.out, self.done, self.shown = out, done, shown

    def update(self, running: list[_Running]) -> None:
        now = self.done + sum(_part(self.out, entry.cell) for entry in running)
        self.shown.update(max(0, now - self.shown.n))

    def settled(self, cell: Cell, line: str) -> None:
        self.done += _weight(cell)
        if not self.shown.disable:
            self.shown.write(line, file=sys.stderr)


@contextmanager
def _progress(plan: Plan, out: Path, waiting: list[Cell]) -> Iterator[_Progress]:
    total = sum(_weight(cell) for cell in plan.cells)
    done = total - sum(_weight(cell) for cell in waiting)
    with bar(total=total, what="study", unit="cell", initial=done) as shown:
        shown.smoothing = 0  # cells end in bursts: the mean rate tells the time left best
        shown.bar_format = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left"
        yield _Progress(out, done, shown)


def _weight(cell: Cell) -> int:
    return CELL_WORK if cell.kind == "train" else REFERENCE_WORK


def _part(out: Path, cell: Cell) -> int:
    if cell.kind != "train":
        return 0
    step, total = cell_progress(out, cell)
    return round(STEPS_WORK * min(1.0, step / total)) if total else 0
