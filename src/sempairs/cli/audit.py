"""`sempairs pairs audit`: what is in a set of pairs, what is wrong with it, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

MEASURES_HELP = (
    "Exit with status 1 if NAME>NUMBER (or >=, <, <=) is true, or was not measured; repeatable. Names: "
    "pairs, classes, evenness, exact-duplicates (pairs), near-duplicates (share of pairs), near-copies "
    "(images), unreadable (images), shared (images), doubtful (share of pairs), false-pair-rate, "
    "false-pair-high (upper end of its interval), false-pair-strict (unsure as false), reviewed (pairs, by "
    "persons), licence-missing (images)."
)


def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `pairs build` wrote.")],
    embeddings: Annotated[
        Path | None,
        typer.Option("--embeddings", metavar="F", help="Features by `sempairs embed`, of the same source."),
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(
            "--verdicts",
            metavar="F",
            help="Verdicts as Parquet, by `sempairs verdicts export`. Default: those of DIR/curation.sqlite.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="SOURCE",
            help="An evaluation set that must share no image: a source or a catalogue's file; repeatable. "
            "Of one with splits, validation and test count.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the report. Default: DIR/audit; a release needs one."),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Pairs of the random sample that people review.")
    ] = 400,
    pixels: Annotated[
        bool,
        typer.Option("--pixels/--no-pixels", help="Decode every image once, to find near-duplicates."),
    ] = True,
    fail_on: Annotated[
        list[str] | None, typer.Option("--fail-on", metavar="RULE", help=MEASURES_HELP)
    ] = None,
) -> None:
    """Audit a set of pairs: index.html to look at, audit.json to read by program, doubt.parquet to review by.

    Duplicates and near-duplicates (as they are, mirrored, turned or cropped), near-copies among all images,
    images shared across splits or with evaluation sets, class balance, partners an image, similarity by
    relation, likely false pairs ranked, licences; and, from the verdicts of persons on a random sample, the
    share of false pairs with an exact 95% interval. Of a redrawn pool those of the first epoch are audited.
    """
    from sempairs.catalog.names import printable
    from sempairs.catalog.sources.release import ABOUT as RELEASE
    from sempairs.embeddings import Embeddings
    from sempairs.errors import UserError
    from sempairs.pairs.audit import audit as audited
    from sempairs.pairs.audit import broken_rules, parse_rule, write_audit
    from sempairs.pairs.audit.page import headline
    from sempairs.pairs.table import PairSet

    if sample < 1:
        raise UserError("--sample", "must be at least 1", sample)
    rules = [parse_rule(text) for text in fail_on or ()]
    if out is None and (folder / RELEASE).is_file():
        raise UserError("--out", "is required for a release, which never changes", remedy="name a folder")
    pairs = PairSet.open(folder)
    features = Embeddings.open(embeddings) if embeddings else None
    found = audited(
        pairs,
        embeddings=features,
        verdicts=_verdicts(folder, verdicts),
        against=against or (),
        pixels=pixels,
        sample=sample,
    )
    place = out or folder / "audit"
    write_audit(found, place)
    typer.echo(headline(found))
    near = f"{found.near.pairs:,}" if found.near else "not measured"
    copies = f"{found.copies.images:,}" if found.copies else "not measured"
    typer.echo(
        f"doubtful {found.doubts.count:,}, near-duplicates {near}, near-copies {copies}, "
        f"one picture twice {found.exact.pairs:,}, shared images {found.shared.images:,}, "
        f"images without a licence {found.licences.missing:,}"
    )
    if found.near and found.near.unreadable:
        first = printable(found.near.unreadable_first[0])
        typer.echo(f"warning: unreadable images: {found.near.unreadable:,}, the first: {first}", err=True)
    typer.echo(f"{place / 'index.html'}: the report", err=True)
    broken = broken_rules(found, rules)
    for line in broken:
        typer.echo(line, err=True)
    if broken:
        raise typer.Exit(1)


def _verdicts(folder: Path, given: Path | None) -> pa.Table | None:
    """The verdicts to use: the file's if one is given, else those that stand in the set's event log."""
    if given is not None:
        from sempairs.pairs.verdicts import read_verdicts

        return read_verdicts(given)
    from sempairs.curation.store import LOG, standing_verdicts

    if not (folder / LOG).is_file():
        return None

    return standing_verdicts(folder / LOG)
