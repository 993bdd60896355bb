"""From packages to a release: read, join, draw, group, split, write."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundled import builder, release_with_pairs
from emoji_pairs import groups, join, screening
from emoji_pairs.card import DATASHEET, TAGS, describe, render
from emoji_pairs.concepts import Concept, read_concepts
from emoji_pairs.packages import Package, read_package
from emoji_pairs.raster import INK, SIZE, encode
from emoji_pairs.raster import render as draw
from emoji_pairs.sets import CHARS_OF, EMOJIBASE, HELD_OUT, NAMING, SETS, IconSet
from sempairs.catalog import Catalog
from sempairs.catalog.images import pixel_hash
from sempairs.errors import UserError
from sempairs.files import sha256_bytes
from sempairs.progress import track
from sempairs.release import write_release
from sempairs.release.facts import Answers, ReleaseFacts, Screening, Section

VERSION = "1.1.0"
PUBLISHED = "2026-11-23"
SEED = 0
TOOLS = Path(__file__).resolve().parents[1]

_LICENCE_FILES = ("Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT")


@dataclass(frozen=True)
class Drawing:
    """One icon as a picture (SIZE, SIZE, 4 uint8 RGBA), the concept it draws, and how that is known."""

    set: IconSet
    concept: Concept
    icon: str
    how: str
    pixels: np.ndarray
    rejected: bool = False

    @property
    def code(self) -> str:
        """The code points drawn, also where what they show has another meaning: `1f52b~revolver`."""
        return self.concept.code.partition("~")[0]


@dataclass(frozen=True)
class Collection:
    """All drawings of all sets, which concepts share a split, and which split that is."""

    drawings: list[Drawing]
    concepts: dict[str, Concept]
    near: list[groups.NearPair]
    group: dict[str, str]
    split: dict[str, str]
    inputs: dict[str, Any]


def collect(packages: Path) -> Collection:
    """Reads the packages in a folder and draws every icon in scope, also for a release that leaves some out:
    so the main release and the add-on agree on groups and splits.

    Raises: UserError if a package is absent, of another version or damaged, or an icon cannot be drawn.
    """
    emojibase = read_package(packages, *EMOJIBASE, ("en/data.json", "meta/groups.json", "LICENSE"))
    wanted = ("icons.json", "chars.json", "metadata.json")
    found = {s.name: read_package(packages, s.package, s.version, wanted) for s in SETS}
    concepts = read_concepts(emojibase)
    listing = (TOOLS / "fxemoji_codepoints.csv").read_bytes()
    joins = _join(found, concepts, listing)
    drawings = [
        Drawing(s, concepts[code], hit.icon, hit.how, _pixels(s, icons, hit.icon))
        for s, icons, hits in joins
        for code, hit in track(hits.items(), total=len(hits), what=f"drawing {s.name}", unit="icon")
    ]
    # Groups and splits are made before the screening, which so changes none of them.
    near = groups.near_pairs(np.stack([d.pixels for d in drawings]), [d.concept.code for d in drawings])
    alike = [(drawings[p.first].concept.code, drawings[p.second].concept.code) for p in near]
    group = groups.split_groups(concepts, alike)
    split_of = groups.assign(group, concepts, SEED)
    inputs = {p.name: {"version": p.version, "files": p.hashes()} for p in [emojibase, *found.values()]}
    inputs["fxemoji_codepoints.csv"] = {"files": {"fxemoji_codepoints.csv": sha256_bytes(listing)}}
    split = {code: split_of[name] for code, name in group.items()}
    return Collection(_screened(drawings), concepts, near, group, split, inputs)


def _screened(drawings: list[Drawing]) -> list[Drawing]:
    """What `screening` found: false joins are marked, other meanings become concepts of their own."""
    found = screening.read()
    out = []
    for d in drawings:
        key = d.set.name, d.concept.code
        meaning = found.other.get(key)
        concept = (
            replace(d.concept, code=f"{d.concept.code}~{meaning}", name=meaning) if meaning else d.concept
        )
        out.append(replace(d, concept=concept, rejected=key in found.rejected))
    return out


def write(
    collection: Collection, out: Path, *, share_alike: bool, notices: Mapping[str, str]
) -> dict[str, Any]:
    """Writes the main release with its pairs, or the add-on's images; returns its `release.json`."""
    name = "emoji-pairs-by-sa" if share_alike else "emoji-pairs"
    kept = [d for d in collection.drawings if d.set.share_alike == share_alike and not d.rejected]
    catalog, data = catalogue(name, kept, collection)
    licences = {d.set.licence for d in kept}
    texts = {
        f"{i}.txt": (TOOLS / "licences" / f"{i}.txt").read_text("utf-8")
        for i in _LICENCE_FILES
        if i in licences
    }
    facts = {
        "held_out_domains": [d for d in HELD_OUT if d in set(catalog.column("domain"))],
        "images_by_set": {
            s.name: sum(d.set is s for d in kept) for s in SETS if s.share_alike == share_alike
        },
        "grouping": {"alike_up_to_rmse": groups.NEAR, "pairs": len(collection.near)},
        "seed": SEED,
        "rendering": {"size": SIZE, "current_colour": INK, "encoding": "lossless WebP"},
        "inputs": collection.inputs,
        "builder": builder("tools/build_emoji_pairs.py", "resvg_py"),
    }
    summary, sections = describe(name, catalog, kept, collection.near, collection.drawings)
    if share_alike:
        return write_release(
            out,
            name=name,
            version=VERSION,
            catalog=catalog,
            read=data.__getitem__,
            card=render(name, VERSION, catalog, summary, sections),
            licences={**texts, **notices},
            facts=facts,
        )
    return release_with_pairs(
        out,
        name=name,
        version=VERSION,
        catalog=catalog,
        read=data.__getitem__,
        licences={**texts, **notices},
        facts=ReleaseFacts(
            title=name,
            summary=summary,
            licence="Apache-2.0",
            keywords=TAGS,
            creator=("The sempairs authors",),
            date=PUBLISHED,
            datasheet=Answers(**DATASHEET),
            sections=tuple(Section(heading=heading, text=text) for heading, text in sections),
            screening=Screening(**screening.facts(screening.read())),
            record=facts,
        ),
        seed=SEED,
    )


