"""`sempairs data scenes`: detection data made of a catalogue's drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def scenes(
    out: Annotated[Path, typer.Option("--out", help="Folder to write: new or empty.")],
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Drawings with alpha, categories and splits."),
    ] = "emoji-pairs",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting: --set size=128, --set classes=10, --set train=800, --set contexts=4.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads. Default: two a core.")] = None,
) -> None:
    """Paint scenes in the format of Pascal VOC: drawings on varied grounds, with exact boxes.

    Train, val and test hold different concepts; test_designers holds designers that no training scene shows.
    Use the folder as voc:DIR in `sempairs detect`. With contexts=N it also holds contexts/images.csv, each
    training drawing on N grounds: for pretraining, csv:DIR/contexts/images.csv and the relation cross_domain.
    With textures=SOURCE (release:texture-pairs, say) grounds are made of that source's pictures.
    """
    from sempairs.catalog.scenes import ScenesConfig, write_scenes
    from sempairs.catalog.sources import open_source
    from sempairs.config import override, validate

    config = validate(ScenesConfig, override({}, overrides or []), "--set")
    catalog = open_source(source).scan(progress=True).catalog
    about = write_scenes(catalog, out, config, workers=workers, progress=True)
    shown = ", ".join(f"{name} {count}" for name, count in about["scenes"].items())
    typer.echo(f"{out}: {len(about['classes'])} classes; scenes: {shown or 'none'}")
