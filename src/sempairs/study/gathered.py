"""A study folder read as one: outcomes, numbers, seal, certificate, findings, curves and pictures.

Whatever a report shows is read here and checked first; showing it reads no disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sempairs.evaluation.records import Result
from sempairs.files import read_json
from sempairs.runs.trackers import read_metrics
from sempairs.study.analysis import Findings, analyse
from sempairs.study.certificate import FOLLOWS, PairCheck, check_pair
from sempairs.study.folder import Outcome, cell_folder, cell_results, read_outcome
from sempairs.study.plan import Plan, fingerprint, load_plan
from sempairs.study.seal import PICTURES, Seal, check_seal
from sempairs.training.provenance import Provenance


@dataclass(frozen=True)
class Gallery:
    """A folder of pictures. index: its index.json. files: the pictures' bytes by name."""

    index: dict[str, Any]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Gathered:
    """A study folder as it stands now; it may be unfinished.

    rows, metrics: of finished cells whose numbers can be trusted, by cell id. galleries: by folder, those
    that are there and unchanged.
    """

    plan: Plan
    plan_sha256: str
    outcomes: dict[str, Outcome]  # by cell id
    rows: dict[str, list[Result]]
    metrics: dict[str, list[dict[str, Any]]]
    seal: Seal
    checks: tuple[PairCheck, ...]
    findings: Findings
    galleries: dict[str, Gallery]

    @property
    def broken(self) -> tuple[str, ...]:
        """A line for each cell that broke."""
        return tuple(
            f"{name}: {outcome.error}" for name, outcome in self.outcomes.items() if outcome.state == "broken"
        )

    @property
    def holds(self) -> bool:
        """Whether everything fits: the seal, and the arms of every contrast."""
        return not self.seal.misfits and not any(check.undeclared for check in self.checks)


def gather(study: Path) -> Gathered:
    """Reads, checks and analyses a study folder. Raises: UserError if it is none."""
    plan = load_plan(study)
    outcomes = {cell.id: read_outcome(study, cell) for cell in plan.cells}
    seal = check_seal(study, plan, outcomes)
    trusted = [c for c in plan.cells if outcomes[c.id].state == "finished" and c.id not in seal.untrusted]
    rows = {cell.id: cell_results(study, cell) for cell in trusted}
    metrics = {cell.id: read_metrics(cell_folder(study, cell) / "metrics.jsonl") for cell in trusted}
    checks = tuple(_checks(plan, rows, seal.provenance))
    findings = analyse(plan, rows, checks, seal.withholding)
    changed = {misfit.where for misfit in seal.misfits}
    shown = [name for name in PICTURES if name not in changed and (study / name / "index.json").exists()]
    galleries = {name: _gallery(study / name) for name in shown}
    return Gathered(
        plan, fingerprint(study), outcomes, rows, metrics, seal, checks, findings, galleries
    )  # fmt: skip


def certificate_json(gathered: Gathered) -> dict[str, Any]:
    """What `certificate.json` holds."""
    return {
        "format": 2,
        "holds": gathered.holds,
        "plan": gathered.plan_sha256,
        "seal": gathered.seal.sha256,
        "misfits": [asdict(misfit) for misfit in gathered.seal.misfits],
        "notes": list(gathered.seal.notes),
        "follows": {field: list(facts) for field, facts in FOLLOWS.items()},
        "checks": [asdict(check) for check in gathered.checks],
        "cells": {name: record.model_dump(mode="json") for name, record in gathered.seal.records.items()},
    }


def _checks(
    plan: Plan, rows: Mapping[str, Sequence[Result]], provenance: Mapping[str, Provenance]
) -> list[PairCheck]:
    made = []
    for contrast in plan.study.contrasts:
        for method in plan.methods:
            for seed in plan.study.seeds:
                pair = [plan.find(method, arm, seed).id for arm in (contrast.treatment, contrast.control)]
                if rows.keys() >= {*pair} and provenance.keys() >= {*pair}:
                    ours, theirs = (_facts(provenance[cell], rows[cell]) for cell in pair)
                    names = {"contrast": contrast.name, "method": method}
                    made.append(check_pair(ours, theirs, contrast.may_differ, seed=seed, **names))
    return made


def _facts(provenance: Provenance, rows: Sequence[Result]) -> dict[str, Any]:
    """What a run is made of, and how its encoder was scored."""
    scored = {
        row.task: {"settings": row.settings_hash, "data": row.extra.get("data"), "n": row.n}
        for row in rows
        if row.primary
    }
    return {**provenance.comparable(), "scored": scored}


def _gallery(folder: Path) -> Gallery:
    pictures = (path for path in folder.iterdir() if path.suffix in (".png", ".webp"))
    return Gallery(read_json(folder / "index.json"), {path.name: path.read_bytes() for path in pictures})
