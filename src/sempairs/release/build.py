"""A release of pairs and their images (format 2), made from a folder of pairs.

    data/<split>-00000.parquet   catalogue columns and the images' bytes, in shards; or references: no bytes
    pairs/<arm>.parquet          the semantic pairs and their matched baselines
    release.json                 name, version, counts, hashes, facts, curation and audit
    README.md, DATASHEET.md      the card with Hugging Face's front matter; the datasheet
    croissant.json               the same for machines (Croissant 1.0)
    LICENSES/, checksums.sha256
    .gitattributes               for whoever puts the folder into a repository; not in the checksums

The same inputs give the same files, given the same version of pyarrow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sempairs import __version__
from sempairs.catalog import Catalog
from sempairs.catalog.sources.release import ABOUT, DATA, FILES, FORMAT, REFERENCES
from sempairs.errors import UserError
from sempairs.files import atomic_folder, sha256_file, write_json
from sempairs.pairs.released import RELEASED, plain
from sempairs.pairs.table import PairSet, open_released
from sempairs.release.croissant import croissant
from sempairs.release.dataset_card import render_card
from sempairs.release.datasheet import render_datasheet
from sempairs.release.evidence import audit_of, curation_of
from sempairs.release.facts import ReleaseFacts
from sempairs.release.images import ImageFiles
from sempairs.release.licences import licence_texts
from sempairs.release.writer import (
    ATTRIBUTES,
    ATTRIBUTES_TEXT,
    CARD,
    CHECKSUMS,
    LICENCES,
    checksums,
    counts,
    manifest_hash,
    refuse_columns,
    write_images,
    write_text,
)

CROISSANT = "croissant.json"
DATASHEET = "DATASHEET.md"
ARMS = ("semantic", "augmented", "image_matched")
SHARD_BYTES = 256 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:[-+.][A-Za-z0-9.+-]+)?")


@dataclass(frozen=True)
class Dataset:
    """All that a release is written from, and all that is read back from one.

    catalog: rows with unique uris. sets: by arm, `semantic` among them. curation, audit: see `evidence`.
    joined: a release of references, with a user's own copies of its images.
    """

    name: str
    version: str
    catalog: Catalog
    sets: Mapping[str, PairSet]
    licences: Mapping[str, str]
    facts: ReleaseFacts = field(default_factory=ReleaseFacts)
    curation: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    references_only: bool = False
    joined: bool = False
    builder: Mapping[str, str] = field(
        default_factory=lambda: {"sempairs": __version__, "pyarrow": installed("pyarrow")}
    )

    @property
    def title(self) -> str:
        return self.facts.title or self.name


def build_release(
    folder: str | Path,
    out: str | Path,
    *,
    name: str,
    version: str,
    facts: ReleaseFacts | None = None,
    images: Catalog | None = None,
    references_only: bool = False,
    shard_bytes: int = SHARD_BYTES,
    licence_files: Mapping[str, str | Path] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Release a folder of pairs, or another release, as a new folder. Nothing is left behind after an error.

    Args:
        folder: What `pairs build` or `verdicts apply` wrote, or a release.
        out: The new folder.
        name: Of the dataset.
        version: Of the dataset, 1.0.0 for instance.
        facts: What card and datasheet say beside what the data tell.
        images: Further images to release, such as those of the validation and test splits.
        references_only: Release ids, hashes, sizes and relative names, for images one may not pass on.
        shard_bytes: Of images in one file, at most.
        licence_files: Texts of licences by SPDX id.
        progress: Whether progress is shown.

    Returns:
        What `release.json` says.

    Raises:
        UserError: if anything does not fit.
    """
    facts = facts or ReleaseFacts()
    if not _NAME.fullmatch(name):
        raise UserError("--name", "must be letters, digits, dots, dashes and underscores", name)
    if not _VERSION.fullmatch(version):
        raise UserError("--version", "must be a version like 1.0.0", version)
    if shard_bytes < 1 << 10:
        raise UserError("--shard-size", "must be at least 1 KiB", shard_bytes)
    refuse_taken(out)
    sets = pair_sets(folder)
    catalog = sets["semantic"].catalog if images is None else _merged(sets["semantic"].catalog, images)
    # Before any image is read: columns and licences are the first things to mend.
    refuse_columns(catalog, references_only=references_only)
    _check_licences(catalog, facts, references_only)
    texts = licence_texts(
        _licensed(catalog, facts, references_only),
        [facts.licence] if facts.licence else [],
        licence_files or {},
        with_images=not references_only,
    )
    files = ImageFiles(catalog, progress=progress)
    prepared = files.with_sizes(progress=progress) if references_only else files.catalog
    semantic = sets["semantic"]
    dataset = Dataset(
        name=name,
        version=version,
        catalog=_licensed(prepared, facts, references_only),
        sets=sets,
        licences=texts,
        facts=facts,
        curation=curation_of(Path(folder), semantic),
        audit=audit_of(Path(folder), semantic.manifest_hash),
        references_only=references_only,
    )
    read = None if references_only else files.read
    return write_dataset(out, dataset, read, shard_bytes=shard_bytes, progress=progress)


