"""Pictures with boxes: sets of VOC and COCO, and what of them a training step or a test sees.

Which pictures a step shows, mirrored or not and at which size, is drawn by key: a function of (seed, step).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sempairs import keyed
from sempairs.catalog.images import UnreadableImage, decode
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.catalog.voc import VocObject, find_devkit, find_years, image_path, read_voc
from sempairs.errors import UserError, unknown
from sempairs.evaluation.detection.coco import find_coco, read_coco
from sempairs.evaluation.detection.config import DetectionConfig
from sempairs.evaluation.detection.records import DetectionSet, Picture
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
        return lambda name: read_coco(root, name)
    devkit = find_devkit(path)
    return lambda name: _voc_set(devkit, name)


def _voc_set(devkit: Path, name: str) -> DetectionSet:
    year, _, image_set = name.partition("/")
    years = [f"VOC{y}" for y in find_years(devkit)]
    if year not in years or not image_set:
        raise UserError("image set", f"must be YEAR/SET with a year of {', '.join(years)}", name)
    pictures = [
        Picture(image.image_id, devkit / image_path(image), image.width, image.height, image.objects)
        for image in read_voc(devkit, int(year.removeprefix("VOC")), image_set)
    ]
    return DetectionSet(name, tuple(pictures))


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
        image = decode(picture.file.read_bytes()).convert("RGB")
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
