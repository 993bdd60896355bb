"""What a study folder amounts to, written down: results table, certificate and the page."""

from __future__ import annotations

from pathlib import Path

from sempairs.files import atomic_write, write_json
from sempairs.study.folder import write_results
from sempairs.study.gathered import Gathered, certificate_json, gather
from sempairs.study.page import render

REPORT = "report.html"


def write_report(study: Path) -> Gathered:
    """Write results.parquet, certificate.json and report.html from what is finished so far.

    Raises: UserError if the folder holds no plan.
    """
    gathered = gather(study)
    write_results(study, gathered.rows, gathered.plan)
    write_json(study / "certificate.json", certificate_json(gathered))
    page = render(gathered)
    with atomic_write(study / REPORT) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return gathered
