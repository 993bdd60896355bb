"""A page of test pictures with what is there and what the detector says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sempairs import keyed, pages
from sempairs.detection.data import open_picture
from sempairs.detection.records import DetectionSet
from sempairs.detection.scoring import Scores
from sempairs.files import atomic_write
from sempairs.metrics import Detections

SHOWN_SCORE = 0.5
_LONG_SIDE = 480


@dataclass(frozen=True)
class DetectionPage:
    """All that the page shows. metrics, classes: names with values as text. shown: pictures with boxes."""

    heading: str
    run: str
    count: int
    metrics: tuple[tuple[str, str], ...]
    classes: tuple[tuple[str, str], ...]
    shown: tuple[dict[str, Any], ...]


def gather(
    one: DetectionSet,
    found: Detections,
    classes: Sequence[str],
    scores: Scores,
    *,
    heading: str,
    run: str,
    count: int,
    seed: int,
) -> DetectionPage:
    """Collect numbers and `count` pictures of a set, chosen by key, with true and found boxes."""
    order = np.argsort(keyed.text_key(seed, "detection pictures", [p.id for p in one.pictures]))
    return DetectionPage(
        heading,
        run,
        len(one.pictures),
        tuple((name, f"{100 * value:.1f}") for name, value in scores.metrics.items()),
        tuple(
            (name, "no object" if value is None else f"{100 * value:.1f}")
            for name, value in scores.per_class.items()
        ),
        tuple(_drawn(one, int(row), found, classes) for row in order[:count]),
    )


def render(gathered: DetectionPage) -> str:
    """The page as HTML."""
    context = {"page": gathered, "least": SHOWN_SCORE}
    return pages.render("sempairs.detection", "detection.html", context)


def write_page(
    path: Path,
    one: DetectionSet,
    found: Detections,
    classes: Sequence[str],
    scores: Scores,
    *,
    heading: str,
    run: str,
    count: int,
    seed: int,
) -> None:
    """Write the page of what `gather` collects from the same arguments."""
    page = render(gather(one, found, classes, scores, heading=heading, run=run, count=count, seed=seed))
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _drawn(one: DetectionSet, row: int, found: Detections, classes: Sequence[str]) -> dict[str, Any]:
    picture = one.pictures[row]
    scale = _LONG_SIDE / max(picture.width, picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = open_picture(picture).resize(size, Image.Resampling.BICUBIC)
    boxes = [
        _box(thing.box, scale, size, "true", thing.name + (" (difficult)" if thing.difficult else ""))
        for thing in picture.objects
    ]
    rows = np.flatnonzero((found.image == row) & (found.score >= SHOWN_SCORE))
    boxes += [
        _box(tuple(found.box[i]), scale, size, "found", f"{classes[found.label[i]]} {found.score[i]:.2f}")
        for i in rows
    ]
    source = pages.picture_uri(small, quality=85)
    return {"id": picture.id, "width": size[0], "height": size[1], "source": source, "boxes": boxes}


def _box(box: tuple[float, ...], scale: float, size: tuple[int, int], kind: str, text: str) -> dict[str, Any]:
    x0, y0, x1, y1 = (round(side * scale, 1) for side in box)
    # The true name stands above its box, the detector's below: neither hides the other.
    at = y0 - 5 if kind == "true" else y1 + 15
    at = min(max(at, 16), size[1] - 6)
    # In the right half of the picture a name ends where its box does, so that it is not cut off.
    right = x0 + x1 > size[0]
    place = {"x": x0, "y": y0, "w": round(x1 - x0, 1), "h": round(y1 - y0, 1)}
    return {
        **place, "kind": kind, "text": text, "tx": min(x1, size[0]) - 2 if right else max(x0, 0) + 2,
        "ty": round(at, 1), "anchor": "end" if right else "start",
    }  # fmt: skip
