"""Pictures with boxes: sets of VOC and COCO, and what of them a training step or a test sees.

Which pictures a step shows, mirrored or not and at which size, is drawn by key: a function of (seed, step).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sempairs import keyed
from sempairs.catalog.images import UnreadableImage, decode, header, orientation_of
from sempairs.catalog.names import escape_name
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.catalog.voc import VocObject, VocYear, find_devkit, find_years, read_voc, refuse_faults
from sempairs.detection.coco import find_coco, read_coco
from sempairs.detection.config import DetectionConfig
from sempairs.detection.records import DetectionSet, Picture
from sempairs.errors import UserError, unknown
from sempairs.metrics import Objects

KINDS = ("voc", "coco")


@dataclass(frozen=True)
class Sample:
    """A picture as a detector takes it. pixels: (3, H, W) uint8; boxes: (n, 4) float32 in its pixels;
    labels: (n,) int64 from 1; scale: (x, y) that led from the file's pixels to these."""

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    scale: tuple[float, float]

    def target(self) -> dict[str, Tensor]:
        return {"boxes": self.boxes, "labels": self.labels}


@dataclass(frozen=True)
class Draw:
    """One picture of a step: its row, whether it is mirrored, its short side."""

    row: int
    flip: bool
    size: int


def open_data(spec: str) -> Callable[[str], DetectionSet]:
    """Reads sets of the data that `spec` names, `voc:PATH` or `coco:PATH`, by their names.

    Raises: UserError for an unknown kind or a folder that is not laid out like it.
    """
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise unknown("--data", kind, [f"{k}:PATH" for k in KINDS])
    path = Path(rest).expanduser()
    if not rest or not path.exists():
        raise UserError(f"--data {kind}:", "must be an existing path", rest)
    if kind == "coco":
        root = find_coco(path)
        return lambda name: measured(read_coco(root, name))
    devkit = find_devkit(path)
    return lambda name: measured(_voc_set(devkit, name))


def _voc_set(devkit: Path, name: str) -> DetectionSet:
    year, _, image_set = name.partition("/")
    years = [f"VOC{y}" for y in find_years(devkit)]
    if year not in years or not image_set:
        raise UserError("image set", f"must be YEAR/SET with a year of {', '.join(years)}", name)
    kit = VocYear(devkit, int(year.removeprefix("VOC")))
    pictures: dict[Path, Picture] = {}
    faults = []
    for image in read_voc(devkit, kit.year, image_set):
        try:
            file = devkit / kit.picture(image)
        except UserError as error:
            faults.append(f"{escape_name(image.image_id)}: {error}")
            continue
        one = Picture(escape_name(image.image_id), file, image.width, image.height, image.objects)
        if pictures.setdefault(file, one) is not one:
            faults.append(f"{file} is the picture of {pictures[file].id} and of {one.id}")
    refuse_faults(faults, "pictures")
    again = kit.image_set(image_set).again
    notes = (
        [f"{name} names {len(again):,} pictures more than once, which count once: {again[0]}"]
        if again
        else []
    )
    return DetectionSet(name, tuple(pictures.values()), tuple(notes))


def measured(one: DetectionSet) -> DetectionSet:
    """The set with its files' sizes where the annotations give none, and each picture as it was annotated:
    turned by its EXIF orientation or not, whichever has the annotated size.

    Where both have it, or no size is given, the other pictures of the set decide; if these do not either, it
    is taken turned, as it is seen. Notes say so, and which boxes leave their picture.
    Raises: UserError naming the first files that are missing, unreadable or of another size, and boxes that
    lie outside of their picture.
    """
    found = list(in_threads(_measure, one.pictures, worker_count(None)))
    refuse_faults([each for each in found if isinstance(each, str)], "pictures")
    told = [each for each in found if not isinstance(each, str)]
    certain = Counter(each.upright for each in told if each.turned and each.upright is not None)
    upright = not (certain[False] and not certain[True])
    pictures = tuple(each.picture(upright) for each in told)
    notes = list(one.notes)
    if unsure := [
        p.id for p, each in zip(pictures, told, strict=True) if each.turned and each.upright is None
    ]:
        way = (
            "turned, as they are seen"
            if upright
            else "as they are stored, as others of this set are annotated"
        )
        notes.append(
            f"{_count(unsure)} an EXIF orientation, and the sizes do not say whether it was applied before "
            f"annotating; taken {way}: {unsure[0]}"
        )
    if stored := [p.id for p, each in zip(pictures, told, strict=True) if each.upright is False]:
        notes.append(f"{_count(stored)} an EXIF orientation that the annotations do not count: {stored[0]}")
    if unsized := [p.id for p in one.pictures if not (p.width and p.height)]:
        notes.append(f"{_count(unsized)} no size in the annotations; the files' was taken: {unsized[0]}")
    notes += _beyond(pictures)
    return DetectionSet(one.name, pictures, tuple(f"{one.name}: {note}" for note in notes))