def catalogue(name: str, kept: list[Drawing], collection: Collection) -> tuple[Catalog, dict[str, bytes]]:
    """The catalogue of the given drawings, and their WebP bytes by uri.

    Drawings by held-out designers are for testing: those of test concepts are "test", others have no split.
    """
    rows: list[dict[str, Any]] = []
    data: dict[str, bytes] = {}
    for d in track(kept, what="encoding", unit="image"):
        uri = f"{d.set.name}/{d.code}.webp"
        image = Image.fromarray(d.pixels)
        data[uri] = encode(image)
        held_out = d.set.designer in HELD_OUT
        split = collection.split[d.code]
        rows.append(
            {
                "image_id": f"{name}/{uri}",
                "file_hash": sha256_bytes(data[uri]),
                "pixel_hash": pixel_hash(image),
                "uri": uri,
                "width": image.width,
                "height": image.height,
                "source": name,
                "licence": d.set.licence,
                "attribution": d.set.attribution,
                "category": f"{d.concept.group}/{d.concept.subgroup}",
                "concept": d.concept.code,
                "domain": d.set.designer,
                "split_group": collection.group[d.code],
                "split": split if split == "test" or not held_out else None,
                "set": d.set.name,
                "set_version": d.set.version,
                "icon": d.icon,
                "join": d.how,
                "held_out": held_out,
                "group": d.concept.group,
                "subgroup": d.concept.subgroup,
                "name": d.concept.name,
                "flags": d.concept.flag,
            }
        )
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return Catalog.from_columns(columns).in_order(), data


def notices(packages: Path) -> dict[str, str]:
    """Licence texts of what is no drawing: names and categories come from emojibase-data."""
    emojibase = read_package(packages, *EMOJIBASE, ("LICENSE",))
    return {"MIT-emojibase-data.txt": emojibase.files["LICENSE"].decode("utf-8")}


def _join(
    packages: Mapping[str, Package], concepts: Mapping[str, Concept], listing: bytes
) -> list[tuple[IconSet, dict[str, Any], dict[str, join.Joined]]]:
    icons = {name: package.json("icons.json") for name, package in packages.items()}
    chars = {name: packages[CHARS_OF.get(name, name)].json("chars.json") for name in packages}
    index = join.name_index(concepts, [(icons[name], chars[name]) for name in NAMING])
    files = {r["icon"]: r["codepoints"] for r in csv.DictReader(io.StringIO(listing.decode("utf-8")))}
    found = []
    for s in SETS:
        if s.join == "chars":
            hits = join.by_code(icons[s.name], chars[s.name], index, concepts)
        elif s.join == "files":
            hits = join.by_file(icons[s.name], files, concepts)
        else:
            filed = packages[s.name].json("metadata.json").get("categories", {})
            hits = join.by_name(icons[s.name], index, concepts, flags=frozenset(filed.get("Flags", ())))
        found.append((s, icons[s.name], hits))
    return found


def _pixels(s: IconSet, icons: dict[str, Any], icon: str) -> np.ndarray:
    try:
        pixels = np.asarray(draw(icons, icon))
    except (ValueError, KeyError) as error:
        raise UserError(f"{s.package}@{s.version}: icon {icon}", f"cannot be drawn ({error})") from None
    if not pixels[..., 3].any():
        raise UserError(f"{s.package}@{s.version}: icon {icon}", "is an empty picture")
    return pixels
