"""The screening of emoji-pairs: evidence on made features, the table, and what the builder does with it."""

from __future__ import annotations

import numpy as np
import pytest

from emoji_pairs import screen, screening
from sempairs.catalog import Catalog
from sempairs.embeddings import Embeddings

SETS = {"noto": "Google", "twemoji": "Twitter", "emojione": "EmojiOne"}


def made(concepts: int, wrong: tuple[str, int, int] | None = None) -> tuple[Catalog, Embeddings]:
    """A drawing a set and concept; features: the concept's own direction, the set's style, little noise.
    wrong: (set, concept it is filed under, concept it shows)."""
    draws = np.random.default_rng(0)
    meaning, style = np.eye(concepts, 32), {name: draws.normal(size=32) for name in SETS}
    rows, features = [], []
    for name, designer in SETS.items():
        for concept in range(concepts):
            shown = wrong[2] if wrong and (name, concept) == wrong[:2] else concept
            features.append(meaning[shown] + style[name] + 0.05 * draws.normal(size=32))
            rows.append((f"{name}/{concept}", name, designer, f"c{concept:02d}"))
    ids = [row[0] for row in rows]
    catalog = Catalog.from_columns(
        {
            "image_id": ids, "file_hash": ids, "uri": ids, "width": [1] * len(ids), "height": [1] * len(ids),
            "source": ["x"] * len(ids), "set": [row[1] for row in rows], "domain": [row[2] for row in rows],
            "concept": [row[3] for row in rows], "split_group": [row[3] for row in rows],
            "category": ["g/s"] * len(ids), "name": [row[3] for row in rows],
            "join": ["name" if row[1] == "emojione" else "codepoint" for row in rows],
        }
    )  # fmt: skip
    return catalog, Embeddings(tuple(ids), tuple(ids), np.array(features, dtype=np.float32), {})


def test_a_drawing_under_another_name_has_a_large_margin() -> None:
    catalog, embeddings = made(12, wrong=("emojione", 3, 7))
    found = screen.evidence(catalog, embeddings)
    rows = np.arange(len(catalog))
    margin = found.margin(rows, found.own)
    ids = list(catalog.column("image_id"))
    assert ids[int(np.argmax(margin))] == "emojione/3"
    assert margin[ids.index("emojione/3")] > 0.5
    assert (np.delete(margin, [i for i, name in enumerate(ids) if name.endswith("/3")]) < 0).all()
    # Held against what it shows, it is in no doubt; a designer's own drawings never vouch for it.
    other = np.array([found.concepts.index("c07")])
    assert found.margin(np.array([ids.index("emojione/3")]), other)[0] < 0


def test_what_is_judged_holds_known_joins_and_one_order() -> None:
    catalog, embeddings = made(12, wrong=("emojione", 3, 7))
    found = screen.evidence(catalog, embeddings)
    real = [(list(catalog.column("image_id")).index("noto/5"), found.concepts.index("c06"))]
    items, stage = screen.items(catalog, found, real)
    kinds = [item.what for item in items]
    assert kinds.count("candidate") == 1 and kinds.count("real false") == 1
    assert kinds.count("planted false") == stage["planted"][0] == stage["planted"][1] == 24
    assert stage["joined_by_name"] == 12 and stage["looked_at"] == 1
    again, _ = screen.items(catalog, found, real)
    assert again == items
    assert kinds != sorted(kinds)  # they lie among each other
    row = items[kinds.index("candidate")].row(catalog, found)
    assert row[:5] == ["emojione", "c03", "c03", "c03", "candidate"] and row[-1] == ""


def test_the_table_says_what_the_card_says() -> None:
    found = screening.read()
    assert found.rejected == {
        ("streamline-emojis", "1f5ef"),
        ("emojione-monotone", "1f400"),
        ("noto-v1", "1f4d1"),
    }
    assert set(found.other.values()) == {"revolver"} and len(found.other) == 5
    judged = sum(n for (what, _), n in found.verdicts.items() if what == "candidate")
    assert judged == screening.STAGE["looked_at"] == screening.facts(found)["judged"]
    text = screening.told(found)
    assert "rejected 55 of the\n   55 and kept 45 of the 45" in text
    assert "No person has judged" in text


def test_every_verdict_is_one_of_three() -> None:
    verdicts = {verdict for _, verdict in screening.read().verdicts}
    assert verdicts <= {"yes", "no", "unsure"}
    assert screening.read().of("candidate", "maybe") == 0
    with pytest.raises(KeyError):
        screening.STAGE["none"]
