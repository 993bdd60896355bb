"""Gives a release of references the images it refers to, from the user's own copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sempairs.catalog import Catalog
from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.names import escape_name
from sempairs.catalog.sources.base import Problem, Source, open_source
from sempairs.catalog.sources.reading import in_threads
from sempairs.catalog.sources.release import ReleaseSource
from sempairs.errors import UserError
from sempairs.files import sha256_bytes, writing_in
from sempairs.progress import track
from sempairs.release.build import SHARD_BYTES, Dataset, open_arms, refuse_taken, write_dataset
from sempairs.release.facts import ReleaseFacts
from sempairs.release.images import WORKERS, ImageFiles, read_file
from sempairs.release.writer import LICENCES


@dataclass(frozen=True)
class Found:
    """Where the images of a release of references are: the rows with the source and uri they have there, and
    the images that are not (`missing` or with another hash), by their name in the release."""

    catalog: Catalog
    problems: tuple[Problem, ...]


def find_images(root: str | Path, source: str, *, progress: bool = False) -> Found:
    """Looks for every image of the release `root` in `source`: by name, else by hash anywhere in it.

    Raises: UserError if `root` is no release of references, or the source cannot be opened.
    """
    release, there = ReleaseSource(str(root)), open_source(source)
    if not release.references_only:
        raise UserError(str(root), "holds its images already", remedy=f"use it as release:{root}")
    catalog = release.scan().catalog
    uris, hashes = catalog.column("uri"), catalog.column("file_hash")
    rows = list(zip(uris, hashes, strict=True))
    found = in_threads(lambda row: _by_name(there, *row), rows, WORKERS)
    named = list(track(found, total=len(rows), what="joining", unit="image") if progress else found)
    by_hash: dict[str, str] = {}
    if any(state != "found" for state in named):  # other names, or pixels without files
        whole = ImageFiles(there.scan(progress=progress).catalog, progress=progress).catalog
        by_hash = dict(zip(whole.column("file_hash"), whole.column("uri"), strict=True))
    place: list[str | None] = []
    problems = []
    for (uri, file_hash), state in zip(rows, named, strict=True):
        place.append(uri if state == "found" else by_hash.get(file_hash))
        if place[-1] is None:
            reason = "has another file_hash than the released image" if state == "differs" else "is missing"
            problems.append(Problem(escape_name(uri), reason))
    if problems:
        return Found(catalog.select([]), tuple(problems))
    return Found(catalog.with_column("source", [there.spec] * len(catalog)).with_column("uri", place), ())


def join_release(
    root: str | Path,
    source: str,
    out: str | Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = False,
) -> tuple[Problem, ...]:
    """Write a release of references with the images of a source; every hash is checked.

    Args:
        root: The release of references.
        source: Where the images are, `imagenet:PATH` for instance.
        out: A new folder becomes a release with image bytes; a path that ends in `.arrow` a catalogue whose
            images stay where they are (source `catalog:OUT`, pairs from `root`).
        shard_bytes: Of images in one file, at most.
        progress: Whether progress is shown.

    Returns:
        The images that are missing or differ; if there is any, nothing was written.

    Raises:
        UserError: if `root` is no such release, the source cannot be read, or `out` is in use.
    """
    target = Path(out)
    refuse_taken(target)
    found = find_images(root, source, progress=progress)
    if found.problems:
        return found.problems
    if target.suffix == ".arrow":
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        with writing_in(target.absolute().parent):
            refuse_taken(target)  # nobody has written it meanwhile
            found.catalog.save(target)
        return ()
    dataset = read_dataset(root)
    files = ImageFiles(found.catalog, progress=progress)
    place = dict(zip(dataset.catalog.column("uri"), found.catalog.column("uri"), strict=True))
    joined = replace(dataset, references_only=False, joined=True)
    write_dataset(
        target, joined, lambda uri: files.read(place[uri]), shard_bytes=shard_bytes, progress=progress
    )
    return ()


def read_dataset(root: str | Path, catalog: Catalog | None = None) -> Dataset:
    """All of a release of format 2 but its images. catalog: its rows, where they were read already.

    Raises: UserError if it is not sound.
    """
    from sempairs.config import validate
    from sempairs.pairs.table import open_released

    source = ReleaseSource(str(root))
    about: dict[str, Any] = source.about
    catalog = source.scan().catalog if catalog is None else catalog
    texts = sorted((source.root / LICENCES).glob("*.txt"))
    builder = about.get("builder") or {}
    if not isinstance(builder, dict):
        raise UserError(f"{source.root}: builder", "must be a section of keys", builder)
    return Dataset(
        name=str(about.get("name")),
        version=str(about.get("version")),
        catalog=catalog,
        sets={arm: open_released(source.root, arm, catalog=catalog) for arm in open_arms(source.root)},
        licences={file.name: file.read_text("utf-8") for file in texts},
        facts=validate(ReleaseFacts, about.get("facts") or {}, where=str(source.root)),
        curation=about.get("curation"),
        audit=about.get("audit"),
        references_only=source.references_only,
        joined=bool(about.get("joined")),
        builder=builder,
    )


def _by_name(source: Source, uri: str, file_hash: str) -> str:
    """Whether the source has the image under its released name: found, differs or missing."""
    try:
        same = sha256_bytes(read_file(source, uri)) == file_hash
    except UnreadableImage:
        return "missing"
    return "found" if same else "differs"
