"""`sempairs release`: check and describe a released dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Check and describe a released dataset.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(metavar="REL", help="Folder of the release.")]


@app.command("verify")
def verify(
    release: _Folder,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Also decode every image and compare its pixels (slower).")
    ] = False,
) -> None:
    """Check a release: files against checksums, counts, the manifest hash, every image's hash.

    Prints one line for each thing that is wrong, and ends with status 2 if there is any.
    """
    from sempairs.errors import UserError
    from sempairs.release import verify_release

    problems = verify_release(release, pixels=pixels, progress=True)
    for problem in problems[1:]:
        typer.echo(f"also: {problem.where} {problem.reason}", err=True)
    if problems:
        more = f" (and {len(problems) - 1} more, above)" if len(problems) > 1 else ""
        first = problems[0]
        remedy = "get the release again from where it came"
        raise UserError(f"{release}: {first.where}", f"{first.reason}{more}", remedy=remedy)
    typer.echo(f"{release}: sound")


@app.command("info")
def info(release: _Folder) -> None:
    """Describe a release: name, version, counts, licences, manifest hash."""
    from collections import Counter

    from sempairs.catalog.sources.release import ReleaseSource

    source = ReleaseSource(str(release))
    about, catalog = source.about, source.scan().catalog
    typer.echo(f"{about.get('name', '?')} {about.get('version', '?')}")
    typer.echo(f"  manifest   {about.get('manifest_hash', '?')}")
    for name in ("images", "concepts", "categories", "domains", "split_groups"):
        typer.echo(f"  {name.replace('_', ' '):<12} {about.get('counts', {}).get(name, '?')}")
    for column in ("split", "domain", "licence"):
        tally = Counter(value or "none" for value in catalog.column(column))
        shown = ", ".join(f"{value} {count}" for value, count in tally.most_common())
        typer.echo(f"  by {column:<9} {shown}")
