"""The page: everything shown is text, nothing comes from outside, and its size is bounded."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sempairs.catalog import Catalog
from sempairs.embeddings import Embeddings
from sempairs.pairs.audit import Audit, audit
from sempairs.pairs.audit.page import TEXT, cut, gather, percent
from sempairs.pairs.audit.page import render as rendered
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.sample import audit_sample, pair_key
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import VERDICT_SCHEMA

HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><style>*{display:none}",
    "{{ 7 * 7 }}{% for x in y %}", "'; onload='x", "\u202etxt.exe", "<!--", "a\x1b[31mred",
)  # fmt: skip


def render(found: Audit) -> str:
    return rendered(gather(found))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    return reader


def _hostile(make: Any) -> PairSet:
    n = len(HOSTILE)
    ids = [f"{name} {i}" for name in HOSTILE for i in range(4)]
    every = [name for name in HOSTILE for _ in range(4)]
    catalog = make(
        ids, category=every, concept=[f"c{name}" for name in every], domain=[*HOSTILE[:4]] * n, licence=every,
        attribution=every, name=[f"{name}{i % 3}" for i, name in enumerate(every)],
        split=["train"] * 4 * n, split_group=every,
    )  # fmt: skip
    return PairSet.build(catalog, PairsConfig(relation="same_category", corrupted=0.4))


def _embedded(pairs: PairSet) -> Embeddings:
    ids = tuple(pairs.catalog.column("image_id"))
    vectors = np.random.default_rng(0).normal(size=(len(ids), 6)).astype(np.float32)
    return Embeddings(ids, tuple(pairs.catalog.column("file_hash")), vectors, {"encoder": HOSTILE[0]})


def test_hostile_names_stay_text(make: Any) -> None:
    pairs = _hostile(make)
    found = audit(pairs, embeddings=_embedded(pairs), pixels=False, against=[(HOSTILE[1], pairs.catalog)])
    page = render(found)
    reader = _read(page)
    assert "script" not in reader.tags and reader.tags.count("style") == 1
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in reader.text and "{{ 7 * 7 }}" in reader.text
    assert "\u202e" not in page and "\x1b" not in page


def test_nothing_is_loaded_from_elsewhere(make: Any) -> None:
    pairs = _hostile(make)
    page = render(audit(pairs, embeddings=_embedded(pairs), pixels=False))
    links = [value for name, value in _read(page).attributes if name in ("src", "href", "srcset", "action")]
    assert all(link.startswith("data:image/webp;base64,") for link in links)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_the_page_stays_small_whatever_is_in_the_set(tmp_path: Path) -> None:
    """Noise is what compresses worst; many classes and long names make long tables."""
    n, draw = 1200, np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(draw.integers(0, 256, (300, 300, 4), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    long = "long " * 300
    catalog = Catalog.from_columns(
        {
            "image_id": [f"i{i}" for i in range(n)], "file_hash": [f"{i}" for i in range(n)],
            "uri": ["ab"[i % 2] + ".png" for i in range(n)], "width": [300] * n, "height": [300] * n,
            "source": [f"folder:{tmp_path}"] * n, "category": [f"{i // 2} {long}" for i in range(n)],
        }
    )  # fmt: skip
    pairs = PairSet.build(catalog, PairsConfig(relation="same_category"))
    page = render(audit(pairs, embeddings=_embedded(pairs), pixels=False))
    assert page.count("data:image/webp") > 80
    assert len(page.encode()) < 4_000_000
    assert "further" in page


def _verdicts(pairs: PairSet, answers: list[str]) -> pa.Table:
    keys = pair_key(pairs)
    rows = [
        {
            "anchor": keys[row][0], "partner": keys[row][1], "verdict": answer, "reviewer": "ann",
            "reviewer_kind": "person", "reasons": [], "note": "", "queue": "sample", "at": "",
        }
        for row, answer in zip(audit_sample(pairs, len(answers)), answers, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, VERDICT_SCHEMA)


def test_the_page_says_what_was_reviewed_and_what_was_not(drawings: Catalog) -> None:
    pairs = PairSet.build(drawings, PairsConfig(relation="cross_domain"))
    none = _read(render(audit(pairs, pixels=False))).text
    assert "How many pairs are false is not known" in none and "Nobody has judged" in none
    assert "doubt comes from labels alone" in none and "No evaluation set was given" in none
    partly = audit(pairs, verdicts=_verdicts(pairs, ["yes", "no", "unsure"]), pixels=False, sample=8)
    text = " ".join(_read(render(partly)).text.split())
    assert "50.0% of pairs are false, 1.3% to 98.7% with 95% confidence: 1 of 2 pairs" in text
    assert "unsure of 1 pair. If all of them are false: 66.7%" in text
    assert "The sample has 8 pairs, of which the first 3 were reviewed." in text


@pytest.mark.parametrize(
    ("share", "text"), [(None, "–"), (0, "0.0%"), (0.1234, "12.3%"), (0.0004, "0.04%"), (1, "100.0%")]
)
def test_shares_are_said_in_percent(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_texts_are_one_short_line() -> None:
    assert cut("a\n b") == "a b"
    assert len(cut("x" * 500)) == TEXT and re.search("…$", cut("x" * 500))
