"""Pictures with objects, whatever layout they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sempairs.catalog.voc import VocObject


@dataclass(frozen=True)
class Picture:
    """A picture and what is in it. id: unique within its set; sizes in pixels; boxes from 0, half-open.

    `difficult` objects (of COCO: crowds) count neither when found nor when missed. upright: False where the
    annotation counts the pixels as they are stored, before the file's EXIF orientation turns them.
    """

    id: str
    file: Path
    width: int
    height: int
    objects: tuple[VocObject, ...]
    upright: bool = True


@dataclass(frozen=True)
class DetectionSet:
    """A named set: "VOC2007/test", "val2017". notes: lines on what reading it assumed or left out."""

    name: str
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()