@dataclass(frozen=True)
class _Size:
    """What a picture's file tells. stored: width and height of its pixels; turned: by its EXIF orientation;
    upright: whether the annotation counts the turned picture; None where that cannot be told."""

    of: Picture
    stored: tuple[int, int]
    swaps: bool
    turned: bool
    upright: bool | None

    def picture(self, otherwise: bool) -> Picture:
        upright = otherwise if self.upright is None else self.upright
        width, height = self.stored[::-1] if upright and self.swaps else self.stored
        return replace(self.of, width=width, height=height, upright=upright)


def _measure(picture: Picture) -> _Size | str:
    """What the file tells, or what is wrong with it."""
    try:
        data = picture.file.read_bytes()
        size, turn = header(data)[:2], orientation_of(data)
    except (OSError, UnreadableImage) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"{picture.file} cannot be read ({reason})"
    swaps = turn >= 5
    stored = size[::-1] if swaps else size
    given = (picture.width, picture.height)
    if turn == 1 or not all(given):
        upright = True if turn == 1 else None
        if all(given) and given != size:
            lost = (
                "; it lies on its side: an EXIF orientation, lost or of a TIFF?"
                if given == size[::-1]
                else ""
            )
            return f"{picture.file} must be {_by(given)}, as annotated, got '{_by(size)}'{lost}"
    elif given not in (stored, size):
        turned = f"{_by(stored)}, and {_by(size)} turned by its EXIF orientation {turn}"
        return f"{picture.file} must be {_by(given)}, as annotated, got {turned}"
    else:
        upright = None if stored == size else given == size
    return _Size(picture, stored, swaps, turn != 1, upright)


def _beyond(pictures: Sequence[Picture]) -> list[str]:
    """A note on boxes that reach more than a pixel beyond their picture.

    Raises: UserError for those that lie outside.
    """
    outside, cut = [], []
    for p in pictures:
        for thing in p.objects:
            x0, y0, x1, y1 = thing.box
            if x0 >= p.width or y0 >= p.height or x1 <= 0 or y1 <= 0:
                box = ", ".join(f"{side:g}" for side in thing.box)
                size = _by((p.width, p.height))
                outside.append(f"{p.id}: the box of {thing.name} ({box}) lies outside of the {size} picture")
            elif min(x0, y0) < -1 or x1 > p.width + 1 or y1 > p.height + 1:
                cut.append(f"{thing.name} in {p.id}")
    refuse_faults(outside, "boxes")
    if not cut:
        return []
    return [f"{len(cut):,} boxes reach beyond their picture; training cuts them at its edge: {cut[0]}"]


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _count(names: Sequence[str]) -> str:
    return f"{len(names):,} pictures have" if len(names) > 1 else "1 picture has"


def class_names(sets: Sequence[DetectionSet], given: Sequence[str] | None) -> tuple[str, ...]:
    """The classes to learn: `given`, else those of all objects of the training sets, sorted.

    Raises: UserError if there is none.
    """
    found = {thing.name for one in sets for picture in one.pictures for thing in picture.objects}
    names = tuple(given) if given is not None else tuple(sorted(found))
    if not names:
        raise UserError("training sets", "must hold objects, and have none", [one.name for one in sets])
    return names


def refuse_unknown_classes(one: DetectionSet, classes: Sequence[str]) -> None:
    """Raises: UserError naming a class of `one` that is not among `classes`."""
    known = set(classes)
    for picture in one.pictures:
        for thing in picture.objects:
            if thing.name not in known:
                rule = f"is of a class that is not in the list of {len(classes)}"
                remedy = f"the classes are those of the training sets: {', '.join(classes[:30])}"
                raise UserError(f"object in {picture.id} ({one.name})", rule, thing.name, remedy)


def true_objects(one: DetectionSet, classes: Sequence[str]) -> Objects:
    """All objects of a set, image by image, labels from 0."""
    number = {name: i for i, name in enumerate(classes)}
    rows = [(i, thing) for i, picture in enumerate(one.pictures) for thing in picture.objects]
    return Objects(
        image=np.array([i for i, _ in rows], dtype=np.int64),
        label=np.array([number[thing.name] for _, thing in rows], dtype=np.int64),
        box=np.array([thing.box for _, thing in rows], dtype=np.float64).reshape(-1, 4),
        difficult=np.array([thing.difficult for _, thing in rows], dtype=bool),
    )


