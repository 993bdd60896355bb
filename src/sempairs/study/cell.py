"""One cell of a study in a process of its own: `python -m sempairs.study.cell STUDY CELL`.

Started by the runner; by hand it repeats or resumes exactly that cell. A finished cell is left as it is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.study import ledger
from sempairs.study.folder import RESULTS, Outcome, cell_folder, is_alive, read_outcome, write_outcome
from sempairs.study.plan import Cell, Plan, load_plan
from sempairs.study.seal import refuse_changed_run, seal_cell

if TYPE_CHECKING:
    from sempairs.runs.sessions import Session

STOPPED = 130  # exit status after an interruption, as a shell has it


def run_cell(study: Path, identity: str) -> Outcome:
    """Pretrains and evaluates one cell, or goes on where it was interrupted.

    The outcome is on disk when this returns; a failure is an outcome, not an exception.
    """
    plan = load_plan(study)
    cell = plan.cell(identity)
    before = read_outcome(study, cell)
    if before.state == "finished":
        return before
    folder = cell_folder(study, cell)
    folder.mkdir(parents=True, exist_ok=True)
    outcome = Outcome("running", seconds=before.seconds, pid=os.getpid(), hash=cell.hash)
    write_outcome(study, cell, outcome)
    began = time.monotonic()
    seconds: float | None = None
    try:
        scored = (_pretrain_and_score if cell.kind == "train" else _score_random_weights)(study, plan, cell)
        seconds = outcome.seconds + time.monotonic() - began
        seal_cell(study, cell, scored, seconds)
        state, error = "finished", ""
    except KeyboardInterrupt:  # the runner's request to end; pretraining has saved its state
        state, error = "interrupted", ""
    except Exception as failure:
        traceback.print_exc()
        state, error = "broken", one_line(failure)
    if state != "finished" or seconds is None:
        seconds = outcome.seconds + time.monotonic() - began
    outcome = replace(outcome, state=state, error=error, seconds=seconds, pid=None)
    write_outcome(study, cell, outcome)
    return outcome


def one_line(error: BaseException) -> str:
    """The kind and message of an error, without line breaks, at most 500 characters."""
    text = " ".join(str(error).split()) or "no message"
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return (kind + text)[:500]


def _pretrain_and_score(study: Path, plan: Plan, cell: Cell) -> Session:
    from sempairs.evaluation import evaluate
    from sempairs.training import PretrainRecipe, pretrain

    folder = cell_folder(study, cell)
    pretrain(
        validate(PretrainRecipe, cell.recipe), folder, resume=True, pixel_cache=study / "pixels",
        on_session=lambda session: ledger.append(
            study, "session", session.model_dump(mode="json"), cell=cell.id
        ),
    )  # fmt: skip
    refuse_changed_run(folder)  # its end may lie in an earlier attempt
    with _scoring(plan) as scored:
        config, out = plan.study.evaluation, _fresh_results(folder)
        evaluate(folder, plan.study.tasks, out, config=config, cache=study / "cache")
    return scored


def _score_random_weights(study: Path, plan: Plan, cell: Cell) -> Session:
    """The floor: the encoder this seed starts from, never trained, scored the same way."""
    from sempairs.evaluation import evaluate_random
    from sempairs.training import PretrainRecipe

    recipe = validate(PretrainRecipe, cell.recipe)
    views = recipe.views
    with _scoring(plan) as scored:
        evaluate_random(
            recipe.encoder, recipe.seed, plan.study.tasks, _fresh_results(cell_folder(study, cell)),
            size=views.size, mean=views.mean, std=views.std,
            config=plan.study.evaluation, cache=study / "cache", name=cell.id,
        )  # fmt: skip
    return scored


@contextmanager
def _scoring(plan: Plan) -> Iterator[Session]:
    """The session that scores, with the study's number of threads however this process was started.

    Raises: UserError if the package's code was edited meanwhile: no record could name the code that scored.
    """
    import torch

    from sempairs.evaluation.suite import chosen_device
    from sempairs.runs.processes import arithmetic_threads
    from sempairs.runs.sessions import package_sha256, session

    with arithmetic_threads(plan.study.threads):
        scoring = session(torch.device(chosen_device("auto")))
        yield scoring
        if package_sha256() != scoring.code.package_sha256:
            raise UserError("sempairs", "was edited while the cell was scored", remedy="run it again")


def _fresh_results(folder: Path) -> Path:
    """Rows are appended: an interrupted evaluation starts over, so that no number is there twice."""
    out = folder / RESULTS
    out.unlink(missing_ok=True)
    return out


def _end_with(runner: int) -> None:
    """Ends this process when the runner is gone, also when it was killed and could not say so."""
    parent = os.getppid()
    while os.getppid() == parent and is_alive(runner):
        time.sleep(1)
    os._exit(STOPPED)


def main(arguments: list[str]) -> int:
    """Exit status: 0 finished, 1 broken, 130 interrupted."""
    study, identity = arguments
    if runner := os.environ.get("SEMPAIRS_RUNNER"):
        threading.Thread(target=_end_with, args=(int(runner),), daemon=True).start()
    outcome = run_cell(Path(study), identity)
    if outcome.state == "broken":
        print(f"error: {outcome.error}", file=sys.stderr)
    return {"finished": 0, "interrupted": STOPPED}.get(outcome.state, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
