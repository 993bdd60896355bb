"""Checks made from the registry of relations."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sempairs.pairs.config import RELATIONS
from sempairs.testing import check_relation, made_up_catalog


@pytest.mark.parametrize("name", RELATIONS.names())
def test_every_relation_keeps_the_contract(name, tmp_path, groups_of_five):
    catalog, settings = made_up_catalog(), {}
    if name == "listed":
        ids = catalog.column("image_id")[catalog.column("split") == "train"]
        settings = {"file": str(tmp_path / "list.parquet")}
        pq.write_table(pa.table({"anchor": ids[::2], "partner": ids[1::2]}), tmp_path / "list.parquet")
    elif name == "neighbour":
        catalog, settings["embeddings"] = groups_of_five
    check_relation(name, catalog, **settings)
