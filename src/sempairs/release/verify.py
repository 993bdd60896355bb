"""Checks a release against its own checksums, hashes and counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from sempairs import __version__
from sempairs.catalog import Catalog
from sempairs.catalog.images import UnreadableImage, decode, pixel_hash
from sempairs.catalog.names import escape_name
from sempairs.catalog.sources.base import Problem
from sempairs.catalog.sources.release import ABOUT, DATA, FORMAT, IMAGE, ReleaseSource, read_about
from sempairs.errors import UserError
from sempairs.files import read_json, sha256_bytes, sha256_file
from sempairs.pairs.released import RELEASED
from sempairs.pairs.table import open_released
from sempairs.progress import track
from sempairs.release.build import CROISSANT, DATASHEET, check_matched, open_arms
from sempairs.release.croissant import croissant
from sempairs.release.dataset_card import render_card
from sempairs.release.datasheet import render_datasheet
from sempairs.release.join import read_dataset
from sempairs.release.writer import CARD, CHECKSUMS, counts, is_foreign, manifest_hash

_POINTER = b"version https://git-lfs.github.com/spec/"
# What of the Croissant metadata no other version of sempairs would say otherwise.
_LASTING = ("name", "version", "license", "distribution")
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def verify_release(path: str | Path, *, pixels: bool = False, progress: bool = False) -> tuple[Problem, ...]:
    """Everything that is wrong with the release in folder `path`; empty if it is as it was written.

    First files against checksums: changed, missing and extra ones, and empty folders; what version control,
    the Hub and file managers keep there is passed over. If those agree, the counts, the manifest hash, every
    image's file hash, and card, datasheet and Croissant against what data and facts make of them; with
    `pixels`, also what each image decodes to.
    Raises: UserError if `path` is no folder or holds no release at all.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(str(root), "must be an existing folder")
    if not (root / CHECKSUMS).exists() and not (root / ABOUT).exists():
        raise UserError(str(root), f"is no release: it has neither {ABOUT} nor {CHECKSUMS}")
    problems = list(_files(root))
    if not problems:
        try:
            problems = [*_content(root), *_images(root, pixels, progress)]
        except (UserError, pa.ArrowException) as error:
            problems = [Problem(DATA, str(error))]
    return tuple(problems)


def _files(root: Path) -> Iterator[Problem]:
    if not (root / CHECKSUMS).is_file():
        yield Problem(CHECKSUMS, "is missing")
        return
    listed: dict[str, str] = {}
    for number, line in enumerate(
        (root / CHECKSUMS).read_text("utf-8", errors="replace").splitlines(), start=1
    ):
        match = _LINE.fullmatch(line)
        if match and match[2] not in listed:
            listed[match[2]] = match[1]
        else:
            yield Problem(CHECKSUMS, f"line {number} is not a checksum and a file name")
    found = {p.relative_to(root).as_posix(): p for p in root.rglob("*")}
    found = {name: path for name, path in found.items() if not is_foreign(name)}
    present = {name: path for name, path in found.items() if path.is_symlink() or not path.is_dir()}
    listed = {name: digest for name, digest in listed.items() if not is_foreign(name)}
    used = {parent.as_posix() for name in (*listed, *present) for parent in PurePosixPath(name).parents}
    for name in sorted(found.keys() - present.keys() - used):
        yield Problem(escape_name(name), "is an empty folder")
    for name in sorted(listed.keys() | present.keys() - {CHECKSUMS}):
        file = present.get(name)
        if file is None:
            yield Problem(escape_name(name), "is missing")
        elif name not in listed:
            yield Problem(escape_name(name), f"is not listed in {CHECKSUMS}")
        elif file.is_symlink() or not file.is_file():
            yield Problem(escape_name(name), "is a link or no regular file")
        elif sha256_file(file) != listed[name]:
            yield Problem(escape_name(name), _difference(file))
    for name in _required(root):
        if name not in listed:
            yield Problem(CHECKSUMS, f"does not list {name}")


def _difference(file: Path) -> str:
    with open(file, "rb") as handle:
        if handle.read(len(_POINTER)) == _POINTER:
            return "is a pointer of Git LFS, not the file; run `git lfs pull`"
    return "does not have the listed checksum"


def _required(root: Path) -> tuple[str, ...]:
    try:
        pairs = read_about(root)["format"] == FORMAT
    except UserError:  # said elsewhere
        pairs = False
    return (ABOUT, CARD, DATASHEET, CROISSANT) if pairs else (ABOUT, CARD)


