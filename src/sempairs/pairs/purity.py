"""What labels say of pairs that no label made, and what mined pairs were mined with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sempairs.pairs.select import AUGMENTED, CORRUPTED
from sempairs.pairs.table import PairSet

COLUMNS = ("category", "concept")


def purity(pairs: PairSet) -> dict[str, dict[str, float]]:
    """By column: the `share` of the mined or listed pairs with one value, among the `n` where both are known.

    Columns without any such pair are left out; so are relations that a label makes, and pairs of an image
    with itself or made false on purpose.
    """
    config = pairs.config
    if config.arm != "semantic" or config.by_columns:
        return {}
    anchor, partner = pairs.anchor, pairs.partner
    made = np.array([name not in (AUGMENTED, CORRUPTED) for name in pairs.relation], dtype=bool)
    found = {}
    for column in COLUMNS:
        labels = pairs.index.labels(column)
        both = made & (partner >= 0) & labels.known[anchor] & labels.known[partner]
        if both.any():
            same = labels.codes[anchor[both]] == labels.codes[partner[both]]
            found[column] = {"share": float(same.mean()), "n": int(both.sum())}
    return found


def mining_rows(mining: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What mined pairs were mined with, as rows of a name and a text."""
    if mining is None:
        return []
    rows = [
        ("mined with", f"encoder {_short(mining.get('encoder'))}, embeddings {_short(mining['embeddings'])}")
    ]
    if mining["label_used"] is not None:
        rows.append(("label used in mining", str(mining["label_used"])))
    if mining["copies"]:
        rows.append(("copies left out", f"{mining['copies']:,} images"))
    rows.append(("cosine of nearest images", f"{mining['nearest_cosine']:.3f} (median)"))
    for search in mining["searches"]:
        settings = ", ".join(f"{name} {value:,}" for name, value in search["settings"].items())
        text = f"{search['index']} over {search['images']:,} images"
        text += f" ({settings})" if settings else ""
        exact = (
            "exact"
            if search["index"] == "exact"
            else f"{search['recall']:.3f} on {search['queries']:,} images"
        )
        rows += [("neighbour search", text), (f"recall@{search['k']} of the search", exact)]
    return rows


def _short(value: object) -> str:
    return str(value)[:16] if value else "unknown"
