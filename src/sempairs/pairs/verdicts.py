"""Verdicts about pairs as a table: what reviewers said, for audits, rebuilding and releases.

The event log of `sempairs.curation` is where they come from; nothing is stored beside a set of pairs itself.
One row is the standing verdict of one reviewer about one unordered pair.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sempairs.errors import UserError
from sempairs.files import atomic_write

VERDICTS = ("yes", "no", "unsure")
KINDS = ("person", "model", "rule")
REASONS = ("near-duplicate", "wrong-label", "offensive", "unclear")

VERDICT_SCHEMA = pa.schema(
    [
        pa.field("anchor", pa.string(), nullable=False),  # image ids in canonical order: anchor < partner
        pa.field("partner", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reviewer", pa.string(), nullable=False),
        pa.field("reviewer_kind", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("note", pa.string(), nullable=False),
        pa.field("queue", pa.string(), nullable=False),  # where the pair was met: sample, doubtful, ...
        pa.field("at", pa.string(), nullable=False),  # ISO 8601, UTC
    ]
)


def write_verdicts(path: str | Path, table: pa.Table) -> None:
    """Writes verdicts as Parquet, whole or not at all. Raises: UserError as `check_verdicts`."""
    check_verdicts(table, str(path))
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_verdicts(path: str | Path) -> pa.Table:
    """Raises: UserError if the file is missing, damaged, or no table of verdicts."""
    file = Path(path)
    if not file.is_file():
        raise UserError(str(file), "does not exist")
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(str(file), f"is no readable Parquet file ({error})") from None
    try:
        table = table.select(VERDICT_SCHEMA.names).cast(VERDICT_SCHEMA)
    except (KeyError, pa.ArrowException) as error:
        raise UserError(str(file), f"is no table of verdicts ({error})") from None
    check_verdicts(table, str(file))
    return table


def check_verdicts(table: pa.Table, where: str) -> None:
    """Raises: UserError naming the row if a value is not one of its column's, a pair is not in canonical
    order, or one reviewer has two verdicts about one pair."""
    if not table.schema.equals(VERDICT_SCHEMA):
        raise UserError(where, f"must have the columns {VERDICT_SCHEMA.names}", table.schema.names)
    seen = set()
    allowed = {"verdict": VERDICTS, "reviewer_kind": KINDS}
    for number, row in enumerate(table.to_pylist(), 1):
        for name, values in allowed.items():
            if row[name] not in values:
                raise UserError(
                    f"{where} row {number}: {name}", f"must be one of {', '.join(values)}", row[name]
                )
        if not row["anchor"] < row["partner"]:
            raise UserError(f"{where} row {number}", "must name the pair in canonical order", row["anchor"])
        key = row["anchor"], row["partner"], row["reviewer"]
        if key in seen:
            raise UserError(
                f"{where} row {number}", "is a second verdict of one reviewer about one pair", key
            )
        seen.add(key)
