"""Which pictures a run is about: hashes, and the refusal to score what was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.images import decode, pixel_hash
from sempairs.catalog.near_copies import near_copies, sketch
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.detection.records import DetectionSet, Picture
from sempairs.errors import UserError
from sempairs.evaluation.leakage import OTHER_SOURCE
from sempairs.evaluation.target import Target
from sempairs.files import sha256_bytes, sha256_file

# Pictures that are taken as they are turned need no word; hashes from before there were others stay.
_WAY = {True: (), False: ("as stored",)}


def data_hash(one: DetectionSet) -> str:
    """SHA-256 over the pictures' files, sizes and objects, in order; independent of where they lie."""
    lines = [
        json.dumps(
            [p.id, p.width, p.height, [asdict(thing) for thing in p.objects], *_WAY[p.upright]],
            sort_keys=True,
        )
        for p in one.pictures
    ]
    hashes = _file_hashes(one.pictures)
    return sha256_bytes("\n".join(f"{h} {line}" for h, line in zip(hashes, lines, strict=True)).encode())


def refuse_seen(one: DetectionSet, train: Sequence[DetectionSet], target: Target) -> None:
    """Raises: UserError if a picture of `one` is in a training set, or was seen in pretraining.

    Pretraining's record has hashes of files and pixels, and sketches: more than a hundredth of near-copies
    are refused, too.
    """
    hashes = _file_hashes(one.pictures)
    trained = {h for other in train for h in _file_hashes(other.pictures)}
    _refuse(one, [h in trained for h in hashes], "the detector is trained on")
    exposure = target.exposure
    if exposure is None:
        return
    was_seen = [h in exposure.file_hashes for h in hashes]
    if exposure.pixel_hashes:

        def seen(picture: Picture) -> bool:
            # Turned, as the record has it, also where the annotation counts the stored pixels.
            return pixel_hash(decode(picture.file.read_bytes())) in exposure.pixel_hashes

        pixels = in_threads(seen, one.pictures, worker_count(None))
        was_seen = [a or b for a, b in zip(was_seen, pixels, strict=True)]
    _refuse(one, was_seen, "pretraining has seen")
    if exposure.sketches is not None:

        def drawn(picture: Picture) -> NDArray[np.uint8]:
            return sketch(decode(picture.file.read_bytes()))

        small = np.stack(list(in_threads(drawn, one.pictures, worker_count(None))))
        copied = set(near_copies(small, exposure.sketches).left.tolist())
        if len(copied) > OTHER_SOURCE * len(one.pictures):
            nearly = [row in copied for row in range(len(one.pictures))]
            _refuse(one, nearly, "is nearly one that pretraining has seen")


def _refuse(one: DetectionSet, bad: Sequence[bool], why: str) -> None:
    names = [picture.id for picture, is_bad in zip(one.pictures, bad, strict=True) if is_bad]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        rule = f"must hold no picture that {why}, but has {', '.join(names[:3])}{more}"
        raise UserError(f"image set {one.name}", rule, remedy="score other pictures, or train on other ones")


def _file_hashes(pictures: Sequence[Picture]) -> list[str]:
    def hashed(picture: Picture) -> str:
        try:
            return _hash_once(picture.file)
        except OSError as error:
            raise UserError(str(picture.file), f"cannot be read ({error.strerror})") from None

    return list(in_threads(hashed, pictures, worker_count(None)))


_KNOWN: dict[tuple[Path, int, int], str] = {}


def _hash_once(file: Path) -> str:
    """A file's hash is asked for up to three times in a run; while size and time stand it is read once."""
    state = file.stat()
    key = (file, state.st_size, state.st_mtime_ns)
    if key not in _KNOWN:
        _KNOWN[key] = sha256_file(file)
    return _KNOWN[key]
