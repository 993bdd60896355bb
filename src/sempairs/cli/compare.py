"""`sempairs evaluate --compare A B`: two encoders on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sempairs.evaluation.config import EvaluationConfig


def run_comparison(
    encoders: tuple[str, str],
    tasks: Sequence[str],
    out: Path,
    *,
    config: EvaluationConfig,
    data: str | None,
    cache: Path | None,
    seed: int,
    device: str,
) -> None:
    """Writes the folder `out` and prints a line a task."""
    from sempairs.errors import UserError
    from sempairs.evaluation.comparison.compare import compare
    from sempairs.evaluation.comparison.records import points

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("--out", "must be a new or empty folder for a comparison", str(out))
    found = compare(*encoders, tasks, out, config=config, data=data, cache=cache, seed=seed, device=device)
    width = max(len(one.task) for one in found)
    for one in map(points, found):
        test = "" if one.p is None else f", McNemar p {_shown(one.p)}"
        typer.echo(
            f"{one.task:<{width}}  A {one.value_a:.1f}  B {one.value_b:.1f}  B-A {one.difference:+.1f} "
            f"(95% {one.low:+.1f} to {one.high:+.1f}{test}), n {one.n}"
        )
    typer.echo(f"{out / 'index.html'}")


def _shown(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
