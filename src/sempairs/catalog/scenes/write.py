"""Scenes on disk: a VOCdevkit, and beside it a source of drawings in contexts.

VOCdevkit/VOC2007/     JPEGImages, Annotations, ImageSets/Main: train, val, trainval, test, test_designers
objects.parquet        which image of the catalogue each object of each scene is, and how much shows
contexts/images.csv    each training drawing alone on several grounds: concept is the drawing, domain the
                       ground, so that `cross_domain` pairs are the same object in other scenes
scenes.json            the configuration, classes, counts, licences, and the hash of every picture's bytes
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from sempairs import __version__
from sempairs.catalog.pictures import Pictures
from sempairs.catalog.scenes.config import ScenesConfig
from sempairs.catalog.scenes.grounds import Pixels, ground, laid
from sempairs.catalog.scenes.render import Scene, alone, render
from sempairs.catalog.scenes.scene_draws import SceneDraws
from sempairs.catalog.sources.base import open_source
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.catalog.table import Catalog
from sempairs.catalog.voc import VocImage, VocObject, write_voc
from sempairs.errors import UserError, unknown
from sempairs.files import atomic_folder, sha256_file, stable_hash, write_json
from sempairs.progress import track

YEAR = 2007
ABOUT, OBJECTS, CONTEXTS = "scenes.json", "objects.parquet", "contexts"
PARTS = ("train", "val", "test", "test_designers")
_SPLIT = {"train": "train", "val": "validation", "test": "test", "test_designers": "test"}
_CONTEXT_PART = len(PARTS)

Int = NDArray[np.int64]


@dataclass(frozen=True)
class _Pool:
    """Drawings of one part by class: rows of the catalogue, in the order of their ids."""

    by_class: Mapping[str, Int]

    def choose(self, draws: SceneDraws) -> int:
        """A class, then a drawing of it, uniformly both times."""
        names = list(self.by_class)
        rows = self.by_class[names[draws.integer(0, len(names) - 1)]]
        return int(rows[draws.integer(0, len(rows) - 1)])


class _Grounds:
    """What lies behind scenes: drawn, or textures of the scene's own split, so that no test shows one that a
    training scene had."""

    def __init__(self, config: ScenesConfig, parts: Iterable[str]) -> None:
        self.catalog = open_source(config.textures).scan().catalog if config.textures else None
        self._rows: dict[str, Int] = {}
        if self.catalog is None:
            return
        self._pictures = Pictures(self.catalog)
        split = self.catalog.column("split")
        anywhere = all(value is None for value in split)
        for part in parts:
            rows = np.arange(len(split)) if anywhere else np.flatnonzero(split == _SPLIT[part])
            if not len(rows):
                rule = f"must have images of the split {_SPLIT[part]}, or no splits"
                raise UserError("scenes.textures", rule, config.textures)
            self._rows[part] = rows

    def of(self, part: str) -> Callable[[SceneDraws, int], Pixels]:
        if self.catalog is None:
            return ground
        rows = self._rows[part]

        def paint(draws: SceneDraws, size: int) -> Pixels:
            return laid(draws, size, self._pictures.image(int(rows[draws.integer(0, len(rows) - 1)])))

        return paint

    def described(self) -> dict[str, Any]:
        """For `scenes.json`; licences: of all textures that may lie behind a scene."""
        if self.catalog is None:
            return {}
        ids = self.catalog.column("image_id")
        used = {str(ids[row]) for rows in self._rows.values() for row in rows}
        return {
            "grounds": {
                "catalog_hash": self.catalog.content_hash(),
                "licences": _licences(self.catalog, used, "textures"),
            }
        }


def write_scenes(
    catalog: Catalog,
    out: str | Path,
    config: ScenesConfig | None = None,
    *,
    workers: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write a folder of scenes with exact boxes, whole or not at all.

    Drawings of the split train go into train, of validation into val, of test into test; where the catalogue
    has a column `held_out`, marked drawings go into test_designers only. The same catalogue and config give
    the same bytes, given the same Pillow, for any number of workers.

    Args:
        catalog: The drawings.
        out: The new folder.
        config: What is painted; None: the defaults.
        workers: Threads; None: as many as fit the machine.
        progress: Whether progress is shown.

    Returns:
        What `scenes.json` says.

    Raises:
        UserError: if a part that is asked for has no drawing, a class is unknown, or `out` is in use.
    """
    config = config or ScenesConfig()
    catalog = catalog.in_order()
    classes = _classes(catalog, config)
    pools = {part: _pool(catalog, part, classes) for part in PARTS if getattr(config, part)}
    pictures = Pictures(catalog)
    grounds = _Grounds(config, [*pools, *(["train"] if config.contexts else [])])
    with atomic_folder(out) as folder:
        jobs = [(part, number) for part in pools for number in range(getattr(config, part))]
        sets: dict[str, list[str]] = {}
        for index, (part, _) in enumerate(jobs, 1):
            sets.setdefault(part, []).append(f"{index:06d}")
        if sets.keys() >= {"train", "val"}:
            sets["trainval"] = [*sets["train"], *sets["val"]]
        rows: list[dict[str, Any]] = []

        def paint(job: tuple[str, int]) -> Scene:
            part, number = job
            draws = SceneDraws(config.seed, PARTS.index(part), number)
            return render(draws, config, pools[part].choose, pictures.image, grounds.of(part))

        def annotated() -> Iterator[tuple[VocImage, Image.Image]]:
            painted: Iterator[Scene] = in_threads(paint, jobs, worker_count(workers))
            if progress:
                painted = iter(track(painted, total=len(jobs), what="painting", unit="scene"))
            for index, ((part, _), scene) in enumerate(zip(jobs, painted, strict=True), 1):
                rows.extend(_described(part, f"{index:06d}", scene, catalog, classes))
                yield _annotated(f"{index:06d}", config.size, scene, catalog, classes), scene.picture

        if jobs:
            write_voc(folder / "VOCdevkit", YEAR, annotated(), sets, quality=config.quality)
        pq.write_table(_objects(rows), folder / OBJECTS, compression="zstd")
        if config.contexts:
            behind = grounds.of("train")
            _write_contexts(folder / CONTEXTS, catalog, classes, pictures, behind, config, workers, progress)
        about = {
            "format": "sempairs.scenes/1",
            "sempairs": __version__,
            "config": config.model_dump(mode="json"),
            "catalog_hash": catalog.content_hash(),
            "classes": sorted(set(classes.values())),
            "scenes": {part: len(found) for part, found in sets.items()},
            "objects": dict(Counter(row["part"] for row in rows)),
            "licences": _licences(catalog, {row["image_id"] for row in rows}, "drawings"),
            **grounds.described(),
            "pictures_hash": stable_hash(
                [[path.relative_to(folder).as_posix(), sha256_file(path)] for path in _pictures(folder)]
            ),
        }
        write_json(folder / ABOUT, about)
    return about


