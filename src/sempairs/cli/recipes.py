"""`sempairs recipes`: the recipes that come along."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="The recipes that come along, and what each is for.", invoke_without_command=True)


@app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that come along, with the command each is for.

    Every command that takes a recipe takes these names: sempairs study run quickstart --out runs/quickstart.
    """
    if context.invoked_subcommand is not None:
        return
    from sempairs.recipes import recipe_files

    found = recipe_files()
    name, verb = (max(len(getattr(recipe, field)) for recipe in found) for field in ("name", "verb"))
    for recipe in found:
        typer.echo(f"{recipe.name:<{name}}  {recipe.verb:<{verb}}  {recipe.title}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name from `sempairs recipes`.")],
) -> None:
    """Print a recipe as it is: `sempairs recipes show quickstart > mine.yaml` begins one of your own."""
    from sempairs.errors import unknown
    from sempairs.recipes import recipe_names, recipe_path

    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    typer.echo(recipe_path(name).read_text(encoding="utf-8"), nl=False)
