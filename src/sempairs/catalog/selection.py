"""Which images: a recipe's `data` section, and the images of a catalogue that it asks for.

Building pairs and pretraining choose by the same function: both see the same images, labelled alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from sempairs.catalog.labelling import Labelling, label
from sempairs.catalog.names import plain
from sempairs.catalog.table import Catalog
from sempairs.config import Config
from sempairs.errors import UserError, nearest, unknown
from sempairs.progress import tell

ALL = "all"
"""In place of a split, where it is allowed: the images of every split and of none."""


class DataConfig(Labelling):
    """Which images, and their labels: a source, the split to train on, and filters on columns, which see the
    categories as `Labelling` leaves them."""

    source: str
    split: str = "train"
    # Column -> values allowed; applied to training and validation images alike.
    where: dict[str, tuple[bool | int | float | str | None, ...]] = Field(default_factory=dict)
    # Side in pixels at which images are kept or read; crops are cut from these.
    store_size: Annotated[int, Field(ge=8)] = 64
    # In memory, or left in their files and decoded at every use; auto: in memory up to `memory` GiB.
    store: Literal["auto", "memory", "files"] = "auto"
    memory: Annotated[float, Field(gt=0)] = 8.0


class DataSection(Config):
    """The data section on its own, so that errors name its fields as `data.…`."""

    data: DataConfig


def select_images(
    catalog: Catalog,
    data: DataConfig,
    *,
    then: Sequence[str] = (),
    whole: bool = False,
    draw: bool = True,
    field: str = "data.split",
) -> tuple[Catalog, int]:
    """Choose images: those of `data.split`, labelled and filtered as the section says.

    Args:
        then: Further splits, whose images come after; a split that no image has adds none.
        whole: Whether the split may be `all`.
        draw: Whether splits are drawn for a source that has none.
        field: What the split is called in messages.

    Returns:
        The images, and how many of them are of `data.split`: these come first.

    Raises:
        UserError: For a split, column or value that is not there, and if no image is left.
    """
    catalog = filtered(label(catalog, data, draw=draw), data.where)
    if whole and data.split == ALL:
        return catalog, len(catalog)
    codes, splits = catalog.coded("split")
    if data.split not in splits:
        raise unknown(field, data.split, [*sorted(splits), *([ALL] if whole else [])])
    rows = [
        np.flatnonzero(codes == (splits.index(name) if name in splits else len(splits)))
        for name in (data.split, *then)
    ]
    return catalog.select(np.concatenate(rows)), len(rows[0])


def filtered(catalog: Catalog, where: Mapping[str, Any]) -> Catalog:
    """The images that have one of the given values in each column of `where`; values that none has are told.

    Raises: UserError for a column that is not there, what is no list of values, and if no image is left.
    """
    keep = np.ones(len(catalog), dtype=bool)
    for column, allowed in where.items():
        if not isinstance(allowed, list | tuple):
            raise UserError(f"data.where.{column}", "must be a list of values", allowed)
        if column not in catalog.names:
            raise unknown("data.where", column, catalog.names)
        codes, values = catalog.coded(column)
        text = pa.types.is_string(catalog.base.column(column).type)
        wanted = [_as_held(value) if text else value for value in allowed]
        for value in wanted:
            if value not in values and not (value is None and (codes < 0).any()):
                near = nearest(str(value), map(str, values))
                tell(
                    f"data.where.{column}: no image has {value!r}"
                    + (f"; did you mean {near!r}?" if near else "")
                )
        keep &= np.array([value in wanted for value in [*values, None]], dtype=bool)[codes]
    if not keep.any():
        raise UserError("data.where", "must leave some images", dict(where), "loosen the filter")
    return catalog if keep.all() else catalog.select(keep)


def _as_held(value: Any) -> Any:
    """A value as a column of texts holds it: YAML has 2007 for a number."""
    return value if value is None else plain(str(value))
