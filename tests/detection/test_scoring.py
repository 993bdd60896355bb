"""COCO's numbers from faster-coco-eval against a plain implementation; the limits; what is written."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog.voc import VocObject
from sempairs.detection.records import DetectionSet, Picture
from sempairs.detection.scoring import THRESHOLDS, need_coco_eval, score, write_detections
from sempairs.errors import UserError
from sempairs.metrics import Detections, box_iou

CLASSES = ("cat", "dog")
BOX = (10.0, 10.0, 60.0, 60.0)


def a_set(*pictures):
    """From lists of (class, box, difficult)."""
    return DetectionSet(
        "VOC2007/test",
        tuple(
            Picture(f"p{i}", Path("none.jpg"), 100, 100, tuple(VocObject(n, b, d) for n, b, d in things))
            for i, things in enumerate(pictures)
        ),
    )


def boxes(*rows):
    """From (image, label, box, score)."""
    return Detections(
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.int64),
        np.array([r[2] for r in rows], dtype=np.float64).reshape(-1, 4),
        np.array([r[3] for r in rows], dtype=np.float64),
    )


def test_all_right_is_one_and_nothing_is_zero():
    one = a_set([("cat", BOX, False)], [("dog", BOX, False), ("cat", BOX, True)])
    perfect = score(one, boxes((0, 0, BOX, 0.9), (1, 1, BOX, 0.8)), CLASSES)
    assert perfect.metrics == pytest.approx(dict.fromkeys(perfect.metrics, 1.0))
    assert list(perfect.metrics) == ["AP", "AP50", "AP75", "voc07-mAP", "voc07-AP", "voc07-AP75"]
    assert perfect.per_class == {"cat": 1.0, "dog": 1.0}
    nothing = score(one, boxes(), CLASSES)
    assert set(nothing.metrics.values()) == {0.0}


def test_a_difficult_object_neither_helps_nor_harms():
    one = a_set([("cat", BOX, False), ("cat", (70, 70, 90, 90), True)])
    without = score(one, boxes((0, 0, BOX, 0.5)), CLASSES)
    with_it = score(one, boxes((0, 0, BOX, 0.5), (0, 0, (70, 70, 90, 90), 0.9)), CLASSES)
    assert without.metrics == with_it.metrics
    assert without.per_class == {"cat": 1.0, "dog": None}


def test_by_hand_at_three_quarters():
    """An overlap of .8 counts at .5 to .8, seven of ten thresholds."""
    one = a_set([("cat", (0, 0, 50, 50), False)])
    found = boxes((0, 0, (0, 0, 50, 40), 0.9))
    scores = score(one, found, CLASSES).metrics
    assert scores["AP50"] == scores["AP75"] == pytest.approx(1)
    assert scores["AP"] == pytest.approx(0.7)
    assert scores["voc07-AP"] == pytest.approx(0.7)


def test_a_set_in_which_nothing_counts_is_refused():
    for one in (a_set([]), a_set([("cat", BOX, True)])):
        with pytest.raises(UserError, match="must hold objects that are not difficult"):
            score(one, boxes((0, 0, BOX, 0.5)), CLASSES)


def test_without_the_extra_the_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UserError, match=r"pip install 'sempairs\[detect\]'"):
        need_coco_eval()


_CORNER, _SIDE = st.integers(0, 30), st.integers(4, 40)
_BOX = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), _CORNER, _CORNER, _SIDE, _SIDE)
_TRUE = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(CLASSES), _BOX), min_size=1, max_size=8)
_FOUND = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), _BOX), max_size=12)


@settings(max_examples=60)
@given(true=_TRUE, found=_FOUND, near=st.lists(st.tuples(st.integers(0, 7), st.integers(-3, 3)), max_size=8))
def test_coco_numbers_are_those_of_a_plain_implementation(true, found, near):
    # Some boxes near the true ones, or almost nothing would ever be right.
    found = [*found, *((*_moved(true[i], by),) for i, by in near if i < len(true))]
    one = a_set(*([(name, box, False) for image, name, box in true if image == i] for i in range(3)))
    # All scores differ: among equal ones implementations may choose.
    rows = [(*row, (i * 7 % 23 + 1) / 24 - i * 1e-4) for i, row in enumerate(found)]
    scores = score(one, boxes(*rows), CLASSES).metrics
    table = np.array([[_plain(true, rows, k, t) for t in THRESHOLDS] for k in (0, 1)])
    expected = np.nanmean(table, axis=0)
    assert scores["AP"] == pytest.approx(expected.mean(), abs=1e-6)
    assert scores["AP50"] == pytest.approx(expected[0], abs=1e-6)
    assert scores["AP75"] == pytest.approx(expected[5], abs=1e-6)


def _moved(row, by):
    image, name, (x0, y0, x1, y1) = row
    return image, CLASSES.index(name), (max(0, x0 + by), y0, max(0, x0 + by) + x1 - x0, y1)


def _plain(true, rows, label, threshold):
    """COCO: a box takes the free object it overlaps most; precision made monotone, read at 101 recalls."""
    own = [(image, box) for image, name, box in true if CLASSES.index(name) == label]
    if not own:
        return np.nan
    free, right = set(range(len(own))), []
    for image, _, box, _ in sorted((r for r in rows if r[1] == label), key=lambda r: -r[3]):
        overlaps = {i: box_iou([box], [own[i][1]])[0, 0] for i in sorted(free) if own[i][0] == image}
        best = max(overlaps, key=lambda i: overlaps[i], default=None)
        hit = best is not None and overlaps[best] >= min(threshold, 1 - 1e-10)
        right.append(hit)
        if hit:
            free.remove(best)
    hits = np.cumsum(right)
    recall, precision = hits / len(own), hits / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return np.mean([precision[p] if p < len(precision) else 0.0 for p in places])


def test_boxes_are_written_by_image_and_score(tmp_path):
    found = boxes((1, 0, BOX, 0.2), (0, 1, BOX, 0.1), (1, 1, (1, 2, 3, 4.5), 0.7))
    write_detections(tmp_path / "a.parquet", a_set([], []), found, CLASSES)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [(row["image_id"], row["label"], row["score"]) for row in rows] == [
        ("p0", "dog", 0.1), ("p1", "dog", 0.7), ("p1", "cat", 0.2),
    ]  # fmt: skip
    assert [rows[1][side] for side in ("xmin", "ymin", "xmax", "ymax")] == [1, 2, 3, 4.5]
    write_detections(tmp_path / "b.parquet", a_set([]), boxes(), CLASSES)
    assert pq.read_table(tmp_path / "b.parquet").num_rows == 0
