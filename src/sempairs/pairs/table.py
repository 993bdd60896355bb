"""A set of pairs as a table and on disk.

A folder of pairs holds `pairs.arrow`, `catalog.arrow` (the rows of the catalogue that the pairs use) and
`pairs.json` (configuration, counts, hashes). It is written whole or not at all and checked when opened.
Pretraining takes such a folder as `pairs: {relation: listed, file: FOLDER}`, with `mode: redrawn` for a pool
and `arm: augmented` or `arm: image_matched` for the matched baselines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sempairs import __version__
from sempairs.catalog.exposure import EXPOSURE, copy_record
from sempairs.catalog.sources.release import ABOUT as RELEASE
from sempairs.catalog.table import Catalog
from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.files import atomic_folder, read_json, sha256_file, write_json
from sempairs.pairs import listing
from sempairs.pairs.config import PairsConfig, PairsSection
from sempairs.pairs.index import ImageIndex, Int, Labels
from sempairs.pairs.manifest import pair_hash, pair_rows, rows_hash
from sempairs.pairs.released import REMEDY, read_released
from sempairs.pairs.rules import class_labels
from sempairs.pairs.select import AUGMENTED, CORRUPTED, Selection, meaning_of_all, of_list, select

_WORDS = pa.dictionary(pa.int32(), pa.string())
PAIR_SCHEMA = pa.schema(
    [
        pa.field("anchor", pa.string(), nullable=False),
        pa.field("partner", pa.string()),  # null: drawn anew every epoch
        pa.field("relation", _WORDS, nullable=False),
        pa.field("score", pa.float64()),
        pa.field("builder", _WORDS, nullable=False),
        pa.field("params", _WORDS, nullable=False),
    ]
)
PAIRS, IMAGES, ABOUT = "pairs.arrow", "catalog.arrow", "pairs.json"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class PairSet:
    """Pairs of image ids, and the catalogue rows they use.

    table: `PAIR_SCHEMA`, sorted by anchor and partner. A redrawn pool has one row an image, its partner null
    unless it is false by `corrupted`. A redrawn list has the listed pairs. The image-matched baseline has one
    row for each image that its `pairs_per_epoch` anchors are taken from.
    catalog: sorted by id. catalog_hash, catalog_images: of the whole catalogue the set was built from.
    mining: of mined pairs, the embeddings' hash, their encoder, and how the neighbours were searched.
    """

    table: pa.Table
    catalog: Catalog
    config: PairsConfig
    pairs_per_epoch: int
    catalog_hash: str
    catalog_images: int
    mining: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @classmethod
    def build(cls, catalog: Catalog, config: PairsConfig) -> PairSet:
        """The pairs that `config` asks for. Raises: UserError if there are none, or a column is missing."""
        refuse_of_a_run(config)
        selection = select(ImageIndex(catalog), config)
        return cls.of(selection, config.arm, catalog.content_hash(), len(catalog))

    @classmethod
    def of(cls, selection: Selection, arm: str, catalog_hash: str = "", catalog_images: int = 0) -> PairSet:
        """Make the table of one arm of a selection.

        Args:
            selection: The semantic set.
            arm: `semantic`, `augmented` or `image_matched`.
            catalog_hash: Content hash of the catalogue that the pairs were found in, where it is known.
            catalog_images: How many images that catalogue has.

        Returns:
            The pairs of that arm, with the catalogue rows they use.
        """
        config = selection.config.model_copy(update={"arm": arm})
        anchor, partner, score = selection.anchor, selection.partner, selection.score
        relation, names = selection.relation, selection.relations
        if arm == "semantic" and selection.edges is not None:
            anchor, partner = selection.edges
            # Images listed with themselves are there for want of a partner.
            relation = np.where(anchor == partner, len(names) - 2, 0)
            given = selection.edge_score
            score = np.full(len(anchor), np.nan) if given is None else given
        elif arm != "semantic":
            anchor = partner = selection.shown(arm) if arm == "image_matched" else selection.anchor
            relation, names = np.zeros(len(anchor), dtype=np.int64), (AUGMENTED,)
            score = np.full(len(anchor), np.nan)
        # Arrow does not take arrays that repeat one value.
        partner, relation = np.ascontiguousarray(partner), np.ascontiguousarray(relation)
        score = np.ascontiguousarray(score)
        index = selection.index
        ids = pa.array(index.ids, type=pa.string())
        columns = [
            ids.take(pa.array(anchor)),
            ids.take(pa.array(partner, mask=partner < 0)),
            pa.array(names, type=pa.string()).take(pa.array(relation)).dictionary_encode(),
            pa.array(score, mask=np.isnan(score)),
            _constant(f"sempairs {__version__}", len(anchor)),
            _constant(_params(config, selection.mining), len(anchor)),
        ]
        used = np.unique(np.concatenate([anchor, partner[partner >= 0]]))
        images = index.catalog.select(index.rows[used])
        return cls(
            pa.table(columns, schema=PAIR_SCHEMA),
            images,
            config,
            len(selection),
            catalog_hash,
            catalog_images,
            selection.mining,
        )

    @cached_property
    def index(self) -> ImageIndex:
        return ImageIndex(self.catalog)

    @cached_property
    def anchor(self) -> Int:
        """Anchors as items of `index`, (N,)."""
        return self.index.items_of(self.catalog.rows_of(self.table.column("anchor")))

    @cached_property
    def partner(self) -> Int:
        """Partners as items of `index`, (N,); -1 where drawn anew every epoch."""
        column = self.table.column("partner")
        found = np.full(len(self), -1, dtype=np.int64)
        given = column.is_valid().to_numpy().astype(bool)
        found[given] = self.index.items_of(self.catalog.rows_of(column.drop_null()))
        return found

    @cached_property
    def relation(self) -> list[str]:
        """The relation of each row."""
        found: list[str] = self.table.column("relation").cast(pa.string()).to_pylist()
        return found

    @property
    def meaning(self) -> Labels:
        """What each pair shares, by row. Images without a known meaning share one where they are paired."""
        rule = self.config.rule(self.index)
        return meaning_of_all(self.index, rule.meaning, (self.anchor, self.partner)).take(self.anchor)

    @property
    def category(self) -> Labels:
        """The class each pair counts towards, by row; may be unknown."""
        return class_labels(self.index, self.config.rule(self.index)).take(self.anchor)

    @cached_property
    def manifest_hash(self) -> str:
        """Covers ids and relations, whatever the order of rows and of the images in a pair.

        For a redrawn set the pool: also what partners are drawn by, which is each image's meaning and block.
        """
        ids, partners = self.table.column("anchor").to_pylist(), self.table.column("partner").to_pylist()
        config = self.config
        if config.mode == "fixed" or config.arm != "semantic":
            return pair_hash(ids, partners, self.relation)
        header = redrawn_header(config, self.mining)
        if None not in partners and CORRUPTED not in self.relation:
            return rows_hash(header, pair_rows(ids, partners, self.relation))
        rule = config.rule(self.index)
        meaning = rule.meaning.take(self.anchor).texts()
        block = rule.block.take(self.anchor).texts() if rule.block else [None] * len(ids)
        rows = zip(ids, partners, self.relation, meaning, block, strict=True)
        return rows_hash(header, (list(row) for row in rows))

    def selection(self, pool: ImageIndex) -> Selection:
        """A redrawn set as the selection it was, over just its images."""
        # The limits were applied when the images of the pool were chosen.
        config = self.config.model_copy(update={"count": None, "per_class": None})
        if config.by_columns:
            return select(pool, config)
        ends = (listing.items(pool, self.table.column(name).to_pylist()) for name in ("anchor", "partner"))
        anchor, partner = ends
        order = np.lexsort((partner, anchor))
        score = self.table.column("score").fill_null(float("nan")).to_numpy()[order]
        rule = config.rule(pool)
        return of_list(pool, config, rule, anchor[order], partner[order], score=score, mining=self.mining)

    def validate(self) -> None:
        """Raises: UserError if a pair names an image that is not there, one with itself outside the relation
        `augmented`, two splits, or a set that is not redrawn has an empty partner."""
        if self.table.schema != PAIR_SCHEMA:
            raise UserError("pairs", f"must have the columns {PAIR_SCHEMA.names}", self.table.schema.names)
        for name in ("anchor", "relation", "builder", "params"):
            if self.table.column(name).null_count:
                raise UserError(f"pairs.{name}", "must not be empty")
        given = self.partner >= 0
        if self.config.mode == "fixed" and not given.all():
            raise UserError("pairs.partner", "must be given in a set of fixed pairs")
        anchor, partner = self.anchor[given], self.partner[given]
        same = np.array([name == AUGMENTED for name in self.relation], dtype=bool)[given]
        wrong = (anchor == partner) != same
        if wrong.any():
            at = self.index.ids[anchor[np.argmax(wrong)]]
            raise UserError("pairs", "must pair an image with itself in augmented pairs, and only there", at)
        across = self.index.split[anchor] != self.index.split[partner]
        if across.any():
            at = self.index.ids[anchor[np.argmax(across)]]
            raise UserError("pairs", "must not pair images of two splits", at)

    def save(self, folder: str | Path) -> None:
        """Writes the set as a new folder, whole or not at all. Raises: UserError if it is there already."""
        with atomic_folder(folder) as temporary:
            self.write(temporary)
            if (self.mining or {}).get("exposure") is not None:
                copy_record(self.config.inherited(), temporary / EXPOSURE)

    def write(self, folder: Path) -> None:
        """Writes the files of the set into an existing folder; `save` is what makes that atomic."""
        with pa.OSFile(str(folder / PAIRS), "wb") as sink, pa.ipc.new_file(sink, self.table.schema) as file:
            file.write_table(self.table)
        self.catalog.save(folder / IMAGES)
        about = {
            "format": _FORMAT,
            "sempairs": __version__,
            "config": self.config.model_dump(mode="json"),
            "counts": {
                "rows": len(self),
                "pairs_per_epoch": self.pairs_per_epoch,
                "images": len(self.catalog),
                "meanings": len(self.meaning.counts()),
                "classes": len(self.category.counts()),
                "catalog_images": self.catalog_images,
            },
            "manifest_hash": self.manifest_hash,
            "catalog_hash": self.catalog_hash,
            **({"mining": dict(self.mining)} if self.mining is not None else {}),
            "files": {name: sha256_file(folder / name) for name in (PAIRS, IMAGES)},
        }
        write_json(folder / ABOUT, about)

    @classmethod
    def open(cls, folder: str | Path) -> PairSet:
        """A saved set, or the semantic one of a release.

        Raises: UserError if it is missing, cut short, edited or from a later version.
        """
        place = Path(folder)
        if (place / RELEASE).is_file():
            return open_released(place)
        if not (place / ABOUT).is_file():
            raise UserError(
                str(place), f"is no folder of pairs (it has no {ABOUT})", remedy="see `sempairs pairs build`"
            )
        about = read_json(place / ABOUT)
        remedy = "build it again with `sempairs pairs build`"
        try:
            if about["format"] != _FORMAT:
                raise UserError(str(place), "was written by a later version of sempairs", about["format"])
            counts, files, hashes = (
                about["counts"],
                about["files"],
                (about["manifest_hash"], about["catalog_hash"]),
            )
            facts = int(counts["pairs_per_epoch"]), str(hashes[1]), int(counts["catalog_images"])
            config = validate(PairsSection, {"pairs": about["config"]}, where=str(place / ABOUT)).pairs
            expected = {name: str(files[name]) for name in (PAIRS, IMAGES)}
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(str(place / ABOUT), "is not what `pairs build` writes", remedy=remedy) from None
        for name, sha in expected.items():
            if not (place / name).is_file():
                raise UserError(str(place / name), "is missing", remedy=remedy)
            if sha256_file(place / name) != sha:
                raise UserError(
                    str(place / name), "was changed or cut short since it was written", remedy=remedy
                )
        try:
            with pa.memory_map(str(place / PAIRS)) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise UserError(str(place / PAIRS), f"is not readable ({error})", remedy=remedy) from None
        pairs = cls(table, Catalog.open(place / IMAGES), config, *facts, about.get("mining"))
        try:
            pairs.validate()
        except UserError as error:
            raise UserError(str(place), f"is not valid: {error}", remedy=remedy) from None
        if pairs.manifest_hash != hashes[0]:
            raise UserError(
                str(place), "does not hold the pairs its manifest hash was made of", remedy=remedy
            )
        return pairs


def open_released(root: str | Path, arm: str = "semantic", *, catalog: Catalog | None = None) -> PairSet:
    """One arm of the pairs that a release holds, equal to the folder of pairs it was made from.

    catalog: the release's own, where it has been read already.
    Raises: UserError if the release holds no pairs or not this arm, or they are not the ones released.
    """
    found = read_released(root, arm, PAIR_SCHEMA, catalog=catalog)
    facts = found.pairs_per_epoch, found.catalog_hash, found.catalog_images, found.mining
    pairs = PairSet(found.table, found.catalog, found.config, *facts)
    pairs.validate()
    if pairs.manifest_hash != found.manifest_hash:
        raise UserError(str(found.file), "does not hold the pairs that were released", remedy=REMEDY)
    return pairs


def save_with_baselines(folder: str | Path, catalog: Catalog, config: PairsConfig) -> PairSet:
    """Writes the semantic set of `config` and, for fixed pairs, the matched baselines of that very set in
    the folders `augmented` and `image_matched` inside. Returns: the semantic set.

    Raises: UserError as `PairSet.build`, or if `folder` is not empty.
    """
    refuse_of_a_run(config)
    with atomic_folder(folder) as temporary:
        selection = select(ImageIndex(catalog), config)
        facts = catalog.content_hash(), len(catalog)
        pairs = PairSet.of(selection, "semantic", *facts)
        pairs.write(temporary)
        copy_record(config.inherited(), temporary / EXPOSURE)
        if selection.draws is None and not config.one_image:
            for arm in ("augmented", "image_matched"):
                (temporary / arm).mkdir()
                PairSet.of(selection, arm, *facts).write(temporary / arm)
    return pairs


def redrawn_header(config: PairsConfig, mining: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the manifest hash of a redrawn set covers beside its rows: of features, what they were."""
    chosen = [choice.model_dump(mode="json", exclude={"embeddings"}) for choice in config.choices]
    features = (mining or {}).get("chosen_by", {}).get("embeddings")
    return {
        "redrawn": config.relation,
        "depth": None,
        "mixed": config.mixed_always if config.phased is None else [list(p) for p in config.phased.points],
        "corrupted": config.corrupted and [config.corrupted, config.seed],
        **({"choices": chosen, "chosen_by": features} if chosen else {}),
        **config.identity(),
    }


def refuse_of_a_run(config: PairsConfig) -> None:
    """Raises: UserError for what a set on disk cannot hold, as it is drawn, or changes, while training."""
    remedy = "leave it out here, and give it in the recipe of the run that trains on the set"
    if config.phased is not None:
        points = [list(point) for point in config.phased.points]
        raise UserError("pairs.mixed", "must be one number for a set on disk", points, remedy)
    if config.choices:
        names = ", ".join(choice.name for choice in config.choices)
        raise UserError("pairs.choices", "must be left out for a set on disk", names, remedy)


def _constant(text: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([text]))


def _params(config: PairsConfig, mining: Mapping[str, Any] | None) -> str:
    """What the builder was given, as JSON; where a list or table lay is no part of it, what it held is."""
    given = config.model_dump(mode="json", exclude={"relation", "file", "embeddings"}, exclude_defaults=True)
    if mining is not None:
        given |= {name: mining[name] for name in ("embeddings", "encoder") if name in mining}
    return json.dumps(given, sort_keys=True)
