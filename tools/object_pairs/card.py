"""The card of object-pairs: what it is, what it is not, and the numbers to judge it by."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from emoji_pairs.groups import rmse
from object_pairs.furniture import PACKAGE
from object_pairs.groups import HELD_OUT, NEAR, makers_of_names
from object_pairs.render import LEVELS, SIDES, SIZE
from sempairs.catalog import Catalog
from sempairs.catalog.taxonomy import top
from sempairs.release.card import crossed, markdown_table

if TYPE_CHECKING:
    from object_pairs.build import Collection

TAGS = ("contrastive-learning", "rendered", "3d-objects", "multi-view", "cross-domain")
# Two pictures of one object up to here look alike.
_ALIKE = 0.10
_MANY = 4  # models from which on a maker has a row of its own

DATASHEET = {
    "motivation": "To have a second world of semantic pairs beside drawings: the same thing seen from "
    "another side, and the same kind of thing made by somebody else.",
    "collection": "3D models by designers and hobbyists, published for Sweet Home 3D under free licences and "
    "packaged by Debian; names, kinds and makers as that package has them. Nothing was collected from or "
    "about people.",
    "maintenance": "Built by a documented tool from one package of a fixed version.",
}


def describe(catalog: Catalog, collection: Collection) -> tuple[str, list[tuple[str, str]]]:
    """The first paragraph, and the sections."""
    objects = collection.objects
    makers = len({thing.model.maker for thing in objects})
    names = {thing.named.name for thing in objects}
    summary = (
        f"{len(catalog):,} pictures of {len(objects):,} furnishings, tools, plants, vehicles and people, "
        f"rendered from up to {len(SIDES)} sides at {SIZE} x {SIZE} pixels with alpha. Each is a 3D model by "
        f"one of {makers} makers and bears one of {len(names):,} names. Two sides of one object are a "
        "semantic pair; so are two objects of one name by two makers. Every model is under CC-BY or CC0."
    )
    kinds = np.array([top(path) for path in catalog.column("category")], dtype=object)
    return summary, [
        ("By kind", crossed(catalog.with_column("kind", kinds), "kind")),
        ("Three relations", _relations(collection)),
        ("What it is for, and what not", _PURPOSE),
        ("Columns of its own", markdown_table(["column", "meaning"], _COLUMNS)),
        ("Splits", _splits(collection)),
        ("What was left out", _left_out(collection, len(catalog))),
        ("What to know of the pictures", _limits(collection)),
        ("How it was built", _BUILT),
        ("Whom to name", _makers(collection)),
    ]


_PURPOSE = """\
To pretrain small encoders on pairs of things that stand in space, alone or beside the drawings of
emoji-pairs, and to test whether an encoder knows an object from another side and a kind of thing by whoever
made it.

It is rendered, not photographed: one object, plain light, no ground. What is found here is no evidence about
natural images. Nearly half of the models come from one maker. The models of people are a handful of stock
figures and no picture of people as they are. Makes and marks that models show belong to their owners, who
endorse nothing here."""

_COLUMNS = [
    ["image_id, uri", "unique key; model and side"],
    ["file_hash, pixel_hash", "SHA-256 of the WebP bytes; of the size and the decoded RGBA values"],
    ["licence, attribution", "SPDX id of the model's licence; whom to name"],
    ["category", "kind and name, joined by a slash; the kind of a name is that of most of its models"],
    ["concept", "the object: library and model"],
    ["domain", "the side it is seen from, its front being known from the source"],
    ["maker, library", "who made the model; the library it lies in"],
    ["title, filed_under", "name and kind as the source has them"],
    ["split_group, split", "objects that must share a split; train, validation, test or null"],
    ["held_out", "whether the maker is kept from training"],
    ["azimuth, elevation", "degrees of the camera: 0 is the front, 90 the right side; above the ground"],
    [
        "light_azimuth, light_elevation, light",
        "degrees of the light from the camera's direction; its strength",
    ],
]

_BUILT = f"""\
`tools/build_object_pairs.py` of the sempairs repository, from Debian's package {PACKAGE[0]} {PACKAGE[1]};
`release.json` has its SHA-256 and the versions of the tools. Each model is turned as its catalogue says,
set on its eight sides 45 degrees apart and then turned by up to 22.5 degrees more; height of the camera,
direction and strength of the light are drawn, all by a keyed hash of model and side. VTK renders it at
{4 * SIZE} x {4 * SIZE} pixels; blocks of 4 x 4 are averaged and each channel is kept to {LEVELS} values.
The object's longer side is always 60 pixels. Glass is at least a quarter opaque; leaves and nets are there
or not; materials without a texture have their diffuse colour. Pictures are stored as lossless WebP.
Building again from the same package gives the same ids and, on one machine, the same pixels: another
processor may round light another way."""


def _relations(collection: Collection) -> str:
    things = [thing for thing in collection.objects if thing.model.maker not in HELD_OUT]
    train = [thing for thing in things if collection.split[thing.model.key] == "train"]
    sides = sum(len(thing.views) * (len(thing.views) - 1) // 2 for thing in train)
    by_name, by_kind = defaultdict(list), defaultdict(list)
    for thing in train:
        by_name[thing.named.name].append(thing)
        by_kind[thing.named.kind].append(thing)
    makers = sum(
        len(one.views) * len(other.views)
        for same in by_name.values()
        for one, other in combinations(same, 2)
        if one.model.maker != other.model.maker
    )
    objects = sum(
        len(one.views) * len(other.views) for same in by_name.values() for one, other in combinations(same, 2)
    )
    kinds = sum(
        len(one.views) * len(other.views)
        for same in by_kind.values()
        for one, other in combinations(same, 2)
        if one.named.name != other.named.name
    )
    rows = [
        ["the same object, another side", "`cross_domain`", sides],
        ["the same name, another maker", "`cross_domain --meaning category --domain-column maker`", makers],
        [
            "the same name, another object",
            "`cross_domain --meaning category --domain-column concept`",
            objects,
        ],
        ["another name of the same kind", "`sibling`", kinds],
    ]
    table = markdown_table(["pairs of", "relation", "training pairs there are"], rows)
    return f"{table}\n\nThe pairs that come with the release are of the first relation."


def _splits(collection: Collection) -> str:
    split, objects = collection.split, collection.objects
    several = {
        name
        for name, who in makers_of_names(
            {t.model.key: t.named for t in objects}, {t.model.key: t.model.maker for t in objects}
        ).items()
        if len(who) > 1
    }
    rows: list[list[object]] = []
    for part in ("train", "validation", "test"):
        here = [t for t in objects if split[t.model.key] == part]
        names = {t.named.name for t in here}
        held = sum(t.model.maker in HELD_OUT for t in here)
        rows.append([part, len(here), held, len(names), len(names & several)])
    header = ["split", "objects", "of held-out makers", "names", "names of several makers"]
    return f"""\
