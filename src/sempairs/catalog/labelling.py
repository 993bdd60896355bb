"""What a recipe's `data` section says about meaning: levels of folders, splits, classes and a category tree.

They are applied in this order, so that the split of an image depends neither on the classes chosen nor on the
tree, and classes are chosen by the names that the source gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, StrictInt, field_validator

from sempairs import keyed
from sempairs.catalog.levels import apply_levels, apply_split_lists, check_levels, check_split_lists
from sempairs.catalog.names import plain
from sempairs.catalog.splits import assign_splits
from sempairs.catalog.table import Catalog
from sempairs.catalog.trees import apply_tree, category_names
from sempairs.catalog.wordnet import wnid_of
from sempairs.config import Config
from sempairs.errors import UserError, unknown
from sempairs.texts import read_text

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Labelling(Config):
    """How the images of a source are labelled. The defaults change nothing but missing splits."""

    # What the levels of nested folders mean, from the outermost; see `levels.apply_levels`.
    levels: tuple[str, ...] | None = None
    # Split -> file or pattern of files that list its images; see `levels.apply_split_lists`.
    split_lists: dict[str, str] | None = None
    # A source without splits gets keyed ones; all runs of a study share them.
    split_seed: Annotated[int, Field(ge=0)] = 0
    # So many classes, drawn by key (a smaller number draws a subset); or their names; or a file of them.
    classes: Annotated[StrictInt, Field(ge=1)] | tuple[str, ...] | str | None = None
    class_seed: Seed = 0
    # wordnet, wordnet:PATH or a CSV file: classes become paths in this tree; see `trees.apply_tree`.
    tree: str | None = None
    # Leave out what divides nothing on the way through the tree, so that sibling(1) finds partners.
    tree_collapse: bool = False

    @field_validator("levels")
    @classmethod
    def _known_levels(cls, levels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if levels is not None:
            check_levels(levels)
        return levels

    @field_validator("split_lists")
    @classmethod
    def _known_splits(cls, lists: dict[str, str] | None) -> dict[str, str] | None:
        check_split_lists(lists or {})
        return lists


def label(catalog: Catalog, labelling: Labelling, *, draw: bool = True) -> Catalog:
    """The catalogue as a recipe wants it labelled; every image has a split where the source says none at all.

    draw: whether splits are drawn then; if not, images of such a source have none.
    Raises: UserError, as the steps do.
    """
    if labelling.levels is not None:
        catalog = apply_levels(catalog, labelling.levels)
    if labelling.split_lists:
        catalog = apply_split_lists(catalog, labelling.split_lists)
    if draw:
        catalog = assign_splits(catalog, seed=labelling.split_seed)
    if labelling.classes is not None:
        catalog = choose_classes(catalog, labelling.classes, seed=labelling.class_seed)
    if labelling.tree is not None:
        catalog = apply_tree(catalog, labelling.tree, collapse=labelling.tree_collapse)
    return catalog


def choose_classes(catalog: Catalog, classes: int | Sequence[str] | str, *, seed: int = 0) -> Catalog:
    """The images of some classes (leaf categories).

    classes: how many, drawn by key; or their names, or a text file with one name at the start of each line
    (ImageNet-100 lists). A synset's id names a class too (n02085620 for `n02085620-Chihuahua`).
    Raises: UserError if there are fewer, or a name is unknown or given twice.
    """
    names = category_names(catalog)
    if isinstance(classes, int):
        if classes > len(names):
            raise UserError("data.classes", f"must be at most the {len(names)} classes there are", classes)
        order = np.argsort(keyed.text_key(seed, "classes", names), kind="stable")
        chosen = [names[place] for place in order[:classes]]
    else:
        chosen = _named(classes, names)
    keep = pc.is_in(catalog.array("category"), value_set=pa.array(chosen, type=pa.string()))
    return catalog.select(np.asarray(keep.to_numpy(), dtype=bool))


def _named(classes: Sequence[str] | str, names: Sequence[str]) -> list[str]:
    asked = _listed(Path(classes)) if isinstance(classes, str) else [("", name) for name in classes]
    if not asked:
        raise UserError("data.classes", "must name a class", classes)
    by_id = {wnid: name for name in names if (wnid := wnid_of(name))}
    known = {**by_id, **{name: name for name in names}}
    chosen: list[str] = []
    for line, written in asked:
        name = plain(written)
        if name not in known:
            raise unknown(f"data.classes{line}", name, names)
        if known[name] in chosen:
            raise UserError(f"data.classes{line}", "must not name a class twice", name)
        chosen.append(known[name])
    return chosen


def _listed(file: Path) -> list[tuple[str, str]]:
    """Where each name stands, and the name: a whole line, or a synset's id at the start of one."""
    try:
        lines = read_text(file.expanduser()).split("\n")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
        remedy = "give a number, a list of names, or a text file of them"
        raise UserError("data.classes", f"cannot be read as a file ({why})", str(file), remedy) from None
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            first = text.split()[0]
            found.append((f" {file} line {number}", first if wnid_of(first) == first else text))
    return found
