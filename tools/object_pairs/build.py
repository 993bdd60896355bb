"""From the package to a release: read, render, name, group, split, write."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundled import builder, release_with_pairs
from object_pairs import groups
from object_pairs.card import DATASHEET, TAGS, describe
from object_pairs.furniture import PACKAGE, Furniture, Model, read_furniture
from object_pairs.groups import HELD_OUT, Named
from object_pairs.render import LEVELS, SIDES, SIZE, View, encode, pictures_of, views_of
from object_pairs.sheets import write_sheets
from sempairs.catalog import Catalog
from sempairs.catalog.images import pixel_hash
from sempairs.errors import UserError
from sempairs.files import sha256_bytes
from sempairs.progress import track
from sempairs.release.facts import Answers, ReleaseFacts, Section

NAME = "object-pairs"
VERSION = "1.0.0"
PUBLISHED = "2026-11-30"
SEED = 0
# Models that looking at the pictures left out, and why.
LEFT_OUT = Path(__file__).resolve().parents[1] / "object_pairs_left_out.csv"
# A picture that covers less of its square shows an edge and no object.
LEAST = 0.015


@dataclass(frozen=True)
class Object:
    """One model and its pictures from SIDES, (len(SIDES), SIZE, SIZE, 4) uint8 RGBA; those of `views` alone
    are released."""

    model: Model
    named: Named
    views: Mapping[str, View]
    pictures: np.ndarray


@dataclass(frozen=True)
class Collection:
    """What is released, and what is not: reasons by the key of a model.

    group, split: by the key of a model. alike: pairs of models of different heads that look alike.
    """

    objects: tuple[Object, ...]
    group: Mapping[str, str]
    split: Mapping[str, str]
    alike: tuple[tuple[str, str, float], ...]
    left_out: Mapping[str, str]
    furniture: Furniture


def collect(package: Path, cache: Path | None = None, sheets: Path | None = None) -> Collection:
    """Reads the package and renders every model whose licence is clear and free.

    cache: a folder where rendered pictures are kept, so that a build that was stopped goes on. sheets: a
    folder for sheets of all that was rendered, to look at.
    Raises: UserError if the package is absent, another one or damaged.
    """
    furniture = read_furniture(package)
    left_out = read_left_out()
    unknown = set(left_out) - {model.key for model in furniture.models}
    if unknown:
        raise UserError(LEFT_OUT.name, "must name models of the package", min(unknown))
    left_out |= {
        m.key: "its licence is not clear, or not free" for m in furniture.models if m.licence is None
    }
    rendered: dict[str, np.ndarray] = {}
    for model in track(furniture.models, what="rendering", unit="model"):
        if model.key not in left_out:
            try:
                rendered[model.key] = pictures_of(model, cache)
            except UserError as error:
                print(f"left out: {error}", file=sys.stderr)
                left_out[model.key] = "it cannot be rendered"
    models = [model for model in furniture.models if model.key in rendered]
    if sheets:
        write_sheets(sheets, models, rendered)
    names = groups.name_models(models, groups.read_renamed())
    group, alike = groups.split_groups(names, {key: pictures[-1] for key, pictures in rendered.items()})
    split_of = groups.assign(group, names, {model.key: model.maker for model in models})
    split = {key: split_of[name] for key, name in group.items()}
    objects = tuple(
        Object(model, names[model.key], _shown(model.key, rendered[model.key]), rendered[model.key][:-1])
        for model in models
    )
    return Collection(objects, group, split, tuple(alike), left_out, furniture)


def read_left_out() -> dict[str, str]:
    """Reasons by the key of a model, as found by looking at the pictures."""
    with LEFT_OUT.open(encoding="utf-8", newline="") as handle:
        return {row["model"]: row["reason"] for row in csv.DictReader(handle)}


def write(collection: Collection, out: Path) -> dict[str, Any]:
    """Writes the release with its pairs; returns its `release.json`."""
    catalog, data = catalogue(collection)
    licences = {name: collection.furniture.licences[name] for name in sorted(set(catalog.column("licence")))}
    summary, sections = describe(catalog, collection)
    record = {
        "held_out_makers": list(HELD_OUT),
        "models": {
            "released": len(collection.objects),
            "left_out": dict(Counter(collection.left_out.values()).most_common()),
        },
        "left_out": dict(sorted(collection.left_out.items())),
        "grouping": {"alike_up_to_rmse": groups.NEAR, "pairs": [list(pair) for pair in collection.alike]},
        "seed": SEED,
        "rendering": {"size": SIZE, "sides": list(SIDES), "levels": LEVELS, "encoding": "lossless WebP"},
        "inputs": {PACKAGE[0]: {"version": PACKAGE[1], "sha256": collection.furniture.sha256}},
        "builder": builder("tools/build_object_pairs.py", "vtk"),
    }
    facts = ReleaseFacts(
        title=NAME,
        summary=summary,
        licence="Apache-2.0",
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
        licences={f"{name}.txt": text for name, text in licences.items()},
        facts=facts,
        seed=SEED,
    )


def catalogue(collection: Collection) -> tuple[Catalog, dict[str, bytes]]:
    """The catalogue of the pictures, and their WebP bytes by uri.

    Objects by held-out makers are for testing: those of test groups are "test", others have no split.
    """
    rows: list[dict[str, Any]] = []
    data: dict[str, bytes] = {}
    for thing in track(collection.objects, what="encoding", unit="object"):
        model, held_out = thing.model, thing.model.maker in HELD_OUT
        split = collection.split[model.key]
        for side, view in thing.views.items():
            picture = thing.pictures[SIDES.index(side)]
            uri = f"{model.key}/{side}.webp"
            data[uri] = encode(picture)
            rows.append(
                {
                    "image_id": f"{NAME}/{uri}",
                    "file_hash": sha256_bytes(data[uri]),
                    "pixel_hash": pixel_hash(Image.fromarray(picture)),
                    "uri": uri,
                    "width": SIZE,
                    "height": SIZE,
                    "source": NAME,
                    "licence": model.licence,
                    "attribution": model.attribution,
                    "category": f"{thing.named.kind}/{thing.named.name}".lower(),
                    "concept": model.key,
                    "domain": side,
                    "split_group": collection.group[model.key],
                    "split": split if split == "test" or not held_out else None,
                    "held_out": held_out,
                    "maker": model.maker,
                    "library": model.library,
                    "title": model.name,
                    "filed_under": model.kind,
                    "azimuth": view.azimuth,
                    "elevation": view.elevation,
                    "light_azimuth": view.light_azimuth,
                    "light_elevation": view.light_elevation,
                    "light": view.light,
                }
            )
    return Catalog.from_columns({key: [row[key] for row in rows] for key in rows[0]}).in_order(), data


def _shown(key: str, pictures: np.ndarray) -> dict[str, View]:
    covered = (pictures[:-1, ..., 3] >= 128).mean((1, 2))
    views = zip(SIDES, views_of(key), covered, strict=True)
    return {side: view for side, view, share in views if share >= LEAST}
