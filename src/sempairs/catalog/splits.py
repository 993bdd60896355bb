"""Train, validation and test for a catalogue that comes without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sempairs import keyed
from sempairs.catalog import taxonomy
from sempairs.catalog.copies import components, repeated
from sempairs.catalog.names import printable
from sempairs.catalog.table import SPLITS, Catalog
from sempairs.errors import UserError
from sempairs.progress import tell


def assign_splits(
    catalog: Catalog, fractions: Sequence[float] = (0.7, 0.15, 0.15), *, seed: int = 0
) -> Catalog:
    """Fill the column `split`: (train, validation, test) by `fractions` of the images, within each
    category as far as whole numbers allow, over all categories to an image or two.

    Images that share a split_group, a file or decoded pixels stay together. A category that cannot be divided
    is for training. The result is a function of seed, ids and those columns, not of row order; the user is
    told of it. A catalogue in which any image has a split already is returned as it is.

    Raises: UserError if the fractions are not three, negative, or do not add up to 1.
    """
    wanted = np.asarray(fractions, dtype=np.float64)
    if wanted.shape != (3,) or not (wanted >= 0).all() or abs(wanted.sum() - 1) > 1e-6:
        raise UserError("fractions", "must be three numbers from 0 that add up to 1", list(fractions))
    if len(catalog) == 0 or catalog.array("split").null_count < len(catalog):
        return catalog
    inseparable = _inseparable(catalog)
    # A group is drawn by the name of its first image and placed in that image's category. (By the smallest of
    # its images' draws, large groups would come first and be for training.)
    by_id = catalog.order()
    _, first = np.unique(inseparable[by_id], return_index=True)
    leader = by_id[first]
    keys = keyed.text_keys(seed, "splits", catalog.pieces("image_id", leader))
    category = taxonomy.codes(catalog)[0][leader]
    size = np.bincount(inseparable)
    split = np.zeros(len(size), dtype=np.int64)
    owed = np.zeros(3)  # images by which each split is behind, over the categories so far
    order = np.lexsort((keys, category))
    for stratum in np.split(order, np.flatnonzero(np.diff(category[order])) + 1):
        owed += wanted * size[stratum].sum()
        split[stratum] = _divide(size[stratum], wanted, owed)
        owed -= np.bincount(split[stratum], weights=size[stratum], minlength=3)
    names = np.array(SPLITS, dtype=object)
    counts = zip(SPLITS, np.bincount(split[inseparable], minlength=3).tolist(), strict=True)
    source = printable(str(catalog.value("source", 0)))
    tell(
        f"no image of {source} has a split of its own; drawn by key, seed {seed}: "
        + ", ".join(f"{name} {count:,}" for name, count in counts)
    )
    return catalog.with_column("split", names[split[inseparable]])


def _divide(size: np.ndarray, wanted: np.ndarray, owed: np.ndarray) -> np.ndarray:
    """Splits (0, 1, 2) of one category's groups of the given sizes, which are in keyed order.

    Each split gets its whole number of images; the one or two left over go where most is owed.
    """
    if len(size) == 1 and wanted[0] > 0:
        return np.zeros(1, dtype=np.int64)
    total = int(size.sum())
    quota = np.floor(wanted * total + 1e-9)
    behind = np.argsort(-(owed - quota), kind="stable")
    quota[behind[: total - int(quota.sum())]] += 1
    middle = np.cumsum(size) - size / 2
    return np.searchsorted(np.cumsum(quota), middle, side="right").clip(max=2)


def _inseparable(catalog: Catalog) -> np.ndarray:
    """(N,) int64: a number from 0 for each set of images that must share a split."""
    rows = np.arange(len(catalog))
    same = (repeated(catalog, name, rows) for name in ("split_group", "file_hash", "pixel_hash"))
    first = components(len(catalog), *same)
    return (np.cumsum(first == rows) - 1)[first]
