"""How models and rules did on pairs whose truth is known, such as false pairs that were planted."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sempairs.curation.decisions import decisions
from sempairs.curation.exchange import rows_of
from sempairs.errors import UserError
from sempairs.pairs.verdicts import KINDS, VERDICTS

MACHINES = tuple(kind for kind in KINDS if kind != "person")
_WHAT = "pairs of known truth"


class Known(NamedTuple):
    """A pair by its canonical ids, whether it is true, what sort of pair it is, and what a machine said of it
    (kind and verdict), None where the log of verdicts tells."""

    pair: tuple[str, str]
    truth: bool
    what: str
    said: tuple[str, str] | None


def read_known(path: str | Path) -> list[Known]:
    """Reads Parquet, CSV or JSON lines with anchor, partner and truth (yes: same meaning, no).

    what: optional, the sort of pair. verdict: optional, what a machine (`reviewer_kind`, else a model) said,
    for pairs that are in no set; else its verdict in the log counts.
    Raises: UserError naming the row for a value that is none of its column's, or a pair that comes twice.
    """
    found: dict[tuple[tuple[str, str], str | None], Known] = {}
    for where, row in rows_of(Path(path), ("anchor", "partner", "truth")):
        ids = [row["anchor"], row["partner"]]
        if not all(isinstance(one, str) and one for one in ids) or ids[0] == ids[1]:
            raise UserError(f"{where} anchor and partner", "must be two image ids", ids)
        if row["truth"] not in ("yes", "no"):
            raise UserError(f"{where} truth", "must be yes or no", row["truth"])
        verdict, kind = row.get("verdict") or None, row.get("reviewer_kind") or "model"
        if verdict is not None and verdict not in VERDICTS:
            raise UserError(f"{where} verdict", f"must be one of {', '.join(VERDICTS)}", verdict)
        if kind not in MACHINES:
            raise UserError(f"{where} reviewer_kind", f"must be one of {', '.join(MACHINES)}", kind)
        pair = min(ids), max(ids)
        said = None if verdict is None else (kind, verdict)
        key = pair, None if said is None else kind
        if key in found:
            raise UserError(where, "names a pair for the second time", ids)
        found[key] = Known(pair, row["truth"] == "yes", " ".join(str(row.get("what") or _WHAT).split()), said)
    return list(found.values())


def machines_on(known: list[Known], table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """By kind of machine, and within it by sort of pair: false pairs and how many of them it rejected, true
    pairs and how many it did not. Pairs a kind did not judge are not counted for it.

    table: standing verdicts, `VERDICT_SCHEMA`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in MACHINES:
        decided = decisions(table.filter(pc.equal(table.column("reviewer_kind"), kind)))
        pairs = zip(*(decided.column(name).to_pylist() for name in ("anchor", "partner")), strict=True)
        rejected = dict(
            zip(pairs, (d == "rejected" for d in decided.column("decision").to_pylist()), strict=True)
        )
        counts: dict[str, dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(("false_pairs", "false_found", "true_pairs", "true_kept"), 0)
        )
        for one in known:
            if one.said is None:
                gone = rejected.get(one.pair)
            else:
                gone = one.said[1] == "no" if one.said[0] == kind else None
            if gone is not None:
                count = counts[one.what]
                count["true_pairs" if one.truth else "false_pairs"] += 1
                count["true_kept" if one.truth else "false_found"] += gone != one.truth
        if counts:
            found[kind] = [{"what": what, **count} for what, count in sorted(counts.items())]
    return found
