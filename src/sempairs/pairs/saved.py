"""Folders of pairs used again: `relation: listed`, `file: FOLDER`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sempairs.errors import UserError
from sempairs.pairs import listing
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.relations import rule_of
from sempairs.pairs.select import AUGMENTED, Selection, of_list, select
from sempairs.pairs.table import PairSet


def select_saved(index: ImageIndex, config: PairsConfig) -> Selection:
    """The selection that a folder of pairs holds, over the images of `index`.

    A fixed set may be limited, modified and redrawn (an image's partners are then those it is listed with); a
    redrawn pool is taken as it is. Meaning follows the relation the folder was built with.
    Raises: UserError if the folder is not sound, holds a baseline, or names images that `index` lacks.
    """
    assert config.file is not None
    saved = PairSet.open(config.file)
    inner = saved.config
    if inner.arm != "semantic":
        remedy = f"give the folder it lies in, and pairs.arm={inner.arm}"
        raise UserError("pairs.file", "must hold semantic pairs, not a baseline", config.file, remedy)
    changed = inner.mixed is not None or inner.corrupted is not None
    if changed or inner.mode == "redrawn":
        _refuse_changes(config, inner, changed=changed)
    return _pool(index, saved, config) if inner.mode == "redrawn" else _pairs(index, saved, config)


def _pairs(index: ImageIndex, saved: PairSet, config: PairsConfig) -> Selection:
    inner = saved.config
    table = saved.table
    own = np.array([name == AUGMENTED for name in saved.relation], dtype=bool)
    pairs = listing.checked(
        Path(str(config.file)),
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
        index, kept, rule_of(index, inner), pairs.anchor[order], pairs.partner[order],
        score=pairs.score[order], relation=(codes[order], names), mining=saved.mining,
    )  # fmt: skip


def _pool(index: ImageIndex, saved: PairSet, config: PairsConfig) -> Selection:
    if config.mode != "redrawn":
        raise UserError("pairs.mode", f"must be redrawn for the pool in {config.file}", config.mode)
    items = listing.items(index, saved.index.ids)
    if (items < 0).any():
        missing = saved.index.ids[int(np.argmax(items < 0))]
        raise UserError("pairs.file", f"names an image that is not among the {len(index)} given", missing)
    found = pool_of(saved, index.restricted(items))
    if PairSet.of(found, "semantic").manifest_hash != saved.manifest_hash:
        remedy = "build the folder again from these images"
        raise UserError("pairs.file", "was built when its images had other labels", config.file, remedy)
    return found


def pool_of(saved: PairSet, pool: ImageIndex) -> Selection:
    """The selection of a redrawn set over just its images."""
    # The limits have been at work already: they chose the images of the pool.
    inner = saved.config.model_copy(update={"count": None, "per_class": None})
    if inner.relation in ("listed", "neighbour"):
        anchor, partner = (
            listing.items(pool, saved.table.column(n).to_pylist()) for n in ("anchor", "partner")
        )
        order = np.lexsort((partner, anchor))
        score = saved.table.column("score").fill_null(float("nan")).to_numpy()[order]
        rule, mining = rule_of(pool, inner), saved.mining
        return of_list(pool, inner, rule, anchor[order], partner[order], score=score, mining=mining)
    return select(pool, inner)


def _refuse_changes(config: PairsConfig, inner: PairsConfig, *, changed: bool) -> None:
    what = "has modified pairs" if changed else "is a redrawn pool"
    for field in ("mixed", "corrupted", "count", "per_class"):
        asked = getattr(config, field)
        if asked is not None and not (field in ("count", "per_class") and inner.mode == "fixed"):
            raise UserError(f"pairs.{field}", f"cannot be applied to {config.file}, which {what}", asked)
    if changed and inner.mode == "fixed" and config.mode == "redrawn":
        raise UserError("pairs.mode", f"must be fixed for {config.file}, which {what}", config.mode)
    if inner.corrupted is not None and config.arm == "image_matched":
        rule = f"cannot be derived from {config.file}, whose pairs are corrupted"
        raise UserError("pairs.arm", rule, config.arm, "give the set the uncorrupted one was built by")
