"""Average precision of detections by Pascal VOC's rules.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.2, and the development
kit's `VOCevaldet.m`. Boxes are (xmin, ymin, xmax, ymax) from 0 with the end left out, so overlaps are those
of the kit, which counts inclusive pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Compute the average precision of each class as Pascal VOC does.

    A detection takes the true object of its image and class that it overlaps most. It is right if the overlap
    is at least `threshold` and no surer detection has taken that object; a second one is wrong. If the object
    is difficult the detection does not count at all. Among equal scores the order of rows decides.

    Args:
        truth: The true objects.
        found: The detections.
        classes: How many classes there are.
        threshold: The least overlap, intersection over union.
        eleven_point: VOC 2007's mean over recall 0, .1, ..., 1 of the best precision at that recall or above
            (recall compared in whole numbers); otherwise the area under that curve (VOC 2010 on).

    Returns:
        AP of each class, (classes,); NaN for a class of which no object counts.
    """
    values: Float = voc_average_precisions(
        truth, found, classes=classes, thresholds=[threshold], eleven_point=eleven_point
    )[0]
    return values


def voc_average_precisions(
    truth: Objects,
    found: Detections,
    *,
    classes: int,
    thresholds: Sequence[float],
    eleven_point: bool = True,
) -> Float:
    """Compute `voc_average_precision` at several thresholds; overlaps are found once.

    Args:
        truth: The true objects.
        found: The detections.
        classes: How many classes there are.
        thresholds: The least overlaps.
        eleven_point: As there.

    Returns:
        AP, (len(thresholds), classes).
    """
    taken, overlap = _most_overlapped(truth, found, classes)
    out = np.full((len(thresholds), classes), np.nan)
    for label in range(classes):
        positives = int((~truth.difficult[truth.label == label]).sum())
        rows = np.flatnonzero(found.label == label)
        rows = rows[np.argsort(-found.score[rows], kind="stable")]
        for i, threshold in enumerate(thresholds if positives else ()):
            right = _right(truth, taken[rows], overlap[rows] >= threshold)
            out[i, label] = _precision(right, positives, eleven_point)
    return out


def voc_map(per_class: ArrayLike) -> float:
    """Mean over the classes that have objects. Raises: ValueError if none has."""
    values = np.asarray(per_class, dtype=np.float64)
    if not np.isfinite(values).any():
        raise ValueError("no class has an object that counts")
    return float(np.nanmean(values))


def _most_overlapped(truth: Objects, found: Detections, classes: int) -> tuple[Int, Float]:
    """For each detection the row of the true object of its image and class that it overlaps most, and by how
    much; -1 where the image has none."""
    taken = np.full(len(found.label), -1, dtype=np.int64)
    overlap = np.full(len(found.label), -1.0)
    there = _by_key(truth.image * classes + truth.label)
    for key, rows in _by_key(found.image * classes + found.label).items():
        own = there.get(key)
        if own is not None:
            shares = box_iou(found.box[rows], truth.box[own])
            best = shares.argmax(axis=1)
            taken[rows], overlap[rows] = own[best], shares[np.arange(len(rows)), best]
    return taken, overlap


def _by_key(keys: Int) -> dict[int, Int]:
    """The rows of each key, ascending."""
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(values) else {}


def _right(truth: Objects, taken: Int, enough: Bool) -> Bool:
    """Of the detections that count, surest first, which are right. taken: of all of them, as above."""
    difficult = enough & truth.difficult[taken] if len(truth.difficult) else np.zeros(len(taken), dtype=bool)
    hits = np.flatnonzero(enough & ~difficult)
    right = np.zeros(len(taken), dtype=bool)
    right[hits[np.unique(taken[hits], return_index=True)[1]]] = True
    return np.asarray(right[~difficult])


def _precision(right: Bool, positives: int, eleven_point: bool) -> float:
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    if eleven_point:
        # hits / positives >= k / 10 without rounding: 3 of 10 objects are a recall of .3.
        at_least = [precision[10 * hits >= k * positives] for k in range(11)]
        return float(sum(p.max() if len(p) else 0.0 for p in at_least) / 11)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.diff(hits, prepend=0)).sum() / positives)