def load_sample(picture: Picture, classes: Sequence[str], draw: Draw, config: DetectionConfig) -> Sample:
    """Reads a picture at the drawn size, with the boxes that are trained on.

    The short side becomes `draw.size` unless the long one would pass `max_size`; antialiased, as Pillow's
    bilinear filter is. Raises: UserError naming the file if it is unreadable or of another size.
    """
    image = open_picture(picture)
    width, height = image.size
    factor = min(draw.size / min(width, height), config.max_size / max(width, height))
    new = (max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5)))
    resized = image if new == image.size else image.resize(new, Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    scale = (new[0] / width, new[1] / height)
    number = {name: i for i, name in enumerate(classes, 1)}
    used = [t for t in picture.objects if config.train_difficult or not t.difficult]
    boxes = _boxes(used) * np.array([*scale, *scale])
    boxes = np.clip(boxes, 0, [*new, *new])
    kept = ((boxes[:, 2:] - boxes[:, :2]) > 1e-3).all(axis=1)
    if draw.flip:
        pixels = pixels.flip(2)
        boxes = np.stack([new[0] - boxes[:, 2], boxes[:, 1], new[0] - boxes[:, 0], boxes[:, 3]], axis=1)
    labels = np.array([number[thing.name] for thing in used], dtype=np.int64)
    return Sample(
        pixels.contiguous(),
        torch.from_numpy(boxes[kept].astype(np.float32)),
        torch.from_numpy(labels[kept]),
        scale,
    )


def open_picture(picture: Picture) -> Image.Image:
    """RGB pixels. Raises: UserError if the file is missing, unreadable, or of another size than annotated."""
    try:
        image = decode(picture.file.read_bytes(), upright=picture.upright).convert("RGB")
    except (OSError, UnreadableImage) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(str(picture.file), f"cannot be read ({reason})") from None
    if image.size != (picture.width, picture.height):
        rule = f"must be {picture.width} x {picture.height}, as annotated"
        raise UserError(str(picture.file), rule, f"{image.width} x {image.height}")
    return image


def draws(n: int, config: DetectionConfig, *, seed: int, step: int) -> list[Draw]:
    """What step `step` shows of `n` pictures: the next `batch_size` of an endless sequence of shuffles."""
    place = step * config.batch_size + np.arange(config.batch_size)
    epochs, positions = np.divmod(place, n)
    out = []
    for epoch, position in zip(epochs.tolist(), positions.tolist(), strict=True):
        row = int(_order(seed, epoch, n)[position])
        flip = keyed.uniform(seed, "detection flip", epoch=epoch, occurrence=row)[0, 0] < config.flip
        size = keyed.integers(
            seed, "detection size", high=len(config.train_sizes), epoch=epoch, occurrence=row
        )[0]
        out.append(Draw(row, bool(flip), config.train_sizes[int(size)]))
    return out


def training_batches(
    pictures: Sequence[Picture],
    classes: Sequence[str],
    config: DetectionConfig,
    *,
    seed: int,
    steps: range,
    rank: int = 0,
    world: int = 1,
) -> Iterator[list[Sample]]:
    """The samples of each of `steps`, of process `rank` of `world`; read ahead in threads."""
    share = config.batch_size // world
    own = itertools.chain.from_iterable(
        draws(len(pictures), config, seed=seed, step=step)[rank * share : (rank + 1) * share]
        for step in steps
    )

    def load(draw: Draw) -> Sample:
        return load_sample(pictures[draw.row], classes, draw, config)

    loaded = in_threads(load, own, worker_count(config.workers))
    for _ in steps:
        yield list(itertools.islice(loaded, share))


def scoring_samples(one: DetectionSet, classes: Sequence[str], config: DetectionConfig) -> Iterator[Sample]:
    """Every picture of a set once, in order, at the size of scoring."""

    def load(picture: Picture) -> Sample:
        return load_sample(picture, classes, Draw(0, False, config.test_size), config)

    return in_threads(load, one.pictures, worker_count(config.workers))


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    return keyed.permutation(seed, "detection order", epoch=epoch, n=n)


def _boxes(objects: Sequence[VocObject]) -> NDArray[np.float64]:
    return np.array([thing.box for thing in objects], dtype=np.float64).reshape(-1, 4)
