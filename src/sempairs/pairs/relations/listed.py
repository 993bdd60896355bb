"""Pairs that somebody made: a list of ids, or a folder of pairs that was built before."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from sempairs.catalog.exposure import Inherited
from sempairs.errors import UserError
from sempairs.pairs import listing
from sempairs.pairs.config import RELATIONS, PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.inherited import of_folder
from sempairs.pairs.rules import Rule, by_own_labels
from sempairs.pairs.select import AUGMENTED, Selection, of_list
from sempairs.pairs.table import PairSet


@RELATIONS.register
class Listed(PairsConfig):
    """The pairs of a file or folder.

    A fixed set of a folder may be limited, modified and redrawn (an image's partners are then those it is
    listed with); a redrawn pool is taken as it is. Meaning follows the relation the folder was built with.
    """

    description = "a given list"
    by_columns = False
    disjoint = False

    relation: Literal["listed"] = "listed"
    # CSV or Parquet with columns anchor and partner (and score), or a folder that `pairs build` wrote.
    file: str

    def inherited(self) -> Inherited:
        return of_folder(self.file) if Path(self.file).is_dir() else Inherited()

    def rule(self, index: ImageIndex) -> Rule:
        return by_own_labels(index)

    def select(self, index: ImageIndex) -> Selection:
        """Raises: UserError if the list or the folder is not sound, holds a baseline, or names images that
        `index` lacks."""
        if Path(self.file).is_dir():
            return _saved(index, self)
        pairs = listing.read_list(self.file, index)
        order = np.lexsort((pairs.partner, pairs.anchor))
        anchor, partner, score = pairs.anchor[order], pairs.partner[order], pairs.score[order]
        return of_list(index, self, self.rule(index), anchor, partner, score=score)


def _saved(index: ImageIndex, config: Listed) -> Selection:
    """The selection that a folder of pairs holds, over the images of `index`."""
    saved = PairSet.open(config.file)
    inner = saved.config
    if inner.arm != "semantic":
        remedy = f"give the folder it lies in, and pairs.arm={inner.arm}"
        raise UserError("pairs.file", "must hold semantic pairs, not a baseline", config.file, remedy)
    changed = inner.mixed is not None or inner.corrupted is not None
    if changed or inner.mode == "redrawn":
        _refuse_changes(config, inner, changed=changed)
    if inner.mode == "redrawn":
        return _saved_pool(index, saved, config)
    return _saved_pairs(index, saved, config)


def _saved_pairs(index: ImageIndex, saved: PairSet, config: Listed) -> Selection:
    inner = saved.config
    table = saved.table
    own = np.array([name == AUGMENTED for name in saved.relation], dtype=bool)
    pairs = listing.checked(
        Path(config.file),
        listing.Rows(
            table.column("anchor").to_pylist(),
            table.column("partner").to_pylist(),
            table.column("score").fill_null(float("nan")).to_numpy(),
            list(range(1, len(saved) + 1)),
            "row",
        ),
        index,
        own=own,
    )
    order = np.lexsort((pairs.partner, pairs.anchor))
    names = tuple(sorted(set(saved.relation)))
    codes = np.array([names.index(name) for name in saved.relation], dtype=np.int64)
    asked = {
        name: getattr(config, name)
        for name in ("mode", "arm", "mixed", "corrupted", "count", "per_class", "seed")
    }
    # The folder's own relation is kept for its meaning; drawn anew, the pairs are what the list says.
    kept = config if config.mode == "redrawn" else inner.model_copy(update=asked)
    return of_list(
        index, kept, inner.rule(index), pairs.anchor[order], pairs.partner[order],
        score=pairs.score[order], relation=(codes[order], names), mining=saved.mining,
    )  # fmt: skip


def _saved_pool(index: ImageIndex, saved: PairSet, config: Listed) -> Selection:
    if config.mode != "redrawn":
        raise UserError("pairs.mode", f"must be redrawn for the pool in {config.file}", config.mode)
    items = listing.items(index, saved.index.ids)
    if (items < 0).any():
        missing = saved.index.ids[int(np.argmax(items < 0))]
        raise UserError("pairs.file", f"names an image that is not among the {len(index)} given", missing)
    found = saved.selection(index.restricted(items))
    if PairSet.of(found, "semantic").manifest_hash != saved.manifest_hash:
        remedy = "build the folder again from these images"
        raise UserError("pairs.file", "was built when its images had other labels", config.file, remedy)
    return found


def _refuse_changes(config: Listed, inner: PairsConfig, *, changed: bool) -> None:
    what = "has modified pairs" if changed else "is a redrawn pool"
    for field in ("mixed", "corrupted", "count", "per_class"):
        asked = getattr(config, field)
        if field == "mixed" and config.phased is not None and not changed:
            continue  # of the run, not of the set
        if asked is not None and not (field in ("count", "per_class") and inner.mode == "fixed"):
            raise UserError(f"pairs.{field}", f"cannot be applied to {config.file}, which {what}", asked)
    if changed and inner.mode == "fixed" and config.mode == "redrawn":
        raise UserError("pairs.mode", f"must be fixed for {config.file}, which {what}", config.mode)
    if inner.corrupted is not None and config.arm == "image_matched":
        rule = f"cannot be derived from {config.file}, whose pairs are corrupted"
        raise UserError("pairs.arm", rule, config.arm, "give the set the uncorrupted one was built by")
