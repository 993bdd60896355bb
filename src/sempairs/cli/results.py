"""Results of evaluations as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sempairs.evaluation.records import Result


def show_results(results: Sequence[Result], out: Path) -> None:
    """A table of them, and where they went."""
    from sempairs.evaluation.protocols import PROTOCOLS

    plain = {r.metric in PROTOCOLS.get(r.protocol).plain for r in results}
    # Shares are per cent; beside numbers that are no shares each says so itself.
    unit = "%" if plain == {True, False} else ""
    rows = []
    for r in results:
        whole = r.metric in PROTOCOLS.get(r.protocol).plain
        value = f"{r.value:.3f}" if whole else f"{100 * r.value:.1f}{unit}"
        rows.append((r.task, f"{r.protocol}{'*' if r.primary else ''}", r.metric, value, str(r.n)))
    head = "value" if True in plain else "%"
    typer.echo(_table(("task", "protocol", "metric", head, "n"), rows))
    typer.echo(f"{len(results)} results added to {out}")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the last two hold numbers, to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    names = len(head) - 2

    def line(row: tuple[str, ...]) -> str:
        cells = (
            c.ljust(w) if i < names else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells)

    return "\n".join(line(row) for row in [head, *rows])
