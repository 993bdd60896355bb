"""Which images there are and what they mean."""

from sempairs.catalog.table import SCHEMA, SPLITS, Catalog

__all__ = ["SCHEMA", "SPLITS", "Catalog"]
