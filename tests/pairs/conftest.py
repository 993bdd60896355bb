from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sempairs.catalog import Catalog
from sempairs.embeddings import Embeddings

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


ENCODER = {"encoder": "e" * 64, "data": "d" * 64, "source": "folder:/somewhere", "precision": "float32"}


def _embedded(catalog: Catalog, vectors: Any, path: Path) -> str:
    """The path of a table of embeddings: row i of `vectors` is that of row i of the catalogue."""
    ids, files = (tuple(catalog.column(name)) for name in ("image_id", "file_hash"))
    Embeddings(ids, files, np.asarray(vectors, dtype=np.float32), ENCODER).save(path)
    return str(path)


@pytest.fixture(scope="session")
def embedded() -> Callable[[Catalog, Any, Path], str]:
    return _embedded


@pytest.fixture
def groups_of_five(tmp_path: Path) -> tuple[Catalog, str]:
    """60 images in 12 groups of five that lie close together, and the table of their embeddings; a concept a
    group, two groups a category."""
    rng = np.random.default_rng(1)
    centres = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    catalog = _make(
        [f"{i:02d}" for i in range(60)],
        split=["train"] * 60,
        category=[f"k{i // 10}" for i in range(60)],
        concept=[f"c{i // 5:02d}" for i in range(60)],
    )
    vectors = centres[np.arange(60) // 5] + 0.1 * rng.normal(size=(60, 12))
    return catalog, _embedded(catalog, vectors, tmp_path / "e.parquet")
