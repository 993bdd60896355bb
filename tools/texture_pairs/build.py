"""From the packages to a release: read, cut, group, split, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundled import builder, release_with_pairs
from emoji_pairs.raster import encode
from sempairs.catalog import Catalog
from sempairs.catalog.images import pixel_hash
from sempairs.files import sha256_bytes
from sempairs.progress import track
from sempairs.release.facts import Answers, ReleaseFacts, Section
from texture_pairs.card import DATASHEET, TAGS, describe
from texture_pairs.games import UFOAI, ZEROAD, Games, read_games
from texture_pairs.patches import ALIKE, CELLS, LEAST, SHARE, SIZE, Patch, assign, cut, split_groups
from texture_pairs.sheets import write_sheets

NAME = "texture-pairs"
VERSION = "1.0.0"
PUBLISHED = "2026-11-30"
SEED = 0


@dataclass(frozen=True)
class Collection:
    """What is released. patches, group, split: by the key of a texture. alike: pairs that share a group."""

    games: Games
    patches: Mapping[str, list[Patch]]
    group: Mapping[str, str]
    split: Mapping[str, str]
    alike: tuple[tuple[str, str, float], ...]


def collect(zeroad: Path, ufoai: Path, sheets: Path | None = None) -> Collection:
    """Reads both games and cuts every texture of one material.

    zeroad, ufoai: the .deb files, or folders where they lie unpacked. sheets: a folder for sheets of all
    textures, to look at. Raises: UserError if one is absent, another one or damaged.
    """
    games = read_games(zeroad, ufoai, LEAST)
    # A surface of one colour shows nothing of its material.
    patches = {t.key: [p for p in cut(t) if p.pixels.std(axis=(0, 1)).max() >= 1] for t in games.textures}
    if sheets:
        write_sheets(sheets, games.textures, patches)
    group, alike = split_groups(games.textures)
    split_of = assign(games.textures, group)
    split = {key: split_of[name] for key, name in group.items()}
    return Collection(games, patches, group, split, tuple(alike))


def write(collection: Collection, out: Path) -> dict[str, Any]:
    """Writes the release with its pairs; returns its `release.json`."""
    catalog, data = catalogue(collection)
    games = collection.games
    summary, sections = describe(catalog, collection)
    record = {
        "textures": {
            "released": len(games.textures),
            "left_out": dict(Counter(games.left_out.values()).most_common()),
        },
        "left_out": dict(sorted(games.left_out.items())),
        "grouping": {"alike_up_from": ALIKE, "pairs": [list(pair) for pair in collection.alike]},
        "seed": SEED,
        "cutting": {"size": SIZE, "cells": [list(c) for c in CELLS], "share": list(SHARE)},
        "inputs": {
            package: {"version": version, "textures_hash": games.hashes[package]}
            for package, version, _ in (ZEROAD, UFOAI)
        },
        "builder": builder("tools/build_texture_pairs.py"),
    }
    facts = ReleaseFacts(
        title=NAME,
        summary=summary,
        licence="CC-BY-SA-3.0",
        keywords=TAGS,
        creator=("The sempairs authors",),
        date=PUBLISHED,
        datasheet=Answers(**DATASHEET),
        sections=tuple(Section(heading=heading, text=text) for heading, text in sections),
        record=record,
    )
    return release_with_pairs(
        out,
        name=NAME,
        version=VERSION,
        catalog=catalog,
        read=data.__getitem__,
        licences=games.licences,
        facts=facts,
        seed=SEED,
    )


def catalogue(collection: Collection) -> tuple[Catalog, dict[str, bytes]]:
    """The catalogue of the patches, and their WebP bytes by uri."""
    rows: list[dict[str, Any]] = []
    data: dict[str, bytes] = {}
    for texture in track(collection.games.textures, what="encoding", unit="texture"):
        for patch in collection.patches[texture.key]:
            uri = f"{texture.key}/{patch.name}.webp"
            picture = Image.fromarray(patch.pixels)
            data[uri] = encode(picture)
            rows.append(
                {
                    "image_id": f"{NAME}/{uri}",
                    "file_hash": sha256_bytes(data[uri]),
                    "pixel_hash": pixel_hash(picture),
                    "uri": uri,
                    "width": SIZE,
                    "height": SIZE,
                    "source": NAME,
                    "licence": texture.licence,
                    "attribution": texture.attribution,
                    "category": f"{texture.material}/{texture.key.replace('/', ' ')}",
                    "concept": texture.material,
                    "domain": texture.game,
                    "split_group": collection.group[texture.key],
                    "split": collection.split[texture.key],
                    "texture": texture.key,
                    "patch": patch.name,
                    "biome": texture.biome,
                    "side": patch.box[2] - patch.box[0],
                    "texture_width": texture.pixels.shape[1],
                    "texture_height": texture.pixels.shape[0],
                }
            )
    rows, data = _once(rows, data)
    return Catalog.from_columns({key: [row[key] for row in rows] for key in rows[0]}).in_order(), data


def _once(
    rows: list[dict[str, Any]], data: dict[str, bytes]
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Without second copies of a patch: a texture that lies in two folders is one."""
    _, first = np.unique([row["pixel_hash"] for row in rows], return_index=True)
    kept = [rows[place] for place in np.sort(first)]
    return kept, {row["uri"]: data[row["uri"]] for row in kept}
