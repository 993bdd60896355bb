"""The card of emoji-pairs: what it is, what it is not, and the numbers to judge it by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from emoji_pairs import measure, screening
from emoji_pairs.groups import NEAR, NearPair
from emoji_pairs.raster import INK, SIZE
from emoji_pairs.sets import EMOJIBASE, HELD_OUT
from sempairs.catalog import Catalog
from sempairs.release.card import crossed, markdown_table, render_card

Section = tuple[str, str]

TAGS = ("contrastive-learning", "emoji", "cross-domain")


def render(name: str, version: str, catalog: Catalog, summary: str, sections: Sequence[Section]) -> str:
    """The card's Markdown, of a release of images alone."""
    return render_card(
        name=name,
        version=version,
        title=name,
        summary=summary,
        catalog=catalog,
        tags=["semantic-pairs", "self-supervised-learning", *TAGS],
        sections=sections,
    )


def describe(
    name: str,
    catalog: Catalog,
    kept: Sequence[measure.Drawn],
    near: Sequence[NearPair],
    drawings: Sequence[measure.Drawn],
) -> tuple[str, list[Section]]:
    """The first paragraph, and the sections. `kept` are the drawings of this release, `near` indexes all
    `drawings`."""
    by_sa = name.endswith("-by-sa")
    pairs, alike, flagged = measure.duplicates(kept)
    summary = (
        f"{len(catalog):,} drawings of {len(set(catalog.column('concept'))):,} concepts by "
        f"{len(set(catalog.column('domain')))} designers, {SIZE} x {SIZE} pixels with alpha. A concept is a "
        "Unicode emoji sequence: one meaning, set by a public standard, drawn by independent designers. Two "
        f"drawings of a concept by different designers are a semantic pair; there are {pairs:,}. "
        + (_ADD_ON if by_sa else _MAIN)
    )
    return summary, [
        ("By set", crossed(catalog, "set")),
        ("What it is for, and what not", _PURPOSE),
        ("How to read it", _READING.format(name=name) if by_sa else _READING_PAIRS),
        ("Columns of its own", _columns()),
        ("Splits", _splits(catalog)),
        ("How a drawing found its concept", _joins(catalog)),
        ("How the joins were screened", screening.told(screening.read())),
        ("What to know of the drawings", _limits(catalog, kept, near, drawings, pairs, alike, flagged)),
        ("Margins are a style shortcut", _margins(kept)),
        ("How it was built", _BUILT),
    ]


_MAIN = (
    "Every drawing here is under a permissive licence. Two share-alike sets are an add-on that the same tool "
    "builds."
)
_ADD_ON = (
    "This is the add-on of the two share-alike sets; its groups and splits are those of the main release."
)

_PURPOSE = """\
A benchmark and a showcase: to pretrain small encoders on semantic pairs, to test retrieval and classification
across designers, and to try pair audits and curation on data that fits anywhere.

It is drawn, not photographed, and it is small. What is found here is no evidence about natural images. Nor is
it a picture of people as they are: drawings of persons, their work and their families carry the choices of a
few companies. It holds no skin-tone variants (recoloured copies), no flags (one picture in every set) and no
keycaps. It is not endorsed by any of the designers, whose names and marks are theirs."""

_READING = """\
```python
import datasets

pairs = datasets.load_dataset("{name}")  # the folder of this card
pairs["train"][0]["image"]  # an RGBA picture
```

`sempairs release info {name}` and `sempairs release verify {name}` describe and check a copy. Any
Parquet reader will do: `image` is a struct of the WebP bytes and a file name. The file `unassigned.parquet`
holds the held-out designers' drawings of concepts that are not for testing."""

_READING_PAIRS = """\
```python
import datasets

images = datasets.load_dataset("emoji-pairs", "images")  # the folder of this card
images["train"][0]["image"]  # an RGBA picture
pairs = datasets.load_dataset("emoji-pairs", "pairs")  # image ids of anchor and partner, by arm
```

`sempairs release info emoji-pairs` and `sempairs release verify emoji-pairs` describe and check a copy. Any
Parquet reader will do: `image` is a struct of the WebP bytes and a file name. `data/unassigned-*.parquet`
holds the held-out designers' drawings of concepts that are not for testing."""

_BUILT = f"""\
`tools/build_emoji_pairs.py` of the sempairs repository, from npm packages of fixed versions; `release.json`
lists each with the SHA-256 of the files that were read, and the versions of the tools. Groups and names come
from {EMOJIBASE[0]} {EMOJIBASE[1]} (MIT, © Miles Johnson). The icon packages hold the designers' SVG files as
cleaned up by Iconify; each icon is drawn by resvg at {SIZE} x {SIZE} pixels without system fonts, with
`currentColor` replaced by {INK} and icons that are not square centred in a transparent square; hidden icons
are left out. Pictures are stored as lossless WebP. The drawings were changed in no other way. Building again
from the same packages gives the same manifest hash."""

DATASHEET = {
    "motivation": "To have semantic pairs whose meaning is set by a public standard, small enough to come "
    "along with the software and to be judged whole.",
    "collection": "Drawings by icon designers, published as SVG files; concepts by code points, file names "
    "or icon names (see the card). Nothing was collected from or about people.",
    "maintenance": "Built by a documented tool from packages of fixed versions; a new version is a new "
    "screening.",
}


