"""File names as printable text."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempairs.catalog.names import category_path, class_name, escape_name, printable, unescape_name

file_names = st.binary(min_size=1, max_size=20).map(os.fsdecode)


@given(file_names)
def test_escaping_is_reversible_and_printable(name: str) -> None:
    escaped = escape_name(name)
    assert unescape_name(escaped) == name
    escaped.encode()
    assert not set(escaped) & {"\n", "\r", "\t", "\x1b", "\x00", "\u202e", "\u2028", "\x85"}
    assert printable(escaped) == escaped


@given(file_names, file_names)
def test_escaping_is_one_to_one(first: str, second: str) -> None:
    assert (escape_name(first) == escape_name(second)) == (first == second)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("cat 1.png", "cat 1.png"),
        ("Käse 🧀.png", "Käse 🧀.png"),
        ("a\nb", r"a\u000ab"),
        ("a\\nb", r"a\\nb"),
        ("\x1b[31mred", r"\u001b[31mred"),
        ("\udcff", r"\xff"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
    ],
)
def test_examples(name: str, escaped: str) -> None:
    assert escape_name(name) == escaped


def test_category_paths() -> None:
    assert category_path("animal", "cat") == "animal/cat"
    assert category_path("/animal//cat/") == "animal/cat"
    assert category_path(" animal ", ".", "") == "animal"
    assert category_path() is None
    assert category_path("/", " ") is None
    assert category_path("a\nb") == r"a\u000ab"


def test_class_names_are_one_segment() -> None:
    assert class_name("T-shirt/top") == "T-shirt-top"
    assert class_name("a / b") == "a-b"
