"""`sempairs pairs`: sets of pairs, built and described."""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sempairs.cli.audit import audit
from sempairs.cli.relation_options import SETTINGS, RelationCommand

if TYPE_CHECKING:
    from sempairs.catalog.selection import DataConfig
    from sempairs.catalog.table import Catalog
    from sempairs.pairs.config import PairsConfig
    from sempairs.pairs.stats import PairStats

app = typer.Typer(help="Build sets of semantic pairs, and describe them.", no_args_is_help=True)


@app.command("relations")
def relations(
    name: Annotated[
        str | None, typer.Argument(help="A relation, for its settings; all, if left out.")
    ] = None,
) -> None:
    """List the relations that pairs can have, or the settings of one."""
    from sempairs.pairs.config import RELATIONS

    if name is None:
        width = max(map(len, RELATIONS.names()))
        for each in RELATIONS.names():
            typer.echo(f"{each:<{width}}  {RELATIONS.get(each).description}")
        return
    chosen = RELATIONS.get(name)
    typer.echo(f"{name}: {chosen.description}\n")
    for text in (sys.modules[chosen.__module__].__doc__, chosen.__doc__):
        typer.echo(f"{cleandoc(text or '')}\n")
    for field, about in chosen.model_fields.items():
        if field not in ("relation", "arm"):
            default = "required" if about.is_required() else f"default {about.default!r}"
            typer.echo(f"  --{field.replace('_', '-'):<18} {default}")


@app.command("build", cls=RelationCommand)
def build(
    context: typer.Context,
    recipe_or_source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|SOURCE",
            help="A YAML recipe with the sections data (source, split) and pairs, as pretraining has (a "
            "study's base, too); or a source, such as emoji-pairs, folder:PATH or catalog:PATH.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pairs: new or empty.")],
    relation: Annotated[
        str | None,
        typer.Option(
            "--relation", help="What the two images of a pair are to each other: `pairs relations`."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Split to take images from, or all. Default: the recipe's, else train."),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option("--split-seed", help="Seed of the splits of a source that has none. Default: 0."),
    ] = None,
    tree: Annotated[
        str | None,
        typer.Option("--tree", help="Category tree: wordnet, wordnet:PATH, or a CSV of category,path."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change one field of the recipe: --set pairs.count=500."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check and print the configuration; read no image, write nothing."),
    ] = False,
) -> None:
    """Build a set of pairs: pairs.arrow, catalog.arrow (the images used) and pairs.json.

    Every setting of the relation is an option too, such as --mode redrawn, --count 500, or --depth 2 for
    sibling; `sempairs pairs relations NAME` lists them.

    Fixed pairs bring their matched baselines along, in the folders augmented and image_matched. Use the set
    in pretraining with pairs.relation=listed and pairs.file=DIR.
    """
    from sempairs.config import validate
    from sempairs.errors import UserError
    from sempairs.pairs.config import PairsSection

    data, pairs = _sections(recipe_or_source, overrides or [])
    given = context.meta.get(SETTINGS, {}) | ({"relation": relation} if relation else {})
    chosen = pairs | given
    if "relation" not in chosen:
        raise UserError(
            "--relation", "is required with a source", remedy="for example --relation cross_domain"
        )
    # The folder holds the semantic set and every baseline, whichever arm the recipe trains on.
    config = validate(PairsSection, {"pairs": chosen | {"arm": "semantic"}}).pairs
    images = _data(data, split=split, split_seed=split_seed, tree=tree)
    if dry_run:
        import yaml

        said = images.model_dump(mode="json", exclude_unset=True)
        shown = {"data": said, "pairs": config.model_dump(mode="json")}
        typer.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), nl=False)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("--out", "must be a new or empty folder", str(out), "choose another, or remove it")
    _build(images, config, out)


