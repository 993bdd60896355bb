"""`sempairs release`: write, check, describe, compare and complete a released dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sempairs.catalog.sources.base import Problem
    from sempairs.catalog.table import Catalog
    from sempairs.release.facts import ReleaseFacts

app = typer.Typer(help="Write, check, describe and compare released datasets.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(metavar="REL", help="Folder of the release.")]
_ShardSize = Annotated[
    str, typer.Option("--shard-size", help="Bytes of images in one file at most: 256MB, 1GB, ...")
]


@app.command("build")
def build(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of pairs, as `pairs build` or `verdicts apply` wrote it."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the release: new or empty.")],
    name: Annotated[str, typer.Option("--name", help="Short name, such as bird-pairs.")],
    version: Annotated[str, typer.Option("--version", help="Version, such as 1.0.0.")],
    title: Annotated[str | None, typer.Option("--title", help="Heading of the card.")] = None,
    summary: Annotated[str | None, typer.Option("--summary", help="What it is, in a paragraph.")] = None,
    creator: Annotated[
        list[str] | None, typer.Option("--creator", help="Who made it; once for each.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="SPDX id for the pair lists, and for images that state none."),
    ] = None,
    licence_file: Annotated[
        list[str] | None,
        typer.Option("--licence-file", metavar="ID=FILE", help="Text of a licence; once for each."),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Where it is published.")] = None,
    facts: Annotated[
        Path | None,
        typer.Option(
            "--facts", help="YAML with more: citation, contact, date, limits, datasheet, screening."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One of the facts: --set date=2026-01-31."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", metavar="SOURCE", help="Release all images of this source, other splits included."
        ),
    ] = None,
    split_seed: Annotated[
        int, typer.Option("--split-seed", help="Seed of the splits of --images, as for `pairs build`.")
    ] = 0,
    references_only: Annotated[
        bool,
        typer.Option("--references-only", help="Hashes and names instead of images one may not pass on."),
    ] = False,
    shard_size: _ShardSize = "256MB",
) -> None:
    """Release a set of pairs with its images, baselines, card, datasheet, Croissant metadata and checksums.

    Statistics of curation come from DIR/curation.sqlite, the false-pair rate from DIR/audit/audit.json. The
    same inputs give the same bytes, the date of publication among them: --set date=…, else SOURCE_DATE_EPOCH,
    else today's. Use it with data.source=release:REL, pairs.relation=listed and pairs.file=REL.
    """
    from sempairs.release.build import build_release

    said = {"title": title, "summary": summary, "creator": creator or None, "licence": licence, "url": url}
    known = _facts(facts, said, overrides or [])
    if known.date is None:
        known = known.model_copy(update={"date": _today()})
    about = build_release(
        folder,
        out,
        name=name,
        version=version,
        facts=known,
        images=None if images is None else _images(images, split_seed),
        references_only=references_only,
        shard_bytes=_bytes(shard_size),
        licence_files=_files(licence_file or []),
        progress=True,
    )
    pairs = about["pairs"]["sets"]["semantic"]["pairs_per_epoch"]
    counted = f"{about['counts']['images']:,} images, {pairs:,} pairs"
    typer.echo(f"{out}: {name} {version}, {counted}, published on {known.date}")


@app.command("join")
def join(
    release: _Folder,
    source: Annotated[
        str, typer.Option("--source", help="Your own copy of the images: imagenet:PATH, folder:PATH, ...")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="New folder: a release with images; or FILE.arrow: a catalogue."),
    ],
    shard_size: _ShardSize = "256MB",
) -> None:
    """Complete a release of references with your own copy of its images; every hash is checked.

    Images are found by name, else by hash anywhere in the source. Where some are missing or differ they are
    listed, nothing is written, and the status is 2.
    """
    from sempairs.release.join import join_release

    problems = join_release(release, source, out, shard_bytes=_bytes(shard_size), progress=True)
    _refuse(problems, f"{source}:", "get the images the release was made from")
    typer.echo(f"{out}: every image is there, with its hash")


@app.command("verify")
def verify(
    release: _Folder,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Also decode every image and compare its pixels (slower).")
    ] = False,
) -> None:
    """Check a release: files against checksums, counts, the manifest hash, every image's hash, the pairs.

    Prints one line for each thing that is wrong, and ends with status 2 if there is any.
    """
    from sempairs.release import verify_release

    problems = verify_release(release, pixels=pixels, progress=True)
    _refuse(problems, f"{release}:", "get the release again from where it came")
    typer.echo(f"{release}: sound")


@app.command("info")
def info(release: _Folder) -> None:
    """Describe a release: name, version, counts, licences, pairs, manifest hash."""
    from collections import Counter

    from sempairs.catalog.sources.release import ReleaseSource
    from sempairs.release.writer import counts

    source = ReleaseSource(str(release))
    about, catalog = source.about, source.scan().catalog
    typer.echo(f"{about.get('name', '?')} {about.get('version', '?')}")
    typer.echo(f"  manifest   {about.get('manifest_hash', '?')}")
    totals = counts(catalog)
    for name in ("images", "concepts", "categories", "domains", "split_groups"):
        typer.echo(f"  {name.replace('_', ' '):<12} {totals[name]}")
    for column in ("split", "domain", "licence"):
        tally = Counter(value or "none" for value in catalog.column(column))
        shown = ", ".join(f"{value} {count}" for value, count in tally.most_common())
        typer.echo(f"  by {column:<9} {shown}")
    if source.references_only:
        typer.echo("  references only: complete it with `sempairs release join`")
    _print_pairs(release)


@app.command("diff")
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="Folder of a release.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Folder of another.")],
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what changed from A to B: images, labels, pairs by arm, counts, licences."""
    from sempairs.release.diff import diff_releases

    found = diff_releases(before, after)
    if json:
        import json as encoder

        typer.echo(encoder.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    for line in found.lines():
        typer.echo(line)


def _print_pairs(release: Path) -> None:
    from sempairs.pairs.stats import pair_stats, summary
    from sempairs.pairs.table import open_released
    from sempairs.release.build import open_arms

    for arm in open_arms(release):
        pairs = open_released(release, arm)
        typer.echo(f"  pairs      {arm} {pairs.pairs_per_epoch} an epoch over {len(pairs.catalog)} images")
        for name, text in summary(pair_stats(pairs)) if arm == "semantic" else []:
            typer.echo(f"    {' '.join(name.split())[:60]:<36} {' '.join(text.split())}")


def _refuse(problems: Sequence[Problem], where: str, remedy: str) -> None:
    """Raises: UserError with the first of the problems; the others are printed before."""
    from sempairs.errors import UserError

    for problem in problems[1:]:
        typer.echo(f"also: {problem.where} {problem.reason}", err=True)
    if problems:
        more = f" (and {len(problems) - 1} more, above)" if len(problems) > 1 else ""
        raise UserError(f"{where} {problems[0].where}", f"{problems[0].reason}{more}", remedy=remedy)


def _facts(file: Path | None, said: dict[str, Any], overrides: list[str]) -> ReleaseFacts:
    from sempairs.config import override, read_yaml, validate
    from sempairs.release.facts import ReleaseFacts

    data = {} if file is None else read_yaml(file, "--facts")
    data |= {name: value for name, value in said.items() if value is not None}
    return validate(ReleaseFacts, override(data, overrides), where="" if file is None else file.name)


def _today() -> str:
    """The day in UTC, or that of SOURCE_DATE_EPOCH, by which builds are told to be reproducible."""
    import os
    from datetime import UTC, datetime

    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    told = given.isascii() and given.isdigit() and len(given) < 12
    return (datetime.fromtimestamp(int(given), UTC) if told else datetime.now(UTC)).date().isoformat()


def _images(source: str, seed: int) -> Catalog:
    from sempairs.catalog.sources import open_source, scan_and_tell
    from sempairs.catalog.splits import assign_splits

    return assign_splits(scan_and_tell(open_source(source), progress=True).catalog, seed=seed)


def _files(given: list[str]) -> dict[str, str | Path]:
    from sempairs.errors import UserError

    found: dict[str, str | Path] = {}
    for item in given:
        name, equals, file = item.partition("=")
        if not equals or not name or not file:
            raise UserError("--licence-file", "must be ID=FILE", item, "for example MIT=LICENSE")
        found[name] = file
    return found


def _bytes(text: str) -> int:
    import re

    from sempairs.errors import UserError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?", text.strip())
    if not match:
        raise UserError("--shard-size", "must be a size such as 256MB or 1GB", text)
    return int(float(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[match[2]])