def write_dataset(
    out: str | Path,
    dataset: Dataset,
    read: Callable[[str], bytes] | None,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = False,
) -> dict[str, Any]:
    """Writes `dataset` to the new folder `out`, whole or not at all; returns what `release.json` says.

    read: the bytes of the image of a uri, which must have the row's `file_hash`; None for references.
    Raises: UserError if `out` is in use or an image is not the one of its row; OSError as the disk has it.
    """
    assert (read is None) == dataset.references_only
    catalog = dataset.catalog.in_order()
    catalog = catalog.with_column("source", [dataset.name] * len(catalog))
    with atomic_folder(out) as folder:
        write_images(folder / DATA, catalog, read, shard_bytes=shard_bytes, progress=progress)
        pairs = _write_pairs(folder / RELEASED, dataset.sets)
        for file, text in dataset.licences.items():
            write_text(folder / LICENCES / file, text)
        about = {
            "format": FORMAT,
            "name": dataset.name,
            "version": dataset.version,
            "images": REFERENCES if dataset.references_only else FILES,
            "joined": dataset.joined,
            "manifest_hash": manifest_hash(catalog),
            "counts": counts(catalog),
            "pairs": pairs,
            "facts": dataset.facts.model_dump(mode="json"),
            "curation": dataset.curation,
            "audit": dataset.audit,
            "builder": dict(dataset.builder),
        }
        write_json(folder / ABOUT, about)
        write_text(folder / CARD, render_card(dataset, catalog))
        write_text(folder / DATASHEET, render_datasheet(dataset, catalog))
        write_json(folder / CROISSANT, croissant(dataset, catalog, folder))
        write_text(folder / ATTRIBUTES, ATTRIBUTES_TEXT)
        write_text(folder / CHECKSUMS, checksums(folder))
    return about


def refuse_taken(out: str | Path) -> None:
    """Raises: UserError if `out` is in use: said before hours of hashing, and again when it is written."""
    target = Path(out)
    if target.exists() and (target.suffix == ".arrow" or not target.is_dir() or any(target.iterdir())):
        rule = "must be a new or empty folder" if target.is_dir() else "must be new"
        raise UserError("--out", rule, str(target), "choose another, or remove it")


def pair_sets(folder: str | Path) -> dict[str, PairSet]:
    """The semantic set in a folder of pairs or a release, and its baselines as far as they are there.

    Raises: UserError if one is not sound, or a baseline is not that of the semantic set.
    """
    place = Path(folder)
    if (place / ABOUT).is_file():
        semantic = open_released(place)
        arms = open_arms(place)
        sets = {arm: semantic if arm == "semantic" else open_released(place, arm) for arm in arms}
    else:
        semantic = PairSet.open(place)
        sets = {"semantic": semantic}
        sets |= {arm: PairSet.open(place / arm) for arm in ARMS[1:] if (place / arm).is_dir()}
    for arm, pairs in sets.items():
        if pairs.config.arm != arm:
            raise UserError(str(place), f"must hold the {arm} arm of a set of pairs", pairs.config.arm)
        check_matched(place, arm, pairs, semantic)
    return sets


def open_arms(root: Path) -> list[str]:
    """The arms that a release says it holds."""
    from sempairs.catalog.sources.release import read_about

    pairs = read_about(root).get("pairs")
    sets = pairs.get("sets") if isinstance(pairs, dict) else None
    return [arm for arm in ARMS if isinstance(sets, dict) and arm in sets]


