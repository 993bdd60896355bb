"""Columns of other people's lists and tables: what they are called, and what labels of all types mean."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from sempairs.catalog.columns import Labels, as_text, known_columns, on_columns, written_labels

WANTED = ("path", "image_id", "category", "licence", "split")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["path", "category", "license"], {"path": "path", "category": "category", "license": "licence"}),
        (
            ["File_Name", "Class Name", "SPLIT"],
            {"File_Name": "path", "Class Name": "category", "SPLIT": "split"},
        ),
        (["filename", "label", "text"], {"filename": "path", "label": "category"}),
        (["image", "label"], {"image": "path", "label": "category"}),
        # What a column is called exactly goes before what it is usually called.
        (["label", "category", "image", "path"], {"category": "category", "path": "path"}),
        (["licence", "license"], {"licence": "licence"}),
        # Names tell more than numbers.
        (["label", "class_name"], {"class_name": "category"}),
        # Beside an id, `image` may be a text on it, and the id is the path.
        (["image_id", "image"], {"image_id": "image_id"}),
        (["image_id", "file_name"], {"image_id": "image_id", "file_name": "path"}),
        ([], {}),
    ],
)
def test_what_columns_are_taken_for(names: list[str], found: dict[str, str]) -> None:
    assert known_columns(names, WANTED) == found


def test_only_columns_of_another_name_are_noted() -> None:
    assert on_columns({"path": "path", "license": "licence"}) == ["columns taken: license for licence"]
    assert on_columns({"path": "path"}) == []


@pytest.mark.parametrize(
    ("value", "category"),
    [
        ("cat", "cat"),
        ("animal/cat", "animal/cat"),
        (3, "3"),
        (3.0, "3"),
        (Decimal("3"), "3"),
        (0.5, "0.5"),
        (math.nan, None),
        (None, None),
        (True, "True"),
        (b"cat", "cat"),
        (["cat"], "cat"),
        ([], None),
        ("['cat']", "cat"),
        ("[misc]", "[misc]"),
    ],
)
def test_one_label(value: Any, category: str | None) -> None:
    labels = Labels("label")
    assert labels.category(value) == category
    assert labels.notes() == []


@pytest.mark.parametrize("value", [[0, 1], "[0, 1]", "['a', 'b']", "[0 1]", {"a": 1}, b"\xff"])
def test_what_is_no_one_label_is_counted(value: Any) -> None:
    labels = Labels("label")
    assert labels.category(value) is None
    assert labels.category(value) is None
    assert len(labels.notes()) == 1
    assert "column label: 2 images have" in labels.notes()[0]


@pytest.mark.parametrize(
    ("value", "category"),
    [
        (0, "cat"),
        (1.0, "T-shirt-top"),
        ("1", "T-shirt-top"),
        ([1], "T-shirt-top"),
        ("cat", "cat"),
        (-1, None),
        (math.nan, None),
    ],
)
def test_numbers_of_named_classes(value: Any, category: str | None) -> None:
    labels = Labels("label", ["cat", "T-shirt/top"])
    assert labels.category(value) == category
    assert labels.notes() == []


@pytest.mark.parametrize("value", [2, -2, 0.5, "dog", True])
def test_what_no_class_has_is_counted(value: Any) -> None:
    labels = Labels("label", ["cat", "dot"])
    assert labels.category(value) is None
    assert "column label: 1 images have" in labels.notes()[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["0.0", "1.0", None], ["0", "1", None]),
        (["0.0", "nan"], ["0", None]),
        (["NaN", None], [None, None]),
        (["7", "12"], ["7", "12"]),
        # Texts are left alone: nan may be a class of theirs.
        (["cat", "nan"], ["cat", "nan"]),
        (["0.5", "1.0"], ["0.5", "1.0"]),
    ],
)
def test_numbers_that_went_through_floats(written: list[str | None], meant: list[str | None]) -> None:
    assert written_labels(written) == meant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (2.0, "2"),
        (math.nan, None),
        (b"MIT", "MIT"),
        ("  ", None),
        (["MIT"], "MIT"),
        ([], None),
        ("e\u0301", "é"),
    ],
)
def test_values_as_text(value: Any, text: str | None) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize("value", [["MIT", "ISC"], {"a": 1}, b"\xff"])
def test_what_is_no_text(value: Any) -> None:
    with pytest.raises(ValueError, match=r"lists or structures|decode"):
        as_text(value)
