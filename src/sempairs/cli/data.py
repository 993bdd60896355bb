"""`sempairs data`: which sources there are, what is in one, and scanning one into a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sempairs.cli.scenes import scenes
from sempairs.errors import UserError

if TYPE_CHECKING:
    from sempairs.catalog.sources import Scan
    from sempairs.catalog.table import Catalog

app = typer.Typer(help="Sources of images: list the kinds, look into one, scan one.", no_args_is_help=True)
app.command("scenes")(scenes)

_SHOWN = 5  # values of a column, or problems, before "and N more"

SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="kind:rest, see `sempairs data list`.", show_default=False)
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Reading threads. Default: two a core.", show_default=False)
]
Decode = Annotated[
    bool,
    typer.Option(
        "--decode", help="Decode all pixels: fills pixel_hash, finds damage inside the files. Slower."
    ),
]


@app.command("list")
def list_sources() -> None:
    """The kinds of sources, each with an example of how it is written."""
    from sempairs.catalog.sources import SOURCES

    rows = [(SOURCES.get(name).example, SOURCES.get(name).summary) for name in SOURCES.names()]
    width = max(len(example) for example, _ in rows)
    for example, summary in rows:
        typer.echo(f"{example:<{width}}  {summary}")


@app.command()
def info(source: SourceArgument, workers: Workers = None, decode: Decode = False) -> None:
    """What a source holds: images, categories, concepts, domains, splits, sizes, licences, problems."""
    from sempairs.catalog.sources import open_source

    opened = open_source(source)
    scan = opened.scan(workers=workers, progress=True, decode=decode)
    typer.echo(describe(opened.spec, scan))


@app.command()
def scan(
    source: SourceArgument,
    out: Annotated[
        Path, typer.Option("--out", help="The catalogue to write: .arrow, or .parquet for exchange.")
    ],
    workers: Workers = None,
    decode: Decode = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Read every file again, also those that seem unchanged.")
    ] = False,
) -> None:
    """Read every image of a source and save the catalogue, to be used as `catalog:PATH`.

    Reads all bytes and headers: this finds files that are empty, no images, cut short (PNG, JPEG, WebP), or
    far too large. Images that cannot be read are listed with their reasons beside the catalogue, in
    NAME.problems.csv; the scan goes on without them.

    A second scan into the same file reads only what is new or changed, told by a file's size and time of last
    change (kept beside it, in OUT.stamps); its result is that of a fresh scan. A file that was changed with
    both kept, as `touch -r` can, needs --fresh.
    """
    from sempairs.catalog.sources import open_source
    from sempairs.catalog.sources.files import FilesScan, FilesSource, open_known, save_stamps, stamps_path
    from sempairs.files import writing_in

    if out.suffix not in (".arrow", ".parquet"):
        raise UserError("--out", "must end in .arrow or .parquet", str(out))
    _check_place(out)
    opened = open_source(source)
    found: Scan
    if isinstance(opened, FilesSource):
        known = None if fresh else open_known(out, opened.spec)
        found = opened.scan(workers=workers, progress=True, decode=decode, known=known)
    else:
        found = opened.scan(workers=workers, progress=True, decode=decode)
    if not len(found.catalog):
        first = (
            f"; the first: {found.problems[0].where}: {found.problems[0].reason}" if found.problems else ""
        )
        raise UserError(
            f"source {opened.spec}", f"must hold readable images, and none of {len(found.problems)} is{first}"
        )
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_suffix(".problems.csv")
    with writing_in(out.absolute().parent):
        found.catalog.save(out)
        if isinstance(found, FilesScan):
            save_stamps(out, found, opened.spec, decoded=decode)
        else:
            stamps_path(out).unlink(missing_ok=True)  # of an earlier scan
        if found.problems:
            _write_problems(beside, found)
        else:
            beside.unlink(missing_ok=True)  # of an earlier scan
    if isinstance(found, FilesScan) and found.reused:
        typer.echo(f"unchanged since the last scan: {found.reused:,} of {len(found.catalog):,}", err=True)
    typer.echo(describe(opened.spec, found))
    if found.problems:
        typer.echo(f"warning: {len(found.problems)} could not be used, see {beside}", err=True)
    typer.echo(f"wrote {out}")


def _check_place(out: Path) -> None:
    """Raises: UserError, before anything is read, where the catalogue could not be written in the end."""
    import os

    folder = next(place for place in out.absolute().parents if place.exists())
    if out.is_dir() or not folder.is_dir():
        raise UserError(str(out), f"cannot be written ({out if out.is_dir() else folder} is in the way)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(str(out), f"cannot be written ({folder} is read-only)")


def describe(spec: str, scan: Scan) -> str:
    """A compact table of what a scan found, one line a property."""
    from sempairs.catalog.names import printable

    catalog = scan.catalog
    lines = [("source", printable(spec)), ("images", f"{len(catalog):,}")]
    lines += [(name, _values(catalog, column)) for name, column in _PROPERTIES]
    lines.append(("sizes", _sizes(catalog)))
    if catalog.extra:
        lines.append(("extra columns", ", ".join(catalog.extra)))
    shown = [f"{problem.where}: {problem.reason}" for problem in scan.problems[:_SHOWN]]
    more = f"\n… and {len(scan.problems) - _SHOWN:,} more" if len(scan.problems) > _SHOWN else ""
    lines.append(("problems", "\n".join([f"{len(scan.problems):,}", *shown]) + more))
    if scan.ignored:
        lines.append(("passed over", f"{scan.ignored:,} hidden files, or without an image's ending"))
    notes = [*scan.notes, *_taken_for_granted(scan)]
    if notes:
        lines.append(("notes", "\n".join(notes)))
    lines.append(("content hash", catalog.content_hash()))
    width = max(len(name) for name, _ in lines)
    return "\n".join(
        f"{name if first else '':<{width}}  {printable(text)}"
        for name, value in lines
        for first, text in ((index == 0, part) for index, part in enumerate(value.split("\n")))
    )


def _taken_for_granted(scan: Scan) -> list[str]:
    """What holds of every scan alike, where it holds of this one."""
    catalog = scan.catalog
    notes = []
    if len(catalog) and catalog.array("split").null_count == len(catalog):
        notes.append("no image has a split: where splits are needed they are drawn by key (data.split_seed)")
    if len(catalog) and catalog.array("pixel_hash").null_count == len(catalog):
        notes.append("no pixels were decoded: --decode finds damage inside the files")
    return notes


_PROPERTIES = (
    ("categories", "category"),
    ("concepts", "concept"),
    ("domains", "domain"),
    ("splits", "split"),
    ("split groups", "split_group"),
    ("licences", "licence"),
)


def _values(catalog: Catalog, column: str) -> str:
    """How many distinct values a column has, and the most frequent ones with their number of images."""
    import pyarrow.compute as pc

    from sempairs.catalog.names import printable

    counted = pc.value_counts(catalog.table.column(column)).to_pylist()
    without = sum(entry["counts"] for entry in counted if entry["values"] is None)
    counts = sorted((-entry["counts"], entry["values"]) for entry in counted if entry["values"] is not None)
    if not counts:
        return "none"
    shown = ", ".join(f"{printable(value)} {-count:,}" for count, value in counts[:_SHOWN])
    more = ", …" if len(counts) > _SHOWN else ""
    null = f"; {without:,} images without" if without else ""
    return f"{len(counts):,}: {shown}{more}{null}"


def _sizes(catalog: Catalog) -> str:
    import numpy as np

    if not len(catalog):
        return "none"
    sides = np.stack([catalog.column("width"), catalog.column("height")], axis=1)
    if (sides == sides[0]).all():
        return f"{sides[0, 0]} × {sides[0, 1]}"
    low, middle, high = sides.min(axis=0), np.median(sides, axis=0).astype(int), sides.max(axis=0)
    return f"{low[0]}-{high[0]} × {low[1]}-{high[1]}, median {middle[0]} × {middle[1]}"


def _write_problems(path: Path, scan: Scan) -> None:
    import csv

    from sempairs.files import atomic_write

    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["where", "reason"])
        writer.writerows((problem.where, problem.reason) for problem in scan.problems)