def _pictures(folder: Path) -> list[Path]:
    return sorted([*folder.rglob("*.jpg"), *folder.rglob("*.png")])


def _classes(catalog: Catalog, config: ScenesConfig) -> dict[str, str]:
    """Name of the class to detect by category. Raises: UserError for a category that is not there."""
    train = (catalog.column("split") == "train") & ~_held_out(catalog)
    found = Counter(str(name) for name in catalog.column("category")[train] if name is not None)
    if not found:
        raise UserError("scenes", "need training images with a category, and there is none")
    if isinstance(config.classes, int):
        chosen = sorted(found, key=lambda name: (-found[name], name))[: config.classes]
    else:
        for name in config.classes:
            if name not in found:
                raise unknown("scenes.classes", name, sorted(found))
        chosen = list(config.classes)
    leaf = Counter(name.rsplit("/", 1)[-1] for name in chosen)
    # A class is a file name in a devkit. Its leaf will do where that is unique.
    short = {name: name.rsplit("/", 1)[-1] for name in chosen}
    return {name: short[name] if leaf[short[name]] == 1 else name.replace("/", "--") for name in chosen}


def _pool(catalog: Catalog, part: str, classes: Mapping[str, str]) -> _Pool:
    held = _held_out(catalog)
    of_part = (catalog.column("split") == _SPLIT[part]) & (held if part == "test_designers" else ~held)
    category = catalog.column("category")
    by_class = {name: np.flatnonzero(of_part & (category == name)) for name in classes}
    by_class = {name: rows for name, rows in by_class.items() if len(rows)}
    if not by_class:
        remedy = f"set {part}=0, or give a catalogue with such images"
        raise UserError(f"scenes.{part}", "asks for scenes, and no image is there for them", part, remedy)
    return _Pool(by_class)


