"""What lies in a study folder: where each cell stands, and what it measured.

```
STUDY/plan.json  recipe.yaml  ledger.jsonl  what was asked, and what happened
STUDY/results.parquet  certificate.json  report.html  examples/  sights/
STUDY/pixels/  cache/  what cells share: images as pixels, features; may be removed when all is done
STUDY/runs/CELL/  the run folder of the pretraining, with log.txt, results.jsonl, record.json, outcome.json
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sempairs.errors import UserError
from sempairs.evaluation.records import Result, read_results
from sempairs.files import atomic_write, read_json, write_json
from sempairs.study.plan import Cell, Plan

RESULTS = "results.jsonl"
STATES = ("waiting", "running", "interrupted", "broken", "finished")


@dataclass(frozen=True)
class Outcome:
    """Where a cell stands. error: one line if broken. seconds: of work, over all attempts so far."""

    state: str
    error: str = ""
    seconds: float = 0.0
    pid: int | None = None
    hash: str = ""


def cell_folder(study: Path, cell: Cell) -> Path:
    return study / "runs" / cell.id


def write_outcome(study: Path, cell: Cell, outcome: Outcome) -> None:
    write_json(cell_folder(study, cell) / "outcome.json", asdict(outcome))


def read_outcome(study: Path, cell: Cell) -> Outcome:
    """Where the cell stands; a process that no longer lives was interrupted."""
    path = cell_folder(study, cell) / "outcome.json"
    if not path.exists():
        return Outcome("waiting")
    try:
        outcome = Outcome(**read_json(path))
        if outcome.state not in STATES or not isinstance(outcome.seconds, int | float):
            raise TypeError
    except (UserError, TypeError):
        return Outcome("interrupted", error="its outcome.json is damaged")
    if outcome.state == "finished" and outcome.hash != cell.hash:
        return Outcome("waiting", error="its folder holds another recipe")
    if outcome.state == "running" and not is_alive(outcome.pid):
        return Outcome("interrupted", seconds=outcome.seconds)
    return outcome


def cell_progress(study: Path, cell: Cell) -> tuple[int, int | None]:
    """Optimiser steps done and, once the run knows it, to do."""
    from sempairs.runs.trackers import read_metrics

    folder = cell_folder(study, cell)
    lines = read_metrics(folder / "metrics.jsonl")
    resolved = folder / "resolved.json"
    total = read_json(resolved)["schedule"]["steps"] if resolved.exists() else None
    return max((line["step"] for line in lines), default=0), total


def cell_results(study: Path, cell: Cell) -> list[Result]:
    """The rows a cell measured, [] before it did. Raises: UserError if the file is damaged."""
    path = cell_folder(study, cell) / RESULTS
    return read_results(path) if path.exists() else []


def write_results(study: Path, rows: Mapping[str, list[Result]], plan: Plan) -> None:
    """All results of finished cells (id -> rows) as `results.parquet`, one row a number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table: list[dict[str, Any]] = []
    for identity, results in rows.items():
        cell = plan.cell(identity)
        place = {"cell": cell.id, **cell.model_dump(include={"kind", "method", "arm", "seed"})}
        table += [
            {**place, **asdict(result), "extra": json.dumps(dict(result.extra), sort_keys=True)}
            for result in results
        ]
    with atomic_write(study / "results.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(table), temporary)


def is_alive(pid: int | None) -> bool:
    """Whether there is a process of this number, of any user."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
