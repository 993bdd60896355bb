"""A study folder read as one: outcomes, numbers, certificate and findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sempairs.evaluation.records import Result
from sempairs.study.analysis import Findings, analyse
from sempairs.study.certificate import PairCheck, check_pair
from sempairs.study.folder import Outcome, cell_folder, cell_provenance, cell_results, read_outcome
from sempairs.study.plan import Plan, load_plan


@dataclass(frozen=True)
class Gathered:
    """A study folder as it stands now; it may be unfinished."""

    plan: Plan
    outcomes: dict[str, Outcome]  # by cell id
    rows: dict[str, list[Result]]  # of finished cells, by cell id
    checks: tuple[PairCheck, ...]
    findings: Findings

    @property
    def broken(self) -> tuple[str, ...]:
        """A line for each cell that broke."""
        return tuple(
            f"{name}: {outcome.error}" for name, outcome in self.outcomes.items() if outcome.state == "broken"
        )


def gather(study: Path) -> Gathered:
    """Reads and analyses a study folder. Raises: UserError if it is none, or a file in it is damaged."""
    plan = load_plan(study)
    outcomes = {cell.id: read_outcome(study, cell) for cell in plan.cells}
    finished = [cell for cell in plan.cells if outcomes[cell.id].state == "finished"]
    rows = {cell.id: cell_results(study, cell) for cell in finished}
    checks = tuple(_checks(study, plan, {cell.id for cell in finished}))
    return Gathered(plan, outcomes, rows, checks, analyse(plan, rows, checks))


def _checks(study: Path, plan: Plan, finished: set[str]) -> list[PairCheck]:
    made = []
    for contrast in plan.study.contrasts:
        for method in plan.methods:
            for seed in plan.study.seeds:
                pair = [plan.find(method, arm, seed) for arm in (contrast.treatment, contrast.control)]
                present = [(cell_folder(study, cell) / "provenance.json").exists() for cell in pair]
                if all(present) and {cell.id for cell in pair} <= finished:
                    ours, theirs = (cell_provenance(study, cell) for cell in pair)
                    made.append(
                        check_pair(
                            ours,
                            theirs,
                            contrast.may_differ,
                            contrast=contrast.name,
                            method=method,
                            seed=seed,
                        )
                    )
    return made
