"""From measured numbers to findings: which methods count, the one primary test, gains per task.

All gains are in points (a fraction times 100), treatment minus control, paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sempairs.evaluation.records import Result
from sempairs.study.certificate import PairCheck, shown
from sempairs.study.plan import Plan
from sempairs.study.recipe import Contrast
from sempairs.study.statistics import (
    Comparison,
    Interval,
    Vector,
    compare,
    holm,
    iqm,
    over_groups,
    probability_of_improvement,
    seeds_then_tasks,
)
from sempairs.study.verdict import Verdict, judge

FLOOR = "random init"  # stands where an arm's name stands, for untrained weights
Key = tuple[str, str, str, int]  # method, arm or FLOOR, task, seed


@dataclass(frozen=True)
class Health:
    """Whether a method counts: its control arm must lie above random weights by the margin set in the plan.

    lead: mean over tasks and seeds, in points; None where a side is missing.
    """

    method: str
    lead: float | None
    healthy: bool
    reason: str


@dataclass(frozen=True)
class TaskGain:
    """Paired gains of one method on one task, with the seeds that have both arms.

    concepts: interval of the mean gain when the tested groups are redrawn and seeds stay as they are; None
    where evaluation kept no scores of groups. groups: how many were tested.
    """

    method: str
    task: str
    seeds: tuple[int, ...]
    comparison: Comparison
    concepts: Interval | None
    groups: int = 0


@dataclass(frozen=True)
class MethodGain:
    """Paired gains of one method averaged over tasks; p is adjusted over methods by Holm."""

    method: str
    comparison: Comparison
    adjusted_p: float


@dataclass(frozen=True)
class AcrossTasks:
    """Robust summaries over (seed, task) gains; intervals resample seeds, then tasks."""

    iqm: float
    iqm_interval: Interval
    improvement: float
    improvement_interval: Interval


@dataclass(frozen=True)
class Finding:
    """One contrast. overall: the test of the gain averaged over healthy methods and planned tasks."""

    contrast: Contrast
    verdict: Verdict
    seeds: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    overall: Comparison | None = None
    tasks: tuple[TaskGain, ...] = ()
    methods: tuple[MethodGain, ...] = ()
    across: AcrossTasks | None = None


@dataclass(frozen=True)
class Findings:
    """All a report says in numbers."""

    plan: Plan
    scores: Mapping[Key, float]  # primary numbers, in points
    health: tuple[Health, ...]
    contrasts: tuple[Finding, ...]

    @property
    def primary(self) -> Finding:
        return next(finding for finding in self.contrasts if finding.contrast.primary)

    def values(self, method: str, arm: str, task: str) -> list[float]:
        """The primary numbers of an arm (or FLOOR) over the planned seeds that have one."""
        keys = [(method, arm, task, seed) for seed in self.plan.study.seeds]
        return [self.scores[key] for key in keys if key in self.scores]


def analyse(
    plan: Plan,
    rows: Mapping[str, Sequence[Result]],
    checks: Iterable[PairCheck],
    doubts: Callable[[set[str]], Sequence[object]] = lambda cells: (),
) -> Findings:
    """rows: results of finished cells by cell id; checks: what the two arms of each contrast had in common;
    doubts: what speaks against a result of these cells, a line each: any withholds it."""
    primary = _primary_rows(plan, rows)
    scores = {key: 100 * row.value for key, row in primary.items()}
    health = tuple(_health(plan, scores, method) for method in plan.methods)
    healthy = [h.method for h in health if h.healthy]
    by_contrast: dict[str, list[PairCheck]] = {}
    for check in checks:
        by_contrast.setdefault(check.contrast, []).append(check)
    contrasts = tuple(
        _finding(plan, primary, scores, healthy, contrast, by_contrast.get(contrast.name, []), doubts)
        for contrast in plan.study.contrasts
    )
    return Findings(plan, scores, health, contrasts)


def _primary_rows(plan: Plan, rows: Mapping[str, Sequence[Result]]) -> dict[Key, Result]:
    """The one row that counts of each method, arm (or FLOOR), task and seed."""
    planned = {(task.name, task.protocol, task.metric) for task in plan.tasks}
    found: dict[Key, Result] = {}
    for method in plan.methods:
        for seed in plan.study.seeds:
            sources = {arm: plan.find(method, arm, seed).id for arm in plan.arms}
            sources[FLOOR] = plan.reference(method, seed).id
            for arm, cell_id in sources.items():
                for row in rows.get(cell_id, ()):
                    if (row.task, row.protocol, row.metric) in planned:
                        found[method, arm, row.task, seed] = row
    return found


def _health(plan: Plan, scores: Mapping[Key, float], method: str) -> Health:
    control, margin = plan.primary.control, plan.study.health_margin
    leads = [
        scores[method, control, task.name, seed] - scores[method, FLOOR, task.name, seed]
        for task in plan.tasks
        for seed in plan.study.seeds
        if (method, control, task.name, seed) in scores and (method, FLOOR, task.name, seed) in scores
    ]
    if not leads:
        return Health(method, None, False, f"{control} or random weights were not measured")
    lead = float(np.mean(leads))
    place = "above" if lead >= 0 else "below"
    said = f"{control} lies {abs(lead):.1f} points {place} random weights; the margin is {margin:g}"
    return Health(method, lead, lead >= margin, said)


def _finding(
    plan: Plan,
    rows: Mapping[Key, Result],
    scores: Mapping[Key, float],
    healthy: list[str],
    contrast: Contrast,
    checks: list[PairCheck],
    doubts: Callable[[set[str]], Sequence[object]],
) -> Finding:
    broken = tuple(str(doubt) for doubt in doubts(_cells(plan, contrast)))
    undeclared = tuple(
        f"{check.method}, seed {check.seed}: {field} ({shown(ours)} against {shown(theirs)})"
        for check in checks
        for field, (ours, theirs) in check.undeclared.items()
    )
    if broken:
        count = "1 thing does" if len(broken) == 1 else f"{len(broken)} things do"
        first = f"{broken[0]}{'' if len(broken) == 1 else '; and more'}"
        verdict = Verdict(
            "withheld", f"Result withheld: {count} not fit what was planned and recorded", f"{first}."
        )
        return Finding(contrast, verdict, withheld=(*broken, *undeclared))
    if undeclared:
        fields = sorted({field for check in checks for field in check.undeclared})
        verdict = Verdict(
            "withheld",
            f"Result withheld: {contrast.treatment} and {contrast.control} were not matched",
            f"They differ in fields the contrast does not declare: {', '.join(fields)}.",
        )
        return Finding(contrast, verdict, withheld=undeclared)
    tasks = tuple(_task_gains(plan, rows, contrast))
    certified = {(check.method, check.seed) for check in checks}
    seeds, dropped, table = [], [], []
    for seed in plan.study.seeds:
        missing = _missing(plan, scores, healthy, contrast, seed)
        uncertified = [m for m in healthy if (m, seed) not in certified]
        if missing:
            dropped.append(f"seed {seed}: no number for {missing}")
        elif uncertified:
            dropped.append(f"seed {seed}: {uncertified[0]} is not certified")
        elif healthy:
            seeds.append(seed)
            table.append(_gains(plan, scores, healthy, contrast, seed))
    if not seeds:
        reason = "no seed has every number of both arms" if healthy else "no method beats random weights"
        verdict = Verdict("no data", f"No result for {contrast.name}", f"There is nothing to test: {reason}.")
        return Finding(contrast, verdict, dropped=tuple(dropped), tasks=tasks)
    gains = np.stack(table)  # (seeds, methods, tasks)
    overall = compare(gains.mean(axis=(1, 2)))
    verdict = judge(
        overall, treatment=contrast.treatment, control=contrast.control, equivalence=plan.study.equivalence
    )
    return Finding(
        contrast, verdict, tuple(seeds), tuple(dropped), (), overall, tasks,
        _method_gains(healthy, gains), _across(gains.mean(axis=1)),
    )  # fmt: skip


def _cells(plan: Plan, contrast: Contrast) -> set[str]:
    """The cells a contrast is made of: both arms, and what decides which methods count."""
    arms = {contrast.treatment, contrast.control, plan.primary.control}
    pretrained = {plan.find(m, arm, s).id for m in plan.methods for arm in arms for s in plan.study.seeds}
    return pretrained | {plan.reference(m, s).id for m in plan.methods for s in plan.study.seeds}


def _missing(
    plan: Plan, scores: Mapping[Key, float], healthy: list[str], contrast: Contrast, seed: int
) -> str:
    absent = [
        f"{method} {arm} on {task.name}"
        for method in healthy
        for arm in (contrast.treatment, contrast.control)
        for task in plan.tasks
        if (method, arm, task.name, seed) not in scores
    ]
    return absent[0] + (f" and {len(absent) - 1} more" if len(absent) > 1 else "") if absent else ""


def _gains(
    plan: Plan, scores: Mapping[Key, float], methods: list[str], contrast: Contrast, seed: int
) -> Vector:
    """Gains of one seed, (methods, tasks)."""
    return np.array(
        [
            [
                scores[method, contrast.treatment, task.name, seed]
                - scores[method, contrast.control, task.name, seed]
                for task in plan.tasks
            ]
            for method in methods
        ]
    )


def _task_gains(plan: Plan, rows: Mapping[Key, Result], contrast: Contrast) -> Iterable[TaskGain]:
    for method in plan.methods:
        for task in plan.tasks:
            both: dict[int, tuple[Result, Result]] = {}
            for seed in plan.study.seeds:
                ours = rows.get((method, contrast.treatment, task.name, seed))
                theirs = rows.get((method, contrast.control, task.name, seed))
                if ours is not None and theirs is not None:
                    both[seed] = (ours, theirs)
            if both:
                pairs = list(both.values())
                gains = [100 * ours.value - 100 * theirs.value for ours, theirs in pairs]
                yield TaskGain(method, task.name, tuple(both), compare(gains), *_over_concepts(pairs))


def _over_concepts(pairs: Sequence[tuple[Result, Result]]) -> tuple[Interval | None, int]:
    """Of the gain averaged over seeds, in points, with the number of groups. Groups are [sum, count], in the
    order of their names."""
    groups = [(ours.extra.get("groups"), theirs.extra.get("groups")) for ours, theirs in pairs]
    if not all(ours and theirs for ours, theirs in groups):
        return None, 0
    table = np.array(groups, dtype=np.float64)  # (seeds, arms, groups, [sum, count])
    gains = 100 * (table[:, 0, :, 0] - table[:, 1, :, 0]).mean(axis=0)
    return over_groups(gains, table[0, 0, :, 1]), len(gains)


def _method_gains(methods: list[str], gains: Vector) -> tuple[MethodGain, ...]:
    comparisons = [compare(gains[:, i].mean(axis=1)) for i in range(len(methods))]
    adjusted = holm([c.p for c in comparisons])
    return tuple(MethodGain(*row) for row in zip(methods, comparisons, adjusted, strict=True))


def _across(gains: Vector) -> AcrossTasks | None:
    """gains: (seeds, tasks), averaged over methods."""
    if min(gains.shape) < 2:
        return None
    return AcrossTasks(
        iqm(gains),
        seeds_then_tasks(gains, iqm),
        probability_of_improvement(gains),
        seeds_then_tasks(gains, probability_of_improvement),
    )
