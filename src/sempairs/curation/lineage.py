"""Where a curated set came from: the record beside it."""

from __future__ import annotations

from pathlib import Path

from sempairs.catalog.sources.release import ABOUT as RELEASE
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.pairs.table import PairSet

RECORD = "curation.json"
FORMAT = "sempairs.curation/1"


def refuse_release(folder: str | Path) -> None:
    """Raises: UserError for a release: what is judged is kept in its folder, and a release never changes."""
    if (Path(folder) / RELEASE).is_file():
        remedy = (
            f"judge a copy of its pairs: `sempairs pairs build release:{folder} --relation listed "
            f"--file {folder} --out DIR`"
        )
        raise UserError(str(folder), "is a release, which never changes", remedy=remedy)


def sets_of(folder: str | Path, pairs: PairSet) -> list[str]:
    """Manifest hashes whose verdicts may speak of this set: its own, then those it was curated from.

    Raises: UserError if the record is not what `verdicts apply` writes.
    """
    file = Path(folder) / RECORD
    if not file.is_file():
        return [pairs.manifest_hash]
    record = read_json(file)
    broken = UserError(str(file), "is not what `sempairs verdicts apply` writes")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise broken
    earlier = record.get("from")
    if not isinstance(earlier, list) or not all(isinstance(name, str) for name in earlier):
        raise broken
    return [pairs.manifest_hash, *earlier]