By what objects are, so that tests show things of which no like was trained on. A `split_group` is all objects
whose names are about one thing (`folding chair`, `chair with cushion`: the last word before a "with", a
comma or a number), and objects that look alike: their pictures from one and the same direction in one light
differ by an RMSE of no more than {NEAR}. Groups are divided 70 / 10 / 20 percent for training, validation
and test within each kind, by a keyed hash, those where a name has several makers 40 / 10 / 50, as these are
few and make the test across makers. Groups of more than a twentieth of the objects (chairs, tables) are for
training.

{markdown_table(header, rows)}

Held-out makers: {", ".join(HELD_OUT)}. Their objects of test groups are in `test` with `held_out` true; their
others have no split (here they are counted where their group is). A group that only they have is in
`test`."""


def _left_out(collection: Collection, pictures: int) -> str:
    count = Counter(collection.left_out.values())
    rows: list[list[object]] = [[reason, n] for reason, n in sorted(count.items())]
    table = markdown_table(["reason", "models"], rows) if rows else ""
    thin = len(collection.objects) * len(SIDES) - pictures
    total = len(collection.objects) + len(collection.left_out)
    return f"""\
Of the package's {total:,} models {len(collection.left_out)} are left out; `release.json` names each.

{table}

{thin} pictures are left out as well: thin things seen edge-on, that cover under 1.5% of the square. The
pictures were looked at on sheets, each beside the icon of its source, by a multimodal language model; no
person has judged them. A licence counts as clear where the library's own catalogue, Debian's copyright file
and, where there is one, the licence file beside the model name CC0 or CC-BY; where these differ, the one
that asks more."""


def _limits(collection: Collection) -> str:
    alike = total = 0
    for thing in collection.objects:
        shown = [thing.pictures[SIDES.index(side)] for side in thing.views]
        near = [rmse(one, other) <= _ALIKE for one, other in combinations(shown, 2)]
        alike, total = alike + sum(near), total + len(near)
    makers = Counter(thing.model.maker for thing in collection.objects)
    largest, most = makers.most_common(1)[0]
    return f"""\
- **Round things look alike from all sides.** {alike:,} of {total:,} pairs of sides of one object
  ({100 * alike / max(total, 1):.1f}%) are within an RMSE of {_ALIKE:.2f}; light and height still differ.
- **Backs.** Three of the eight sides show the back. Of what hangs on a wall (sockets, windows, pictures)
  that is a plain sheet, and a poor pair.
- **Names are one cataloguer's.** One name may cover different things (a lamp on a desk and one on a
  ceiling), and two names one thing; {_renamed()} names were joined to another by hand
  (`tools/object_pairs_names.csv`).
- **Kinds are rooms.** Kinds say where a thing is used rather than what it looks like.
- **Makers.** {most:,} of {len(collection.objects):,} objects are by {largest};
  {sum(n == 1 for n in makers.values())} makers have one each.
- **Small differences remain across splits.** Groups go by names and near-identical looks; alike things of
  other names may lie in different splits.

The RMSE is over {SIZE} x {SIZE} pixels: the larger of that of RGB on white and that of alpha, on [0, 1]."""


def _renamed() -> int:
    from object_pairs.groups import read_renamed

    return len(read_renamed())


def _makers(collection: Collection) -> str:
    found: dict[tuple[str, str], int] = Counter(
        (str(thing.model.licence), thing.model.attribution) for thing in collection.objects
    )
    rows: list[list[object]] = [[licence, who, n] for (licence, who), n in sorted(found.items())]
    return f"""\
Every row of the data says whom to name for its picture. All of them, with the number of their models; each
picture is a rendering of the model, and so a change of it:

{markdown_table(["licence", "attribution", "models"], rows)}"""
