"""The manifest hash of a selection without its table, for millions of pairs: `PairSet.manifest_hash` in less
memory. The rows are sorted as numbers, and only some ten thousand are texts at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sempairs.pairs.index import ImageIndex, Int, small_int
from sempairs.pairs.select import AUGMENTED, Selection
from sempairs.pairs.table import PairSet, redrawn_header

_PIECE = 1 << 14
# Letters that stand for themselves in JSON and come after the quotation mark that ends a text.
_ODD = r"[^#-\[\]-~]"


def manifest_hash(selection: Selection, arm: str) -> str:
    """The manifest hash of one arm of a selection."""
    config, index = selection.config, selection.index
    ids = Ids(index)
    if arm == "semantic" and config.mode == "redrawn":
        if selection.edges is not None or not config.by_columns:
            return PairSet.of(selection, arm).manifest_hash
        rule = config.rule(index)
        header: Mapping[str, Any] = redrawn_header(config, selection.mining)
        names = Names(selection.relations)
        anchor, partner = selection.anchor, selection.partner
        if not (partner < 0).any() and not (selection.relation == len(names) - 1).any():
            low, high = np.minimum(anchor, partner), np.maximum(anchor, partner)
            return coded_hash(header, (low, ids), (high, ids), (selection.relation, names))
        block = rule.block
        blocks = np.broadcast_to(np.int64(-1), len(anchor)) if block is None else block.codes[anchor]
        return coded_hash(
            header, (anchor, ids), (partner, ids), (selection.relation, names),
            (rule.meaning.codes[anchor], Names(rule.meaning.names)),
            (blocks, Names(block.names if block else ())),
        )  # fmt: skip
    relation, names = selection.relation, Names(selection.relations)
    anchor, partner = selection.anchor, selection.partner
    if arm != "semantic":
        anchor = partner = selection.shown(arm) if arm == "image_matched" else anchor
        relation, names = np.broadcast_to(np.int64(0), len(anchor)), Names((AUGMENTED,))
    low, high = np.minimum(anchor, partner), np.maximum(anchor, partner)
    return coded_hash({"pairs": 1}, (low, ids), (high, ids), (relation, names))


class Names:
    """Texts by number, as JSON; -1 is null."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._json = [*map(json.dumps, texts), "null"]
        order = sorted(range(len(self._json)), key=self._json.__getitem__)
        self._rank = np.empty(len(order), dtype=small_int(len(order)))
        self._rank[order] = np.arange(len(order))

    def __len__(self) -> int:
        return len(self._json) - 1

    def rank(self, codes: Int) -> Int:
        """The places of the JSON texts in their order."""
        return self._rank[codes]

    def json(self, codes: Int) -> list[str]:
        return [self._json[code] for code in codes]


class Ids:
    """The ids of an index's items, as `Names` has texts."""

    def __init__(self, index: ImageIndex) -> None:
        self._index = index
        odd = (pc.any(pc.match_substring_regex(piece, _ODD)).as_py() for piece in index.id_pieces())
        self._rank: Int | None = None
        if any(odd):
            # Otherwise items, sorted by id, are sorted by the JSON of their ids as well.
            texts = [pa.array(map(json.dumps, piece.to_pylist())) for piece in index.id_pieces()]
            order = pc.sort_indices(pa.chunked_array(texts)).to_numpy()
            self._rank = np.empty(len(index) + 1, dtype=small_int(len(index)))
            self._rank[order] = np.arange(len(index))
            self._rank[-1] = len(index)

    def rank(self, codes: Int) -> Int:
        if self._rank is not None:
            return self._rank[codes]
        return codes if codes.min(initial=0) >= 0 else np.where(codes < 0, len(self._index), codes)

    def json(self, codes: Int) -> list[str]:
        known = codes >= 0
        texts = iter(text for piece in self._index.id_pieces(codes[known]) for text in piece.to_pylist())
        return [json.dumps(next(texts)) if there else "null" for there in known]


def coded_hash(header: Mapping[str, Any], *columns: tuple[Int, Names | Ids]) -> str:
    """`manifest.rows_hash` of rows given as columns of numbers and what they stand for."""
    # The JSON of a text is never the start of another's, so rows sort as their columns do one after another.
    ranks = [texts.rank(codes) for codes, texts in columns]
    first = ranks[0]
    ordered = (first[1:] > first[:-1]).all() or (len(columns) == 1 and (first[1:] >= first[:-1]).all())
    varied = [rank for rank in ranks if len(rank) and rank.min() != rank.max()]
    order: Int | None = None if ordered or not varied else np.lexsort(varied[::-1])
    del ranks, varied, first
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for start in range(0, len(columns[0][0]), _PIECE):
        part: Any = slice(start, start + _PIECE) if order is None else order[start : start + _PIECE]
        cells = [texts.json(codes[part]) for codes, texts in columns]
        digest.update("".join(f"\n[{', '.join(row)}]" for row in zip(*cells, strict=True)).encode())
    return digest.hexdigest()
