"""Average precision of detections by Pascal VOC's rules.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.2, and the development
kit's `VOCevaldet.m`. Boxes are (xmin, ymin, xmax, ymax) from 0 with the end left out, so overlaps are those
of the kit, which counts inclusive pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Objects:
    """True objects of many images, one a row. image, label: (N,) numbers from 0; box: (N, 4); difficult: (N,)
    objects that count neither when found nor when missed."""

    image: Int
    label: Int
    box: Float
    difficult: Bool


@dataclass(frozen=True)
class Detections:
    """What a detector says, one box a row: image, label, box as in `Objects`; score: (N,), high if sure."""

    image: Int
    label: Int
    box: Float
    score: Float


def box_iou(left: ArrayLike, right: ArrayLike) -> Float:
    """Intersection over union of boxes (N, 4) and (M, 4): (N, M). Empty boxes overlap nothing."""
    a, b = (np.asarray(side, dtype=np.float64).reshape(-1, 4) for side in (left, right))
    start = np.maximum(a[:, None, :2], b[None, :, :2])
    end = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.clip(end - start, 0, None).prod(axis=2)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) for boxes in (a, b))
    union = area_a[:, None] + area_b[None, :] - inside
    overlap: Float = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    return overlap


def voc_average_precision(
    truth: Objects, found: Detections, *, classes: int, threshold: float = 0.5, eleven_point: bool = True
) -> Float:
    """AP of each class, (classes,); NaN for a class of which no object counts.

    A detection takes the true object of its image and class that it overlaps most. It is right if the overlap
    is at least `threshold` and no surer detection has taken that object; a second one is wrong. If the object
    is difficult the detection does not count at all. Among equal scores the order of rows decides.

    eleven_point: VOC 2007's mean over recall 0, .1, ..., 1 of the best precision at that recall or above
    (recall compared in whole numbers); otherwise the area under that curve (VOC 2010 on).
    """
    return np.array([_one_class(truth, found, k, threshold, eleven_point) for k in range(classes)])


def voc_map(per_class: ArrayLike) -> float:
    """Mean over the classes that have objects. Raises: ValueError if none has."""
    values = np.asarray(per_class, dtype=np.float64)
    if not np.isfinite(values).any():
        raise ValueError("no class has an object that counts")
    return float(np.nanmean(values))


def _one_class(truth: Objects, found: Detections, label: int, threshold: float, eleven_point: bool) -> float:
    own = np.flatnonzero(truth.label == label)
    positives = int((~truth.difficult[own]).sum())
    if positives == 0:
        return float("nan")
    rows = np.flatnonzero(found.label == label)
    rows = rows[np.argsort(-found.score[rows], kind="stable")]
    right, counted = _match(truth, own, found, rows, threshold)
    hits, wrong = np.cumsum(right[counted]), np.cumsum(~right[counted])
    precision = hits / np.maximum(hits + wrong, 1)
    if eleven_point:
        # hits / positives >= k / 10 without rounding: 3 of 10 objects are a recall of .3.
        at_least = [precision[10 * hits >= k * positives] for k in range(11)]
        return float(sum(p.max() if len(p) else 0.0 for p in at_least) / 11)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(hits, prepend=0) / positives
    return float((envelope * steps).sum())


def _match(truth: Objects, own: Int, found: Detections, rows: Int, threshold: float) -> tuple[Bool, Bool]:
    """Whether each of `rows`, surest first, is right, and whether it counts."""
    by_image = {int(image): own[truth.image[own] == image] for image in np.unique(truth.image[own])}
    taken = np.zeros(len(truth.label), dtype=bool)
    right, counted = np.zeros(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        there = by_image.get(int(found.image[row]))
        if there is None:
            continue
        overlap = box_iou(found.box[row], truth.box[there])[0]
        best = int(overlap.argmax())
        if overlap[best] < threshold:
            continue
        object_ = there[best]
        if truth.difficult[object_]:
            counted[i] = False
        elif not taken[object_]:
            taken[object_] = right[i] = True
    return right, counted
