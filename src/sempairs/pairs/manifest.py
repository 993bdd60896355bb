"""Hashes that say whether two sets of pairs are the same, however they were ordered, stored or made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def pair_hash(anchor: Iterable[str], partner: Iterable[str], relation: Iterable[str]) -> str:
    """SHA-256 over the multiset of unordered pairs of ids, each with its relation, and nothing else."""
    return rows_hash({"pairs": 1}, pair_rows(anchor, partner, relation))


def pair_rows(
    anchor: Iterable[str], partner: Iterable[str], relation: Iterable[str]
) -> Iterator[list[str | None]]:
    """Each pair as a row in canonical order: the lesser id, the greater, the relation."""
    for one, other, name in zip(anchor, partner, relation, strict=True):
        yield [min(one, other), max(one, other), name]


def rows_hash(header: Mapping[str, Any], rows: Iterable[list[str | None]]) -> str:
    """SHA-256 over a header and rows of texts, in whatever order the rows come."""
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    # JSON keeps apart what a hostile id could otherwise run together.
    for line in sorted(json.dumps(row) for row in rows):
        digest.update(b"\n" + line.encode())
    return digest.hexdigest()