def _columns() -> str:
    rows = [
        ["image_id, uri", "unique key; name inside the release"],
        ["file_hash, pixel_hash", "SHA-256 of the WebP bytes; of the size and the decoded RGBA values"],
        ["width, height", "pixels"],
        ["licence, attribution", "SPDX id of the drawing's licence; whom to name"],
        ["category, group, subgroup", "Unicode's group and subgroup, joined by a slash and apart"],
        [
            "concept, name",
            "code points in hexadecimal without FE0F (`~`, meaning: where it drifted); name",
        ],
        ["domain, set, set_version", "the designer; the icon set and its package version"],
        ["split_group, split", "concepts that must share a split; train, validation, test or null"],
        ["held_out", "whether the designer is kept from training"],
        ["icon, join", "the icon's name in its set; how its concept is known"],
        ["flags", "geometric, punctuation or math: designers draw these nearly alike"],
    ]
    return markdown_table(["column", "meaning"], rows)


def _splits(catalog: Catalog) -> str:
    held = ", ".join(d for d in HELD_OUT if d in set(catalog.column("domain")))
    concepts = Counter(split for _, split in _concept_splits(catalog))
    table = markdown_table(["split", "concepts"], [[s, concepts[s]] for s in ("train", "validation", "test")])
    return f"""\
By concept, 70 / 10 / 20 percent for training, validation and test, within each subgroup as far as whole
groups allow, by a keyed hash. A `split_group` stays together. Concepts share one if any set (of the main
release or the add-on) draws them with one picture, up to an RMSE of {NEAR} (see below), or if their sequences
differ only in gender or direction ("man running", "woman running", "person running: facing right"): designers
draw these alike but for hair or a mirror, and which gender stands under the neutral code point changed over
the years.

{table}

{_HELD_OUT.format(held=held) if held else "No designer of this release is held out."}"""


_HELD_OUT = """\
Held-out designers: {held}. Their drawings of test concepts are in `test` with `held_out` true; their
others have no split. Cross-designer retrieval asks with the held-out designers' drawings of test concepts
among the other designers' drawings of test concepts; a hit has the same concept or `split_group`."""


def _concept_splits(catalog: Catalog) -> set[tuple[str, str]]:
    rows = zip(catalog.column("concept"), catalog.column("split"), strict=True)
    return {(concept, split) for concept, split in rows if split is not None}


def _joins(catalog: Catalog) -> str:
    meaning = {
        "codepoint": "the set ships code points",
        "file": "the designer's own file names are code points",
        "name": "the icon's name is, or was, that of a sequence",
    }
    count = Counter(catalog.column("join"))
    table = markdown_table(
        ["join", "how", "images"], [[k, text, count[k]] for k, text in meaning.items() if count[k]]
    )
    return f"{table}\n\nOf numbered variants of an icon (`bird-1`, `bird-2`) the first is taken."


def _limits(
    catalog: Catalog,
    kept: Sequence[measure.Drawn],
    near: Sequence[NearPair],
    drawings: Sequence[measure.Drawn],
    pairs: int,
    alike: int,
    flagged: dict[str, tuple[int, int]],
) -> str:
    own = set(map(id, kept))
    here = [p for p in near if id(drawings[p.first]) in own and id(drawings[p.second]) in own]
    same = sum(p.distance == 0 for p in here)
    by_flag = ", ".join(f"{flag} {_percent(hits, n)}" for flag, (n, hits) in sorted(flagged.items()))
    named = sum(how == "name" for how in catalog.column("join"))
    return f"""\
- **False pairs.** {named:,} drawings ({_percent(named, len(catalog))}) were joined by name. Names move
  between sequences over the years, so some pairs are false. They were screened by machine (above); no person
  has judged a sample, so the false-pair rate is not known.
- **Meaning drifts under one code point.** People shrugging or running are women, men or neither; families are
  people in older sets and silhouettes in newer ones; a cinema is a camera or a hall. (Revolvers and water
  pistols are apart.)
- **One picture, several concepts.** {len(here)} pairs of drawings of different concepts are the same picture
  up to an RMSE of {NEAR} ({same} of them pixel for pixel). Such concepts share a `split_group`.
- **Look-alikes across designers.** {alike:,} of {pairs:,} cross-designer pairs ({_percent(alike, pairs)}) are
  within an RMSE of {measure.DUPLICATE:.2f} (of flagged concepts: {by_flag or "none"}). They teach little that
  copies would not.
- **Sets are not independent.** Sets of one designer share ideas and outlines; `domain` is the designer for
  that reason. Designers knew each other's work, too.
- **Small differences remain across splits.** Clock faces, arrows and smileys of one set differ in a few
  pixels; they are separate concepts and may lie in different splits.

The RMSE is over {SIZE} x {SIZE} pixels: the larger of that of RGB on white and that of alpha, each on [0, 1].
"""


def _margins(kept: Sequence[measure.Drawn]) -> str:
    rows = [
        [row.set, f"{100 * row.touching:.0f}%", f"{row.margin:g}", f"{row.side:g}"]
        for row in measure.margins_by_set(kept)
    ]
    table = markdown_table(
        ["set", "touches the canvas edge", "smallest margin, px (median)", "longer side, px (median)"], rows
    )
    return f"""\
Some designers fill the canvas and some leave a border, so position and scale tell the designer:

{table}

The margins are left as drawn. Scaling every drawing to one size would make the small, medium and large
squares and diamonds one picture, and would change the designers' work. Random crops hide some of the cue in
training; whoever wants it gone can crop to the bounding box of alpha."""


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "none"
