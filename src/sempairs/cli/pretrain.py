"""`sempairs pretrain`: an encoder from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A YAML recipe, or the name of one that comes along: pretrain-debug."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder, made if absent. Nothing is written outside it.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field: --set method.temperature=0.1."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the last checkpoint in --out. Starts afresh where there is none, and changes "
            "nothing where the run is finished.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the recipe and print it with every default; write nothing."),
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            metavar="RUN",
            help="Take the step again whose loss stopped the run in this folder, and say where it stops "
            "being finite. Needs no images. Status 1 where it is finite this time.",
        ),
    ] = None,
) -> None:
    """Pretrain an encoder on pairs of images.

    Leaves in the run folder: the encoder (encoder.safetensors, encoder.json), recipe.yaml, resolved.json,
    environment.json, provenance.json, exposure.parquet, metrics.jsonl, train.csv and probe.csv, TensorBoard
    files and the last two checkpoints. Ctrl-C saves a checkpoint and stops; --resume goes on, bit for bit as
    if never stopped. A run that its own drift alarm stops does so too, with status 3.
    """
    from sempairs.config import load_config
    from sempairs.errors import UserError
    from sempairs.training.recipe import PretrainRecipe

    if replay is not None:
        given = {"a recipe": recipe, "--out": out, "--resume": resume, "--dry-run": dry_run}
        beside = [name for name, value in given.items() if value]
        if beside:
            raise UserError(
                "--replay", f"does not go with {beside[0]}", remedy="the run's folder has its recipe"
            )
        _replay(replay, overrides or [])
        return
    if recipe is None:
        raise UserError("RECIPE", "is required", remedy="name a YAML recipe, or a run with --replay")
    loaded = load_config(PretrainRecipe, recipe, overrides or [])
    if dry_run:
        import yaml

        from sempairs.runs.processes import launch

        if launch().rank > 0:
            return

        data = loaded.model_dump(mode="json")
        typer.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
        return
    if out is None:
        raise UserError("--out", "is required", remedy="name a folder for the run")

    from sempairs.runs.processes import rank
    from sempairs.training.run import pretrain as run

    summary = run(loaded, out, resume=resume)
    if rank() > 0:
        return
    if summary.already_finished:
        typer.echo(f"{out} is finished already: {summary.steps} steps, loss {summary.loss:.4f}")
        return
    probe = ", ".join(f"{name} {value:.3f}" for name, value in summary.probe.items())
    typer.echo(
        f"{summary.steps} steps, {summary.seconds:.1f} s, loss {summary.loss:.4f}, {probe or 'no probe'}"
    )
    typer.echo(f"encoder: {out / 'encoder.json'}")


def _replay(run: Path, overrides: list[str]) -> None:
    """Prints what taking a failed step again came to."""
    from sempairs.training.failure import replay

    found = replay(run, overrides)
    for line in found.lines:
        typer.echo(line)
    if not found.reproduced:
        raise typer.Exit(1)
