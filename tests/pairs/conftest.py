from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sempairs.catalog import Catalog

Make = Callable[..., Catalog]


def _make(ids: str | list[str], **columns: list[Any]) -> Catalog:
    """A catalogue of the given ids (a string is split at blanks); every file differs unless it is given."""
    names = ids.split() if isinstance(ids, str) else ids
    n = len(names)
    base = {
        "image_id": names,
        "file_hash": [f"file {name}" for name in names],
        "uri": names,
        "width": [8] * n,
        "height": [8] * n,
        "source": ["folder:here"] * n,
    }
    return Catalog.from_columns({**base, **columns})


@pytest.fixture(scope="session")
def make() -> Make:
    return _make


@pytest.fixture(scope="session")
def drawings() -> Catalog:
    """36 images: 12 concepts in 6 leaf categories under 2 top ones, each drawn in the domains a, b and c."""
    concepts = [f"c{i:02d}" for i in range(12) for _ in range(3)]
    return _make(
        [f"{concept}/{domain}" for concept, domain in zip(concepts, "abc" * 12, strict=True)],
        concept=concepts,
        domain=list("abc" * 12),
        category=[f"top{i % 2}/leaf{i % 6}" for i in range(12) for _ in range(3)],
        split=["train"] * 36,
    )
