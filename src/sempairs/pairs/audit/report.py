"""An audit written down: for programs, for reviewers, and as a page."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from sempairs.files import atomic_write, write_json, writing_in
from sempairs.pairs.audit.page import gather, render
from sempairs.pairs.audit.run import Audit


def write_audit(audit: Audit, folder: str | Path) -> None:
    """Write audit.json, doubt.parquet and index.html into `folder`, each whole or not at all; what an earlier
    audit left there is replaced."""
    place = Path(folder)
    page = render(gather(audit))
    place.mkdir(parents=True, exist_ok=True)
    with writing_in(place):
        with atomic_write(place / "doubt.parquet") as temporary:
            pq.write_table(audit.doubt_table(), temporary, compression="zstd")
        with atomic_write(place / "index.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        write_json(place / "audit.json", audit.as_json())
