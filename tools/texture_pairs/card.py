"""The card of texture-pairs: what it is, what it is not, and the numbers to judge it by."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from sempairs.catalog import Catalog
from sempairs.release.card import crossed, markdown_table
from texture_pairs.games import UFOAI, ZEROAD
from texture_pairs.patches import ALIKE, CELLS, SHARE, SIZE

if TYPE_CHECKING:
    from texture_pairs.build import Collection

TAGS = ("contrastive-learning", "textures", "materials", "cross-domain", "games")

DATASHEET = {
    "motivation": "To have a third world of semantic pairs beside drawings and objects: one material as two "
    "games show it, and one surface at two places.",
    "collection": "Textures by artists and volunteers, published for two games under free licences and "
    "packaged by Debian. Nothing was collected from or about people.",
    "distribution": "Not distributed: everyone builds it from the packages. Whoever passes it on must keep "
    "to the licences of the images, of which most ask for share alike.",
    "maintenance": "Built by a documented tool from two packages of fixed versions.",
}


def describe(catalog: Catalog, collection: Collection) -> tuple[str, list[tuple[str, str]]]:
    """The first paragraph, and the sections."""
    textures = collection.games.textures
    both = _shared(collection)
    summary = (
        f"{len(catalog):,} patches of {SIZE} x {SIZE} pixels, cut from {len(textures):,} textures of two "
        f"games, {ZEROAD[2]} and {UFOAI[2]}, that show {len({t.material for t in textures})} materials, "
        f"{len(both)} of them in both games ({', '.join(both)}). One material in two games is a semantic "
        "pair; so are two patches of one texture."
    )
    return summary, [
        ("By material", crossed(catalog, "concept")),
        ("Relations", _RELATIONS),
        ("What it is for, and what not", _PURPOSE),
        ("Columns of its own", markdown_table(["column", "meaning"], _COLUMNS)),
        ("Splits", _splits(collection)),
        ("What was left out", _left_out(collection)),
        ("What to know of the pictures", _LIMITS),
        ("How it was built", _BUILT),
    ]


_RELATIONS = """\
| pairs of | relation |
| --- | --- |
| one material, another game | `cross_domain` |
| one material, another biome | `cross_domain --domain-column biome` |
| one texture, another patch | `cross_domain --meaning category --domain-column patch` |
| one material, another texture | `sibling` |

The pairs that come with the release are of the first relation."""

_PURPOSE = """\
To pretrain small encoders on surfaces, alone or beside drawings and objects, to test whether an encoder knows
a material in a game it was not fitted on, and as grounds behind drawings (`sempairs data scenes --set
textures=release:PATH`).

Textures of games are painted, or photographed and then made to tile. What is found here is no evidence about
photographs of materials."""

_COLUMNS = [
    ["image_id, uri", "unique key; game, texture and patch"],
    ["licence, attribution", "SPDX id of the texture's licence; whom to name"],
    ["category", "material and texture, joined by a slash"],
    ["concept", "the material"],
    ["domain", "the game"],
    ["biome", "where the terrain lies; 0 A.D. only, and not all of it"],
    ["texture, patch", "which texture; row and column of the cell that the patch lies in"],
    ["side, texture_width, texture_height", "pixels of the patch in its texture, and of the texture"],
    ["split_group, split", "textures that must share a split; train, validation or test"],
]

_LIMITS = """\
- **Names are the artists'.** A word may cover different things: a road is stones in one game and asphalt in
  the other. Names that speak of two materials are left out.
- **Scale differs.** Nothing says how large a texture is in its world, so a patch shows a hand's breadth of
  one and some metres of another.
- **Textures repeat.** A texture tiles, and patches of one texture look much alike.
- **The games differ in age and style**, which an encoder may tell before it tells materials apart.
- **Small differences remain across splits.** Textures made from one photograph, moved or cut another way, may
  lie in different splits."""

_BUILT = f"""\
`tools/build_texture_pairs.py` of the sempairs repository, from Debian's packages {ZEROAD[0]} {ZEROAD[1]} and
{UFOAI[0]} {UFOAI[1]}; `release.json` has the hash of the files that were read. Materials come from the words
of file names (`tools/texture_pairs_words.csv`) and, for {ZEROAD[2]}, from the groups that the game's own
terrain files name, which also say the biome. A texture of at least {CELLS[0][0]} pixels a side is divided
into {CELLS[0][1]} x {CELLS[0][1]} cells, a smaller one, of at least {CELLS[1][0]}, into {CELLS[1][1]} x
{CELLS[1][1]}. In each cell lies one square, its side {SHARE[0]:.0%} to {SHARE[1]:.0%} of the cell's and its
place drawn by a keyed hash, so that no two overlap; it is resized to {SIZE} x {SIZE} pixels and stored as
lossless WebP. Alpha of {ZEROAD[2]} is dropped: its terrains do not use it. `LICENSES/` holds the texts as
Debian's copyright files have them, which refer to `/usr/share/common-licenses` for those of the GPL,
and these files themselves, which list the authors."""


def _shared(collection: Collection) -> list[str]:
    """Materials that both games show."""
    games = defaultdict(set)
    for texture in collection.games.textures:
        games[texture.material].add(texture.game)
    return sorted(material for material, found in games.items() if len(found) > 1)


def _splits(collection: Collection) -> str:
    textures, split = collection.games.textures, collection.split
    count = Counter((split[t.key], t.game) for t in textures)
    parts = ("train", "validation", "test")
    names = [ZEROAD[2], UFOAI[2]]
    rows: list[list[object]] = [[part, *(count[part, name] for name in names)] for part in parts]
    groups = len(set(collection.group.values()))
    return f"""\
By texture, before anything else: all patches of one share a split. So do textures that look alike (their grey
pictures correlate by more than {ALIKE}: one recoloured, wetted, or kept in two folders), which makes
{groups:,} groups of {len(textures):,} textures. Groups are divided 70 / 10 / 20 percent within each material
of each game, by a keyed hash. Numbers of textures:

{markdown_table(["split", *names], rows)}"""


def _left_out(collection: Collection) -> str:
    count = Counter(collection.games.left_out.values())
    rows: list[list[object]] = [[reason, n] for reason, n in sorted(count.items())]
    return f"""\
`release.json` names each texture that is left out. The pictures were looked at on sheets by a multimodal
language model; no person has judged them.

{markdown_table(["reason", "textures"], rows)}"""
