"""What a model is called, which models share a split, and which split that is."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoji_pairs.groups import near_pairs
from object_pairs.furniture import Model
from sempairs import keyed
from sempairs.catalog.copies import components

TOOLS = Path(__file__).resolve().parents[1]

# Never seen in training; their models of test names are the queries of retrieval across makers.
HELD_OUT = ("Jay-Artist", "Kator Legaz")
# Two models whose plain pictures differ by no more than this share a split.
NEAR = 0.05
# Tenths of the models of groups that hold a name of several makers, few as those are, and of all others.
_TENTHS = {
    True: {"train": 4, "validation": 1, "test": 5},
    False: {"train": 7, "validation": 1, "test": 2},
}
_AFTER = re.compile(r"\s+(?:with|under|on|and|of|for|to|without|\d).*$|\s*[,-]\s.*$")


@dataclass(frozen=True)
class Named:
    """What a model is called here and the kind that this name is filed under."""

    name: str
    kind: str


def read_renamed(path: Path = TOOLS / "object_pairs_names.csv") -> dict[str, str]:
    """Names of the source, or keys of single models, that are called otherwise here."""
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["name"]: row["used"] for row in csv.DictReader(handle)}


def plain_name(name: str) -> str:
    """A name in lower case without a number behind it: "Concept Sedan 01" -> "concept sedan"."""
    return re.sub(r"[ :]+\d+$", "", " ".join(name.lower().split()))


def name_models(models: Sequence[Model], renamed: Mapping[str, str]) -> dict[str, Named]:
    """Name and kind by key. One name has one kind: that of most of its models, the first of several by
    name."""
    names = {}
    for model in models:
        name = plain_name(model.name)
        names[model.key] = renamed.get(model.key, renamed.get(name, name))
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for model in models:
        kinds[names[model.key]][model.kind] += 1
    of_name = {name: min(tally, key=lambda kind: (-tally[kind], kind)) for name, tally in kinds.items()}
    return {key: Named(name, of_name[name]) for key, name in names.items()}


def head(name: str) -> str:
    """The thing a name is about: its last word, before what comes after "with", "under", a comma or a number.

    "folding chair" and "chair with cushion" -> "chair".
    """
    return _AFTER.sub("", name).split()[-1]


def split_groups(
    names: Mapping[str, Named], plain: Mapping[str, np.ndarray]
) -> tuple[dict[str, str], list[tuple[str, str, float]]]:
    """Group of each model, and the pairs of models of different heads that look alike, with their distance.

    plain: the plain picture of each model. Linked, also over others, are models whose names have one head,
    and models that look alike. A group is called by the head of most of its models.
    """
    keys = sorted(names)
    heads = [head(names[key].name) for key in keys]
    pairs = near_pairs(np.stack([plain[key] for key in keys]), heads, NEAR)
    code = np.unique(np.asarray(heads), return_inverse=True)[1]
    ends = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    root = components(len(keys), code, edges=[(ends[:, 0], ends[:, 1])])
    tally: dict[int, Counter[str]] = defaultdict(Counter)
    for place, name in zip(root.tolist(), heads, strict=True):
        tally[place][name] += 1
    called = {place: min(count, key=lambda name: (-count[name], name)) for place, count in tally.items()}
    alike = [(keys[pair.first], keys[pair.second], pair.distance) for pair in pairs]
    return {key: called[place] for key, place in zip(keys, root.tolist(), strict=True)}, alike


def assign(group: Mapping[str, str], names: Mapping[str, Named], makers: Mapping[str, str]) -> dict[str, str]:
    """Split of each group: 70 / 10 / 20 percent of the models for train, validation and test, and 40 / 10 /
    50 of those in groups where a name has several makers.

    A group that only held-out makers have is for testing, and one of more than a twentieth of the models for
    training, or much of a split would be chairs. The others are laid out by whether a name has several
    makers, by kind and by a keyed hash; each goes to the split that is furthest behind, the first of a kind
    to training.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for key, name in group.items():
        members[name].append(key)
    order = sorted(members)
    hashed = dict(zip(order, keyed.text_key(0, "object-splits", order).tolist(), strict=True))
    several = {name for name, who in makers_of_names(names, makers).items() if len(who) > 1}
    split: dict[str, str] = {}
    places: dict[str, tuple[bool, str]] = {}
    for name in order:
        keys = members[name]
        if all(makers[key] in HELD_OUT for key in keys):
            split[name] = "test"
        elif len(keys) > len(group) / 20:
            split[name] = "train"
        else:
            tally = Counter(names[key].kind for key in keys)
            kind = min(tally, key=lambda kind: (-tally[kind], kind))
            places[name] = (any(names[key].name in several for key in keys), kind)
    owed = {which: dict.fromkeys(tenths, 0) for which, tenths in _TENTHS.items()}  # tenths of a model
    learnt: set[str] = set()
    for name in sorted(places, key=lambda name: (places[name], hashed[name])):
        size, (which, kind) = len(members[name]), places[name]
        behind = owed[which]
        for part, tenths in _TENTHS[which].items():
            behind[part] += tenths * size
        split[name] = max(behind, key=behind.__getitem__) if kind in learnt else "train"
        learnt.add(kind)
        behind[split[name]] -= 10 * size
    return split


def makers_of_names(names: Mapping[str, Named], makers: Mapping[str, str]) -> dict[str, set[str]]:
    """Who made the models of each name."""
    found: dict[str, set[str]] = defaultdict(set)
    for key, named in names.items():
        found[named.name].add(makers[key])
    return found
