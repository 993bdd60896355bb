"""`sempairs evaluate --suite transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sempairs.cli.results import show_results

if TYPE_CHECKING:
    from sempairs.evaluation.config import EvaluationConfig
    from sempairs.evaluation.tasks.transfer import Dataset

SUITES = ("transfer",)


def run_suite(
    name: str,
    encoder: str,
    root: Path | None,
    out: Path,
    *,
    protocols: Sequence[str],
    config: EvaluationConfig,
    cache: Path | None,
    seed: int,
    prefix: str | None,
    device: str,
) -> None:
    """Scores what is found under `root`, then says what is missing, incomplete or broken.

    Raises: UserError if nothing could be scored at all; typer.Exit of status 1 if something found could not.
    """
    from sempairs.errors import UserError, unknown
    from sempairs.evaluation.transfer import evaluate_transfer, look

    if name not in SUITES:
        raise unknown("--suite", name, SUITES)
    if root is None:
        raise UserError("--suite transfer", "needs --data-root, or SEMPAIRS_TRANSFER_ROOT")
    root = root.expanduser().resolve()
    found, missing = look(root)
    if not found:
        _show_missing(missing, root)
    report = evaluate_transfer(
        encoder, root, out, protocols=protocols, config=config, cache=cache, seed=seed, prefix=prefix,
        device=device,
    )  # fmt: skip
    if report.results:
        show_results(report.results, out)
    _show_missing(missing, root)
    if report.passed_by:
        typer.echo(f"not of these protocols: {', '.join(report.passed_by)}")
    for task, count in report.incomplete.items():
        typer.echo(f"incomplete: {task}: {count} images cannot be read, and were left out", err=True)
    for task, why in report.failed.items():
        typer.echo(f"failed: {task}: {why}", err=True)
    if not report.complete:
        raise typer.Exit(1)


def _show_missing(missing: Sequence[Dataset], root: Path) -> None:
    if not missing:
        return
    typer.echo(f"not found under {root}:")
    width = max(len(one.tasks[0]) for one in missing)
    for one in missing:
        typer.echo(f"  {one.tasks[0].ljust(width)}  {root / one.own[0]}/ with {one.put}")