@app.command("check")
def check(
    recipe_or_source: Annotated[
        str, typer.Argument(metavar="RECIPE|SOURCE", help="The images, as for `pairs build`.")
    ],
    file: Annotated[Path, typer.Argument(metavar="LIST", help="CSV or Parquet of anchor, partner[, score].")],
    split: Annotated[
        str | None,
        typer.Option("--split", help="Split to take images from, or all. Default: the recipe's, else train."),
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option("--split-seed", help="Seed of the splits of a source that has none. Default: 0."),
    ] = None,
) -> None:
    """Check a list of pairs row by row and print every bad row; write nothing."""
    from sempairs.catalog.sources import open_source, scan_and_tell
    from sempairs.errors import UserError
    from sempairs.pairs.index import ImageIndex
    from sempairs.pairs.listing import check_list

    data, _ = _sections(recipe_or_source, [])
    images = _data(data, split=split, split_seed=split_seed)
    catalog = scan_and_tell(open_source(images.source), progress=True).catalog
    found = check_list(file, ImageIndex(_images(images, catalog, listed=True)))
    for problem in found.problems:
        typer.echo(f"{found.unit} {problem.line}: {' '.join(problem.said.split())}")
    if found.problems:
        raise UserError(str(file), f"has {len(found.problems):,} bad rows of {found.rows:,}")
    typer.echo(f"{file}: {found.rows:,} pairs, none of them bad")


@app.command("stats")
def stats(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `pairs build` wrote.")],
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Pairs in a batch, for the expected same-meaning negatives.")
    ] = 256,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Describe a set of pairs: classes, counts, partners an image, images covered, domains."""
    from sempairs.pairs.stats import pair_stats
    from sempairs.pairs.table import PairSet

    found = pair_stats(PairSet.open(folder), batch_size=batch_size)
    if json:
        import json as encoder
        from dataclasses import asdict

        typer.echo(encoder.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    _print(found)


def _sections(recipe_or_source: str, overrides: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sections data and pairs of a recipe, or of a source on its own. Raises: UserError."""
    from sempairs.config import override, read_yaml
    from sempairs.errors import UserError
    from sempairs.recipes import recipe_names

    is_recipe = (
        recipe_or_source.endswith((".yaml", ".yml"))
        or Path(recipe_or_source).is_file()
        or recipe_or_source in recipe_names()
    )
    recipe: dict[str, Any] = (
        read_yaml(recipe_or_source) if is_recipe else {"data": {"source": recipe_or_source}}
    )
    if "pairs" not in recipe and isinstance(recipe.get("base"), dict):
        recipe = recipe["base"]  # of a study
    recipe = override(recipe, overrides)
    data, pairs = recipe.get("data", {}), recipe.get("pairs", {})
    for name, section in (("data", data), ("pairs", pairs)):
        if not isinstance(section, dict):
            raise UserError(f"{recipe_or_source}: {name}", "must be a section of keys and values", section)
    if not isinstance(data.get("source"), str):
        raise UserError(f"{recipe_or_source}: data.source", "is required")
    return data, pairs


def _build(data: DataConfig, config: PairsConfig, out: Path) -> None:
    from sempairs.catalog.sources import open_source, scan_and_tell
    from sempairs.pairs.relations.listed import Listed
    from sempairs.pairs.stats import pair_stats
    from sempairs.pairs.table import save_with_baselines

    scan = scan_and_tell(open_source(data.source), progress=True)
    listed = isinstance(config, Listed) and not Path(config.file).is_dir()
    pairs = save_with_baselines(out, _images(data, scan.catalog, listed=listed), config)
    if config.count is not None and pairs.pairs_per_epoch < config.count:
        typer.echo(f"fewer pairs than the {config.count} asked for", err=True)
    _print(pair_stats(pairs))
    typer.echo(f"{out}: use it in pretraining with pairs.relation=listed, pairs.file={out}", err=True)


def _data(section: dict[str, Any], **options: Any) -> DataConfig:
    """The data section with the options that were given in the place of its own values. Raises: UserError."""
    from sempairs.catalog.selection import DataSection
    from sempairs.config import validate

    given = {name: value for name, value in options.items() if value is not None}
    return validate(DataSection, {"data": section | given}).data


def _images(data: DataConfig, catalog: Catalog, *, listed: bool = False) -> Catalog:
    """The images of the split, as pretraining chooses them. listed: a list of one's own says which pairs; of
    all images, it is not to be divided by splits that are drawn."""
    from sempairs.catalog.selection import ALL, select_images

    draw = not (listed and data.split == ALL)
    return select_images(catalog, data, whole=True, draw=draw, field="--split")[0]


def _print(stats: PairStats) -> None:
    from sempairs.pairs.stats import summary

    rows = summary(stats)
    width = min(max(len(name) for name, _ in rows), 60)
    for name, text in rows:
        # Names of domains come from the data: one row stays one line.
        typer.echo(f"{' '.join(name.split())[:60]:<{width}}  {' '.join(text.split())}")


app.command("audit")(audit)
