"""Which drawings may not mean what their name says: an encoder's evidence, and what is known to test it on.

A drawing is held against the drawings that *other designers* made of every concept. Its margin is how much
nearer the best other concept lies than the drawing's own; where that is large, a join by name is in doubt.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoji_pairs import join
from emoji_pairs.concepts import read_concepts
from emoji_pairs.packages import read_package
from emoji_pairs.sets import CHARS_OF, EMOJIBASE, NAMING, SETS
from sempairs.catalog import Catalog
from sempairs.embeddings import Embeddings
from sempairs.keyed import text_key

Float = NDArray[np.float64]
Int = NDArray[np.int64]

CUT = 0.2
"""Margin from which a drawing is looked at."""
PLANTED = 45
"""Known false joins, and known right ones, put among the drawings to judge."""
COLUMNS = ("set", "concept", "claimed", "name", "what", "margin", "verdict")
LISTING = Path(__file__).resolve().parents[1] / "fxemoji_codepoints.csv"


@dataclass(frozen=True)
class Evidence:
    """concepts, names: of columns. scores: (N, C) mean cosine of each drawing to other designers' drawings of
    each concept, -inf where there are none. own: (N,) column of each drawing's concept. group: (C,) equal for
    concepts that share a split group, which are not held against each other."""

    concepts: tuple[str, ...]
    names: tuple[str, ...]
    scores: Float
    own: Int
    group: Int

    def margin(self, drawings: Int, claimed: Int) -> Float:
        """How much nearer the best concept of another group lies than the claimed one, (n,); NaN: unknown."""
        out = np.full(len(drawings), np.nan)
        for place, (drawing, column) in enumerate(zip(drawings, claimed, strict=True)):
            row = self.scores[drawing]
            if np.isfinite(row[column]):
                out[place] = row[self.group != self.group[column]].max() - row[column]
        return out


@dataclass(frozen=True)
class Item:
    """A drawing (row of the catalogue) and the column of the concept it is held against."""

    drawing: int
    claimed: int
    what: str
    margin: float

    def row(self, catalog: Catalog, found: Evidence) -> list[str]:
        """The line of a table to fill in, in the order of `COLUMNS`."""
        own = (str(catalog.column(name)[self.drawing]) for name in ("set", "concept"))
        claimed = found.concepts[self.claimed], found.names[self.claimed]
        return [*own, *claimed, self.what, f"{self.margin:.3f}", ""]


def evidence(catalog: Catalog, embeddings: Embeddings) -> Evidence:
    """Sets are brought to one mean first, so that a style shared by a set's drawings tells nothing."""
    ids, hashes = (list(map(str, catalog.column(name))) for name in ("image_id", "file_hash"))
    features = embeddings.of(ids, hashes).astype(np.float64)
    concepts, first, own = np.unique(
        catalog.column("concept").astype(str), return_index=True, return_inverse=True
    )
    designer = np.unique(catalog.column("domain").astype(str), return_inverse=True)[1]
    sets = np.unique(catalog.column("set").astype(str), return_inverse=True)[1]
    for number in range(sets.max() + 1):
        features[sets == number] -= features[sets == number].mean(axis=0)
    features = _unit(features)
    total = np.zeros((len(features), len(concepts)))
    count = np.zeros_like(total)
    for number in range(designer.max() + 1):
        theirs = designer == number
        mean = np.zeros((len(concepts), features.shape[1]))
        np.add.at(mean, own[theirs], features[theirs])
        drawn = np.isin(np.arange(len(concepts)), own[theirs])
        cells = ~theirs[:, None] & drawn[None]
        total += np.where(cells, features @ _unit(mean).T, 0)
        count += cells
    scores = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
    group = np.unique(catalog.column("split_group").astype(str)[first], return_inverse=True)[1]
    names = tuple(str(name) for name in catalog.column("name")[first])
    return Evidence(tuple(concepts), names, scores, own.astype(np.int64), group)


