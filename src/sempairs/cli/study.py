"""`sempairs study`: what semantic pairs bring, against matched arms, over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sempairs.study.gathered import Gathered

app = typer.Typer(
    help="Controlled studies: matched arms, several seeds, one primary test, one report.",
    no_args_is_help=True,
)

Recipe = Annotated[
    Path, typer.Argument(help="A YAML study recipe, or the name of one that comes along: quickstart.")
]
Out = Annotated[Path, typer.Option("--out", help="Study folder. Nothing is written outside it.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `sempairs study run` wrote.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one field: --set base.batch_size=256."),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        min=1,
        max=24,
        help="So many seeds, counted up from the recipe's first. Six are the least that can claim something.",
    ),
]


@app.command()
def plan(
    recipe: Recipe,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Study folder to write the plan to; only checked if left out."),
    ] = None,
    seeds: Seeds = None,
    overrides: Overrides = None,
) -> None:
    """Check a study and, with --out, write down its plan; nothing runs.

    Resolves the recipe of every cell (method x arm x seed) and refuses a contrast whose arms differ in a
    field it does not declare. plan.json is then frozen: the folder runs this study and no other.
    """
    from sempairs.study.plan import fingerprint, freeze, make_plan
    from sempairs.study.recipe import load_study
    from sempairs.study.summary import plan_lines

    made = make_plan(load_study(recipe, tuple(overrides or ()), seeds=seeds), out)
    if out is not None:
        freeze(made, out)
    typer.echo("\n".join(plan_lines(made)))
    if out is not None:
        typer.echo(f"plan: {out / 'plan.json'}")
        typer.echo(f"hash of the plan, to publish before it runs: {fingerprint(out)}")


@app.command()
def run(
    recipe: Recipe,
    out: Out,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Cells side by side; the recipe's number if left out.")
    ] = None,
    seeds: Seeds = None,
    overrides: Overrides = None,
) -> None:
    """Run a study, or go on with it: pretrain and score every cell, test, and write the report.

    Ctrl-C stops it; the same command goes on where it was and repeats no finished cell. A cell that breaks is
    recorded and the others go on. Exit status 1 if a cell broke, or something does not fit the study's seal.
    """
    from sempairs.study.recipe import load_study
    from sempairs.study.runner import run_study
    from sempairs.study.summary import summary

    try:
        done = run_study(load_study(recipe, tuple(overrides or ()), seeds=seeds), out, jobs=jobs)
    except KeyboardInterrupt as stop:
        again = [
            "sempairs study run",
            str(recipe),
            "--out",
            str(out),
            *([f"--seeds {seeds}"] if seeds else []),
            *(f"--set {o!r}" for o in overrides or ()),
        ]
        raise KeyboardInterrupt(f"{stop or 'stopped'}; resume with: {' '.join(again)}") from stop
    typer.echo(summary(done.findings))
    for line in done.broken:
        typer.echo(f"broken: {line}", err=True)
    _end(done, out)


@app.command()
def status(folder: Folder) -> None:
    """Say where every cell of a study stands: waiting, running, interrupted, broken or finished."""
    from sempairs.study.summary import status_lines

    typer.echo("\n".join(status_lines(folder)))


@app.command()
def report(folder: Folder) -> None:
    """Write report.html anew from what is finished so far, and print the summary.

    Everything is rechecked first, as `verify` does. Exit status 1 if something does not fit.
    """
    from sempairs.study.report import write_report
    from sempairs.study.summary import summary

    done = write_report(folder)
    typer.echo(summary(done.findings))
    _end(done, folder)


@app.command()
def verify(
    folder: Folder,
    seal: Annotated[
        str | None,
        typer.Option("--seal", metavar="SHA256", help="The seal this study had before: it must be the same."),
    ] = None,
) -> None:
    """Recheck a study: plan, recipes, sessions, code, images, weights and results, each against its record.

    Prints a line for each thing that does not fit, and ends with status 1 if there is any. Needs nothing but
    the folder, wherever it lies now; writes nothing.
    """
    from sempairs.study.gathered import gather
    from sempairs.study.summary import misfit_lines, seal_lines

    found = gather(folder)
    lines = misfit_lines(found, seal)
    for line in lines:
        typer.echo(f"does not fit: {line}", err=True)
    typer.echo("\n".join([*seal_lines(found), "not all of it fits" if lines else "all of it fits"]))
    if lines:
        raise typer.Exit(1)


def _end(done: Gathered, folder: Path) -> None:
    """Names what does not fit, then where the report lies. Raises: Exit if there is any, or a cell broke."""
    from sempairs.study.summary import misfit_lines

    lines = misfit_lines(done)
    for line in lines:
        typer.echo(f"does not fit: {line}", err=True)
    typer.echo(f"seal: {done.seal.sha256 or 'none'}")
    typer.echo(f"report: {(folder / 'report.html').resolve()}")
    if lines or done.broken:
        raise typer.Exit(1)
