"""`sempairs verdicts`: what reviewers said, out, in, applied and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

app = typer.Typer(help="Verdicts about pairs: export, import, apply, agreement.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `pairs build` wrote.")]


@app.command("export")
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="A .parquet, .csv or .jsonl file.")],
) -> None:
    """Writes the standing verdict of every reviewer about every pair."""
    from sempairs.curation.exchange import export_verdicts

    table = _standing(folder)
    export_verdicts(table, out)
    typer.echo(f"{out}: {table.num_rows:,} verdicts")


@app.command("import")
def import_(
    folder: Folder,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Parquet, CSV, JSON or JSON lines: anchor, partner, verdict …"),
    ],
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", help="Whose verdicts they are, where the file does not say.")
    ] = None,
    reviewer_kind: Annotated[
        str | None,
        typer.Option("--reviewer-kind", help="person, model or rule, where the file does not say."),
    ] = None,
) -> None:
    """Takes in verdicts of people or programs: every row is checked, and all are taken or none.

    Columns: anchor, partner, verdict (yes, no, unsure); reviewer, reviewer_kind, reasons, note, queue and at
    may be left out. A model's verdicts never count as a person's.
    """
    from sempairs.curation.exchange import import_verdicts

    done = import_verdicts(folder, file, reviewer=reviewer, kind=reviewer_kind)
    typer.echo(
        f"{folder}: {done.new:,} verdicts imported, {done.same:,} of {done.rows:,} stood there already"
    )


@app.command("apply")
def apply(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="Folder for the curated pairs: new or empty.")],
    open_pairs: Annotated[
        str,
        typer.Option("--open", help="Pairs nobody judged or that are undecided: keep or drop."),
    ] = "keep",
    persons_only: Annotated[
        bool, typer.Option("--persons-only", help="Pass over what only models and rules decided.")
    ] = False,
    known: Annotated[
        Path | None,
        typer.Option(
            "--known",
            metavar="F",
            help="Pairs of known truth (Parquet, CSV, JSON lines) to measure models and rules by: anchor, "
            "partner, truth (yes, no)[, what, verdict, reviewer_kind].",
        ),
    ] = None,
) -> None:
    """Writes a new folder of pairs without the rejected ones, its baselines rebuilt to match."""
    from sempairs.curation.apply import apply_verdicts
    from sempairs.curation.known_pairs import read_known
    from sempairs.curation.lineage import refuse_release
    from sempairs.errors import UserError

    if open_pairs not in ("keep", "drop"):
        raise UserError("--open", "must be keep or drop", open_pairs)
    refuse_release(folder)
    done = apply_verdicts(
        folder, out, keep_open=open_pairs == "keep", persons_only=persons_only,
        known=read_known(known) if known else (),
    )  # fmt: skip
    for decision, by in done.decisions.items():
        told = ", ".join(f"{count:,} {name}" for name, count in by.items() if count) or "none"
        typer.echo(f"{decision:<9} {sum(by.values()):,}: {told}")
    for kind, measured in done.known.items():
        for one in measured:
            typer.echo(
                f"{kind} on {one['what']}: {one['false_found']:,} of {one['false_pairs']:,} false found, "
                f"{one['true_kept']:,} of {one['true_pairs']:,} true kept"
            )
    if done.outside:
        typer.echo(
            f"verdicts about {done.outside:,} pairs that are not in the set were not counted", err=True
        )
    open_count = sum(done.decisions["open"].values())
    fate = f"{done.dropped_open:,} open dropped" if done.dropped_open else f"{open_count:,} open kept"
    typer.echo(f"{out}: {len(done.pairs):,} of {done.before:,} pairs; {done.rejected:,} rejected, {fate}")


@app.command("agreement")
def agreement(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How far persons agree: percent, Cohen's kappa of every two, Fleiss' kappa. Programs do not count."""
    from sempairs.curation.decisions import agreement as measured

    found = measured(_standing(folder))
    if as_json:
        typer.echo(json.dumps(found, indent=2, sort_keys=True))
        return
    if not found["pairs"]:
        typer.echo("no pair was judged by two persons yet")
        return
    typer.echo(
        f"{found['pairs']:,} pairs judged by two or more persons, {_share(found['percent'])} agreement"
    )
    couples, fleiss = found["cohen"], found["fleiss"]
    assert isinstance(couples, list) and isinstance(fleiss, dict)
    for one in couples:
        told = f"{one['a']} and {one['b']}: {one['pairs']:,} pairs, {_share(one['percent'])}"
        typer.echo(f"Cohen's kappa {_kappa(one['kappa'])}  {told}")
    told = f"{fleiss['pairs']:,} pairs with {fleiss['raters']} raters each"
    typer.echo(f"Fleiss' kappa {_kappa(fleiss['kappa'])}  {told}")


def _standing(folder: Path) -> pa.Table:
    from sempairs.curation.lineage import refuse_release
    from sempairs.curation.store import LOG, standing_verdicts
    from sempairs.errors import UserError

    refuse_release(folder)
    if not folder.is_dir():
        raise UserError(str(folder), "must be an existing folder")
    if not (folder / LOG).is_file():
        remedy = "judge pairs with `sempairs curate`, or import verdicts"
        raise UserError(str(folder), f"has no verdicts (there is no {LOG})", remedy=remedy)
    return standing_verdicts(folder)


def _share(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, float) else "–"


def _kappa(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "undefined (one category only)"