def _content(root: Path) -> Iterator[Problem]:
    about = read_about(root)
    source = ReleaseSource(str(root))
    catalog = source.scan().catalog
    for field, found in (("manifest_hash", manifest_hash(catalog)), ("counts", counts(catalog))):
        if about.get(field) != found:
            yield Problem(ABOUT, f"{field} is not that of the data")
    if about["format"] == FORMAT:
        faults = [*_pairs(root, catalog), *(_no_images(root) if source.references_only else ())]
        yield from faults or _descriptions(root, catalog)


def _pairs(root: Path, catalog: Catalog) -> Iterator[Problem]:
    """Every arm is what was released, and each baseline that of the semantic pairs."""
    arms = open_arms(root)
    if "semantic" not in arms:
        yield Problem(ABOUT, "names no semantic pairs")
        return
    extra = {path.stem for path in (root / RELEASED).glob("*") if not is_foreign(path.name)} - set(arms)
    if extra:
        yield Problem(escape_name(f"{RELEASED}/{min(extra)}"), f"is not named in {ABOUT}")
    semantic = None
    for arm in arms:
        try:
            pairs = open_released(root, arm, catalog=catalog)
            semantic = pairs if semantic is None else semantic
            check_matched(root / RELEASED, arm, pairs, semantic)
        except UserError as error:
            yield Problem(f"{RELEASED}/{arm}.parquet", str(error))
            continue
        told = read_about(root)["pairs"]["sets"][arm]
        if (told.get("rows"), told.get("images")) != (len(pairs), len(pairs.catalog)):
            yield Problem(ABOUT, f"rows or images of the {arm} pairs are not those of the data")


def _descriptions(root: Path, catalog: Catalog) -> Iterator[Problem]:
    """Card, datasheet and Croissant are those that data and facts give; written by another version of
    sempairs, whose words may differ, they are compared in what lasts."""
    dataset = read_dataset(root, catalog)
    rows = catalog.in_order().with_column("source", [dataset.name] * len(catalog))
    said = read_json(root / CROISSANT)
    try:
        wanted = croissant(dataset, rows, root)
        texts = {CARD: render_card(dataset, rows), DATASHEET: render_datasheet(dataset, rows)}
    # What stands in it was written by anyone.
    except (AttributeError, KeyError, IndexError, TypeError, ArithmeticError, ValueError) as error:
        yield Problem(ABOUT, f"holds facts that no card can be made of ({type(error).__name__}: {error})")
        return
    ours = dataset.builder.get("sempairs") == __version__
    wrong = "is not what the data and release.json give; facts belong in release.json, by `release build`"
    if not isinstance(said, dict):
        said = {}
    keys = sorted(wanted.keys() | said.keys()) if ours else _LASTING
    differing = [key for key in keys if said.get(key) != wanted.get(key)]
    if differing:
        yield Problem(CROISSANT, f"{', '.join(differing)} {wrong}")
    for name, text in texts.items() if ours else ():
        if (root / name).read_bytes() != text.encode():
            yield Problem(name, wrong)


def _no_images(root: Path) -> Iterator[Problem]:
    import pyarrow.parquet as pq

    for file in sorted((root / DATA).glob("*.parquet")):
        if IMAGE in pq.read_schema(file).names:
            yield Problem(f"{DATA}/{file.name}", "holds images, in a release of references")


def _images(root: Path, pixels: bool, progress: bool) -> Iterator[Problem]:
    if ReleaseSource(str(root)).references_only:
        return
    rows = _rows(
        sorted((root / DATA).glob("*.parquet")), ["uri", "file_hash", "pixel_hash", "width", "height"]
    )
    for file, row in track(rows, what="verifying", unit="image") if progress else rows:
        fault = _image_fault(row, pixels)
        if fault:
            yield Problem(escape_name(f"{DATA}/{file}: {row['uri']}"), fault)


def _rows(files: list[Path], columns: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and the given columns with the image of every row, a few at a time."""
    import pyarrow.parquet as pq

    for file in files:
        with pq.ParquetFile(file) as opened:
            if opened.schema_arrow.get_field_index(IMAGE) < 0:
                raise UserError(file.name, f"lacks the column {IMAGE}")
            for batch in opened.iter_batches(256, columns=[*columns, IMAGE]):
                yield from ((file.name, row) for row in batch.to_pylist())


def _image_fault(row: dict[str, Any], pixels: bool) -> str | None:
    data = (row[IMAGE] or {}).get("bytes")
    if data is None:
        return "has no image"
    if sha256_bytes(data) != row["file_hash"]:
        return "does not have its file_hash"
    if not pixels:
        return None
    try:
        image = decode(data)
    except UnreadableImage as error:
        return str(error)
    if image.size != (row["width"], row["height"]):
        return f"is {image.width} x {image.height} pixels, not {row['width']} x {row['height']}"
    if row["pixel_hash"] is not None and pixel_hash(image) != row["pixel_hash"]:
        return "does not have its pixel_hash"
    return None