def _held_out(catalog: Catalog) -> NDArray[np.bool_]:
    if "held_out" not in catalog.table.column_names:
        return np.zeros(len(catalog), dtype=bool)
    return np.array([bool(value) for value in catalog.column("held_out")], dtype=bool)


def _annotated(name: str, size: int, scene: Scene, catalog: Catalog, classes: Mapping[str, str]) -> VocImage:
    category = catalog.column("category")
    objects = tuple(
        VocObject(
            classes[category[one.row]],
            (float(one.box[0]), float(one.box[1]), float(one.box[2]), float(one.box[3])),
            truncated=one.truncated,
            occluded=one.occluded,
        )
        for one in scene.objects
    )
    return VocImage(name, size, size, objects, YEAR)


def _described(
    part: str, name: str, scene: Scene, catalog: Catalog, classes: Mapping[str, str]
) -> list[dict[str, Any]]:
    ids, category = catalog.column("image_id"), catalog.column("category")
    concept, domain = catalog.column("concept"), catalog.column("domain")
    return [
        {
            "part": part,
            "scene": name,
            "object": number,
            "image_id": ids[one.row],
            "class": classes[category[one.row]],
            "concept": concept[one.row],
            "domain": domain[one.row],
            **dict(zip(("xmin", "ymin", "xmax", "ymax"), one.box, strict=True)),
            "visible": one.visible,
            "truncated": one.truncated,
            "occluded": one.occluded,
        }
        for number, one in enumerate(scene.objects)
    ]


def _objects(rows: list[dict[str, Any]]) -> pa.Table:
    texts = ("part", "scene", "image_id", "class", "concept", "domain")
    kinds = {name: pa.string() for name in texts} | {
        name: pa.int32() for name in ("object", "xmin", "ymin", "xmax", "ymax")
    }
    schema = pa.schema({**kinds, "visible": pa.float32(), "truncated": pa.bool_(), "occluded": pa.bool_()})
    return pa.Table.from_pylist(rows, schema=schema)


def _licences(catalog: Catalog, used: set[str], what: str) -> list[dict[str, Any]]:
    """Licence and attribution of the images shown, and how many of each: scenes are derived works."""
    part = catalog.select(np.array([name in used for name in catalog.column("image_id")], dtype=bool))
    pairs = Counter(zip(part.column("licence"), part.column("attribution"), strict=True))
    return [
        {"licence": licence, "attribution": attribution, what: count}
        for (licence, attribution), count in sorted(pairs.items(), key=str)
    ]


def _write_contexts(
    folder: Path,
    catalog: Catalog,
    classes: Mapping[str, str],
    pictures: Pictures,
    behind: Callable[[SceneDraws, int], Pixels],
    config: ScenesConfig,
    workers: int | None,
    progress: bool,
) -> None:
    """PNG files and their list. Drawings of the classes' training concepts by designers not held out."""
    (folder / "images").mkdir(parents=True)
    rows = np.sort(np.concatenate(list(_pool(catalog, "train", classes).by_class.values())))
    jobs = [(int(row), ground) for row in rows for ground in range(config.contexts)]

    def paint(job: tuple[int, int]) -> bytes:
        row, ground = job
        draws = SceneDraws(config.seed, _CONTEXT_PART + ground, row)
        data = io.BytesIO()
        alone(draws, config.context_size, config, pictures.image(row), behind).save(data, "PNG")
        return data.getvalue()

    painted: Iterator[bytes] = in_threads(paint, jobs, worker_count(workers))
    if progress:
        painted = iter(track(painted, total=len(jobs), what="painting", unit="context"))
    columns = {name: catalog.column(name) for name in ("category", "licence", "attribution", "split_group")}
    ids = catalog.column("image_id")
    with open(folder / "images.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["path", "concept", "domain", "split", *columns])
        for (row, ground), data in zip(jobs, painted, strict=True):
            name = f"images/{row:06d}-{ground:02d}.png"
            (folder / name).write_bytes(data)
            own = [values[row] or "" for values in columns.values()]
            writer.writerow([name, ids[row], f"ground {ground}", "train", *own])
