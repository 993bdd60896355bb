"""VOC's average precision: by hand, against another implementation, and in the limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou as torchvision_iou

from sempairs.metrics import Detections, Objects, box_iou, voc_average_precision, voc_map


def objects(rows):
    """From (image, label, box, difficult)."""
    return Objects(
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.int64),
        np.array([r[2] for r in rows], dtype=np.float64).reshape(-1, 4),
        np.array([r[3] for r in rows], dtype=bool),
    )


def detections(rows):
    """From (image, label, box, score)."""
    return Detections(
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.int64),
        np.array([r[2] for r in rows], dtype=np.float64).reshape(-1, 4),
        np.array([r[3] for r in rows], dtype=np.float64),
    )


BOX, FAR = (0, 0, 10, 10), (50, 50, 60, 60)


def test_by_hand():
    """Two images, three objects that count and a difficult one, six boxes:

    score .9 right (1/1), .8 on the difficult one: does not count, .7 a second box on the first object: wrong
    (1/2), .6 right (2/3), .5 in an image without objects: wrong (2/4), .4 overlaps half: right (3/5).
    Recall reaches 1/3, 2/3 and 3/3 with precision 1, 2/3 and 3/5. At recall 0 to .3 the best is 1 (4 points),
    at .4 to .6 it is 2/3 (3 points), at .7 to 1 it is 3/5 (4 points).
    """
    truth = objects([(0, 0, BOX, False), (0, 0, FAR, True), (1, 0, BOX, False), (1, 0, FAR, False)])
    found = detections(
        [
            (1, 0, (50, 50, 60, 55), 0.4),  # overlaps exactly .5
            (2, 0, BOX, 0.5),
            (1, 0, BOX, 0.6),
            (0, 0, (0, 0, 10, 9), 0.7),
            (0, 0, FAR, 0.8),
            (0, 0, BOX, 0.9),
        ]
    )
    assert voc_average_precision(truth, found, classes=1)[0] == pytest.approx(
        (4 + 3 * 2 / 3 + 4 * 3 / 5) / 11
    )
    area = voc_average_precision(truth, found, classes=1, eleven_point=False)[0]
    assert area == pytest.approx(1 / 3 * (1 + 2 / 3 + 3 / 5))
    # Above .5 the last one is wrong and its object stays missed.
    strict = voc_average_precision(truth, found, classes=1, threshold=0.55)[0]
    assert strict == pytest.approx((4 + 3 * 2 / 3) / 11)


def test_three_of_ten_is_a_recall_of_three_tenths():
    """.1 + .1 + .1 is more than .3 in floating point; the fourth point must still be reached."""
    truth = objects([(i, 0, BOX, False) for i in range(10)])
    found = detections([(i, 0, BOX, 1 - i / 10) for i in range(3)])
    assert voc_average_precision(truth, found, classes=1)[0] == pytest.approx(4 / 11)


def test_limits():
    truth = objects([(0, 0, BOX, False), (0, 1, FAR, True)])
    nothing = detections([])
    values = voc_average_precision(truth, nothing, classes=3)
    assert values[0] == 0
    assert np.isnan(values[1:]).all()  # only difficult, and none at all
    assert voc_map(values) == 0
    perfect = detections([(0, 0, BOX, 0.3)])
    assert voc_map(voc_average_precision(truth, perfect, classes=3)) == 1
    with pytest.raises(ValueError, match="no class"):
        voc_map(voc_average_precision(objects([]), perfect, classes=3))
    # The class and the image must be the object's own.
    for row in ((0, 1, BOX, 0.3), (1, 0, BOX, 0.3)):
        assert voc_average_precision(truth, detections([row]), classes=3)[0] == 0


_CORNER = st.integers(0, 12)
_BOX = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h), _CORNER, _CORNER, st.integers(1, 9), st.integers(1, 9)
)
_TRUE = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), _BOX, st.booleans()), max_size=8)
_FOUND = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), _BOX, st.integers(1, 40).map(lambda s: s / 41)),
    max_size=14,
)


@given(left=st.lists(_BOX, max_size=5), right=st.lists(_BOX, max_size=5))
def test_overlap_is_torchvisions(left, right):
    a, b = (torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) for boxes in (left, right))
    np.testing.assert_allclose(box_iou(left, right), torchvision_iou(a, b).numpy(), atol=1e-12)


@given(true=_TRUE, found=_FOUND, threshold=st.sampled_from([0.5, 0.75]))
def test_another_implementation_agrees(true, found, threshold):
    """The kit's inclusive pixels, dictionaries and one loop."""
    values = voc_average_precision(objects(true), detections(found), classes=2, threshold=threshold)
    for label in (0, 1):
        expected = _by_the_kit(true, found, label, threshold)
        assert values[label] == pytest.approx(expected, nan_ok=True)


def _by_the_kit(true, found, label, threshold):
    there = {}
    for image, kind, (x0, y0, x1, y1), difficult in true:
        if kind == label:
            there.setdefault(image, []).append([(x0 + 1, y0 + 1, x1, y1), difficult, False])
    positives = sum(not entry[1] for entries in there.values() for entry in entries)
    if not positives:
        return float("nan")
    rows = sorted((row for row in found if row[1] == label), key=lambda row: -row[3])
    curve, hits, wrong = [], 0, 0
    for image, _, (x0, y0, x1, y1), _ in rows:
        best, taken = -1.0, None
        for entry in there.get(image, []):
            a = entry[0]
            w, h = min(a[2], x1) - max(a[0], x0 + 1) + 1, min(a[3], y1) - max(a[1], y0 + 1) + 1
            if w > 0 and h > 0:
                areas = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (x1 - x0) * (y1 - y0)
                if w * h / (areas - w * h) > best:
                    best, taken = w * h / (areas - w * h), entry
        if taken is not None and best >= threshold:
            if taken[1]:
                continue
            hits, wrong = (hits, wrong + 1) if taken[2] else (hits + 1, wrong)
            taken[2] = True
        else:
            wrong += 1
        curve.append((hits / positives, hits / (hits + wrong)))
    return sum(max((p for r, p in curve if r + 1e-9 >= k / 10), default=0.0) for k in range(11)) / 11
