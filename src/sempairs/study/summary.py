"""A study in lines for a terminal: its plan, where it stands, what it found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sempairs.study.analysis import FLOOR, Findings
from sempairs.study.certificate import shown
from sempairs.study.folder import cell_progress, read_outcome
from sempairs.study.plan import Plan, crops_of, load_plan
from sempairs.study.recipe import Contrast
from sempairs.study.statistics import ALPHA, Comparison, smallest_p
from sempairs.study.verdict import p_text, points, seeds_text

if TYPE_CHECKING:
    from sempairs.study.gathered import Gathered


def summary(findings: Findings) -> str:
    """The findings as lines for a terminal: a table for the primary contrast, then the verdict."""
    primary, plan = findings.primary, findings.plan
    arms = [FLOOR, primary.contrast.control, primary.contrast.treatment]
    several = len(plan.methods) > 1
    table = [["task", *arms, "gain", "95% interval", "by seed"]]
    for method in plan.methods:
        gains = {gain.task: gain.comparison for gain in primary.tasks if gain.method == method}
        for task in plan.tasks:
            row = [f"{method} {task.label}" if several else task.label]
            row += [spread(findings.values(method, arm, task.name)) for arm in arms]
            gain = gains.get(task.name)
            row += _gain_cells(gain) if gain else ["–", "–", "–"]
            table.append(row)
    if primary.overall:
        table.append(["mean", "", "", "", *_gain_cells(primary.overall)])
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        # Words to the left, numbers to the right.
        first, *middle, last = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *middle, row[-1].ljust(len(last))]))
    lines.insert(1, "  ".join("─" * w for w in widths))
    verdict = primary.verdict
    lines += ["", f"{verdict.headline}.", *textwrap.wrap(verdict.detail, 96)]
    lines += [
        f"left out: {health.method}, as {health.reason}" for health in findings.health if not health.healthy
    ]
    lines += [f"left out: {reason}" for reason in primary.dropped]
    return "\n".join(line.rstrip() for line in lines)


def _gain_cells(c: Comparison) -> list[str]:
    interval = f"{points(c.t.low)} to {points(c.t.high)}" if c.t else "–"
    return [points(c.mean), interval, " ".join(points(d) for d in c.differences)]


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds, in points."""
    if not values:
        return "–"
    mean = f"{np.mean(values):.1f}"
    return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def plan_lines(plan: Plan) -> list[str]:
    """The plan in words: cells, contrasts with what differs in them, and what can be concluded."""
    seeds, tasks = plan.study.seeds, ", ".join(task.name for task in plan.tasks)
    runs = sum(cell.kind == "train" for cell in plan.cells)
    lines = [
        f"{runs} runs (methods: {len(plan.methods)}, arms: {len(plan.arms)}, seeds: {len(seeds)}) and "
        f"{len(plan.cells) - runs} evaluations of random weights",
        f"tasks: {tasks}",
    ]
    for contrast in plan.study.contrasts:
        label = "primary" if contrast.primary else "secondary"
        lines.append(f"{label} contrast: {contrast.name}, differing in")
        for method, differences in plan.differences[contrast.name].items():
            lines += [
                f"  {field} ({method}): {shown(theirs)} -> {shown(ours)}"
                for field, (ours, theirs) in differences.items()
            ]
        lines += _matched_objectives(plan, contrast)
    least = smallest_p(len(seeds))
    if least >= ALPHA:
        lines.append(
            f"{seeds_text(len(seeds))}: too few to claim a difference, the least p is {p_text(least)}"
        )
    return lines


def _matched_objectives(plan: Plan, contrast: Contrast) -> list[str]:
    """A line a method of another objective than the usual one, where both arms have equal crops."""
    lines = []
    for method, differences in plan.differences[contrast.name].items():
        recipe = plan.find(method, contrast.control, plan.study.seeds[0]).recipe
        name = recipe.get("objective", {}).get("name", "pair")
        if name != "pair" and "crops_per_pair" not in differences:
            lines.append(
                f"  matched ({method}): objective {name}, {crops_of(recipe)} crops of each pair in both"
            )
    return lines


def misfit_lines(gathered: Gathered, seal: str | None = None) -> list[str]:
    """A line for each thing that does not fit, [] if all does. seal: the one this study must have."""
    lines = [str(misfit) for misfit in gathered.seal.misfits]
    for check in gathered.checks:
        for field, (ours, theirs) in check.undeclared.items():
            values = f"{field} ({shown(ours)} against {shown(theirs)})"
            lines.append(
                f"{check.contrast}: {check.method}, seed {check.seed}: undeclared difference in {values}"
            )
    asked, hashes = (seal or "").strip().lower(), gathered.seal.hashes
    if seal is not None and asked != gathered.seal.sha256:
        known = (
            f"it is that of entry {hashes.index(asked)}, and more was added" if asked in hashes else "another"
        )
        lines.append(f"seal: is {gathered.seal.sha256 or 'none'}; the one given is {known}")
    return lines


def seal_lines(gathered: Gathered) -> list[str]:
    """What a study is bound to: plan, code, seal; and what is to be known of it, though it fits."""
    finished = sum(outcome.state == "finished" for outcome in gathered.outcomes.values())
    codes = {record.scored.code.package_sha256 for record in gathered.seal.records.values()}
    return [
        f"{len(gathered.seal.records)} of {len(gathered.plan.cells)} cells sealed, {finished} finished",
        *gathered.seal.notes,
        f"plan: {gathered.plan_sha256}",
        *(f"code: {code}" for code in sorted(codes)),
        f"seal: {gathered.seal.sha256 or 'none'}",
    ]


def status_lines(study: Path) -> list[str]:
    """Where every cell stands. Raises: UserError if the folder holds no plan."""
    plan = load_plan(study)
    width = max(len(cell.id) for cell in plan.cells)
    lines, done = [], 0
    for cell in plan.cells:
        outcome = read_outcome(study, cell)
        done += outcome.state == "finished"
        step, total = cell_progress(study, cell)
        parts = [outcome.state.ljust(11)]
        if total and outcome.state != "finished":
            parts.append(f"step {step} of {total}")
        if outcome.seconds:
            parts.append(f"{outcome.seconds:.0f} s")
        if outcome.error:
            parts.append(outcome.error)
        lines.append(f"{cell.id.ljust(width)}  {'  '.join(parts)}".rstrip())
    lines.append(f"{done} of {len(plan.cells)} cells finished; {seeds_text(len(plan.study.seeds))}")
    return lines