def items(
    catalog: Catalog, found: Evidence, false: Sequence[tuple[int, int]]
) -> tuple[list[Item], dict[str, Any]]:
    """What to judge, in a keyed order, and the shares of what is known that the cut lets through.

    false: real mistakes of a name join, as (row, column claimed). A planted one claims a keyed concept of the
    drawing's own subgroup.
    """
    rows = np.arange(len(catalog))
    trusted = np.isin(catalog.column("join"), ["codepoint", "file"])
    margin = found.margin(rows, found.own)
    sibling = _siblings(catalog, found)
    planted = np.full(len(rows), np.nan)
    some = np.flatnonzero(trusted & (sibling >= 0))
    planted[some] = found.margin(some, sibling[some])
    real = found.margin(*(np.array(side, dtype=np.int64) for side in zip(*false, strict=True)))

    def over(values: Float) -> NDArray[np.bool_]:
        return np.nan_to_num(values, nan=-1) > CUT

    chosen = [Item(int(r), int(found.own[r]), "candidate", margin[r]) for r in rows[~trusted & over(margin)]]
    chosen += [Item(r, c, "real false", m) for (r, c), m in zip(false, real, strict=True)]
    for what, stream, mask, claimed, values in (
        ("planted false", "planted", over(planted), sibling, planted),
        ("known right", "right", trusted & over(margin), found.own, margin),
    ):
        order = np.argsort(_keys(catalog, np.flatnonzero(mask), stream, 7), kind="stable")
        picked = np.flatnonzero(mask)[order][:PLANTED]
        chosen += [Item(int(r), int(claimed[r]), what, values[r]) for r in picked]
    key = text_key(9, "order", [f"{item.drawing}-{item.claimed}" for item in chosen])
    known = planted[np.isfinite(planted)]
    stage = {
        "cut": CUT,
        "joined_by_name": int((~trusted).sum()),
        "looked_at": int((~trusted & over(margin)).sum()),
        "planted": [int(over(known).sum()), len(known)],
        "real": [int(over(real).sum()), len(real)],
        "right": [int((trusted & over(margin)).sum()), int((trusted & np.isfinite(margin)).sum())],
    }
    return [chosen[i] for i in np.argsort(key, kind="stable")], stage


def false_name_joins(packages: Path, catalog: Catalog) -> list[tuple[int, int]]:
    """Joins by name that sets with code points, or listed files, show to be false: rows, columns claimed."""
    emojibase = read_package(packages, *EMOJIBASE, ("en/data.json", "meta/groups.json", "LICENSE"))
    wanted = ("icons.json", "chars.json", "metadata.json")
    found = {s.name: read_package(packages, s.package, s.version, wanted) for s in SETS}
    concepts = read_concepts(emojibase)
    icons = {name: package.json("icons.json") for name, package in found.items()}
    chars = {name: found[CHARS_OF.get(name, name)].json("chars.json") for name in found}
    listed = list(csv.DictReader(io.StringIO(LISTING.read_text("utf-8"))))
    truth = {name: {icon: {join.normal_code(s)} for s, icon in chars[name].items()} for name in NAMING}
    truth["fxemoji"] = {row["icon"]: {join.normal_code(row["codepoints"])} for row in listed}
    columns = {name: i for i, name in enumerate(np.unique(catalog.column("concept").astype(str)))}
    places = {
        key: row for row, key in enumerate(zip(catalog.column("set"), catalog.column("icon"), strict=True))
    }
    false = []
    for name, own in truth.items():
        others = [n for n in NAMING if n.split("-")[0] != name.split("-")[0]]
        index = join.name_index(concepts, [(icons[n], chars[n]) for n in others])
        flags = frozenset(found[name].json("metadata.json").get("categories", {}).get("Flags", ()))
        for code, hit in join.by_name(icons[name], index, concepts, flags=flags).items():
            known = own.get(hit.icon)
            if known is not None and code not in known and code in columns and (name, hit.icon) in places:
                false.append((places[name, hit.icon], columns[code]))
    return false


def _siblings(catalog: Catalog, found: Evidence) -> Int:
    """For each drawing a keyed other concept of its subgroup that another designer drew; -1 for none."""
    category = catalog.column("category").astype(str)
    members: dict[str, list[int]] = {}
    for column, row in enumerate(np.unique(found.own, return_index=True)[1]):
        members.setdefault(category[row], []).append(column)
    keys = _keys(catalog, np.arange(len(catalog)), "planted", 0)
    out = np.full(len(catalog), -1, dtype=np.int64)
    for row, key in enumerate(keys):
        fits = [
            c for c in members[category[row]] if c != found.own[row] and np.isfinite(found.scores[row, c])
        ]
        if fits:
            out[row] = fits[int(key % np.uint64(len(fits)))]
    return out


def _keys(catalog: Catalog, rows: Int, stream: str, seed: int) -> NDArray[np.uint64]:
    names = zip(catalog.column("set")[rows], catalog.column("concept")[rows], strict=True)
    return text_key(seed, stream, [f"{drawn}/{concept}" for drawn, concept in names])


def _unit(rows: Float) -> Float:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