def check_matched(place: Path, arm: str, pairs: PairSet, semantic: PairSet) -> None:
    """A baseline has the semantic set's images and number of pairs: rejected pairs have left both."""
    theirs, ours = (
        dict(zip(s.catalog.column("image_id"), s.catalog.column("file_hash"), strict=True))
        for s in (semantic, pairs)
    )
    fits = pairs.pairs_per_epoch == semantic.pairs_per_epoch and ours.items() <= theirs.items()
    if arm == "augmented" and semantic.config.mode == "fixed":
        fits = fits and set(pairs.table.column("anchor").to_pylist()) == set(
            semantic.table.column("anchor").to_pylist()
        )
    if not fits:
        remedy = "build the pairs again, or apply the verdicts again"
        raise UserError(str(place / arm), "is not the baseline of the pairs beside it", remedy=remedy)


def _write_pairs(folder: Path, sets: Mapping[str, PairSet]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    folder.mkdir()
    written: dict[str, Any] = {}
    for arm, pairs in sets.items():
        file = folder / f"{arm}.parquet"
        pq.write_table(_published(pairs.table), file, compression="zstd", row_group_size=1 << 16)
        written[arm] = {
            "file": f"{RELEASED}/{file.name}",
            "sha256": sha256_file(file),
            "manifest_hash": pairs.manifest_hash,
            "rows": len(pairs),
            "pairs_per_epoch": pairs.pairs_per_epoch,
            "images": len(pairs.catalog),
        }
    semantic = sets["semantic"]
    config = semantic.config.model_dump(mode="json")
    return {
        "config": _without_places(config),
        "catalog_hash": semantic.catalog_hash,
        "catalog_images": semantic.catalog_images,
        "sets": written,
        # An encoder that mined pairs is extra data, also for whoever trains on a release of them.
        **({"mining": dict(semantic.mining)} if semantic.mining else {}),
    }


def _published(table: pa.Table) -> pa.Table:
    """The pairs for exchange; what their builder was told, without the places of its files."""
    flat = plain(table)
    told = flat.column("params").to_pylist()
    clean = {text: _params(text) for text in set(told)}
    column = pa.array([clean[text] for text in told], type=pa.string())
    return flat.set_column(flat.column_names.index("params"), "params", column)


def _params(text: str) -> str:
    try:
        told = json.loads(text)
    except ValueError:  # of another builder than ours
        return text
    return json.dumps(_without_places(told), sort_keys=True) if isinstance(told, dict) else text


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Of files that lists and embeddings came from the name alone: where they lay is nobody's business."""
    places = {name: Path(str(config[name])).name for name in ("file", "embeddings") if config.get(name)}
    return {**config, **places}


def _merged(pairs: Catalog, more: Catalog) -> Catalog:
    """The images of the pairs, then those of `more` that are not among them.

    Raises: UserError if both name an image and say otherwise about its file or its split.
    """
    shared = np.isin(more.column("image_id"), pairs.column("image_id"))
    place = pairs.rows_of(more.column("image_id")[shared])
    for column in ("file_hash", "split"):
        differs = more.column(column)[shared] != pairs.column(column)[place]
        if differs.any():
            at = str(more.column("image_id")[shared][int(np.argmax(differs))])
            remedy = (
                "scan again" if column == "file_hash" else "give the --split-seed the pairs were built with"
            )
            raise UserError("--images", f"must have the {column} that the pairs were built with", at, remedy)
    rest = more.select(~shared)
    tables = [pairs.table, rest.table]
    try:
        return Catalog.from_table(pa.concat_tables(tables, promote_options="permissive"))
    except pa.ArrowException as error:
        raise UserError("--images", f"must have the columns of the pairs' images ({error})") from None


def _check_licences(catalog: Catalog, facts: ReleaseFacts, references_only: bool) -> None:
    unstated = sum(value is None for value in catalog.column("licence"))
    if facts.licence is None and (references_only or unstated):
        what = "of the pair lists" if references_only else f"of {unstated} images that state none"
        raise UserError("--licence", f"is required: the SPDX id of the licence {what}")


def _licensed(catalog: Catalog, facts: ReleaseFacts, references_only: bool) -> Catalog:
    """Images that state no licence get the dataset's; not so references, whose images are not passed on."""
    licence = catalog.column("licence")
    if references_only or not any(value is None for value in licence):
        return catalog
    return catalog.with_column("licence", [facts.licence if v is None else v for v in licence])
