"""What is known about how good the pairs are: persons' verdicts, machines' verdicts, the audit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sempairs.config import validate
from sempairs.curation.apply import VERDICTS
from sempairs.curation.decisions import DECISIONS, agreement, decisions
from sempairs.curation.lineage import FORMAT, RECORD
from sempairs.curation.store import ADJUDICATOR, LOG, standing_verdicts
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.pairs.sample import pair_key
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import KINDS, VERDICT_SCHEMA, read_verdicts
from sempairs.release.facts import KnownTruth

AUDIT = "audit/audit.json"
AUDIT_FORMAT = "sempairs.audit/1"


def audit_of(folder: Path, manifest_hash: str) -> dict[str, Any] | None:
    """The parts of `audit/audit.json` that a release tells, None where there is no audit.

    Raises: UserError if it is of other pairs than those of `manifest_hash`, or no audit at all.
    """
    file = folder / AUDIT
    if not file.is_file():
        return None
    audit = read_json(file)
    if not isinstance(audit, dict) or audit.get("format") != AUDIT_FORMAT:
        raise UserError(str(file), "is not what `sempairs pairs audit` writes", remedy="audit again")
    if audit.get("manifest_hash") != manifest_hash:
        remedy = "audit again with `sempairs pairs audit`, or remove it"
        raise UserError(str(file), "is the audit of other pairs", remedy=remedy)
    return {name: audit[name] for name in ("false_pairs", "doubtful") if audit.get(name) is not None}


def curation_of(folder: Path, pairs: PairSet) -> dict[str, Any] | None:
    """Statistics of the verdicts about `pairs`, persons' apart from machines'; None where there are none.

    From `folder`'s event log and, where `verdicts apply` made the folder, from what was applied. Of persons:
    reviewers, pairs reviewed, accepted, rejected, open, and `agreement`. machines: the same counts by kind of
    reviewer, of pairs that no person judged, and `known`, how they did where the truth is known (if it was
    measured). applied: pairs before and after rejected ones left, or None.
    Raises: UserError if the record of `verdicts apply` is of other pairs.
    """
    applied, known = _applied(folder, pairs)
    table = _verdicts(folder, pairs, applied is not None)
    if not table.num_rows:
        return None
    kind = np.array(table.column("reviewer_kind").to_pylist(), dtype=object)
    keys = _keys(table)
    judged = {key for key, name in zip(keys, kind, strict=True) if name == "person"}
    free = np.array([key not in judged for key in keys], dtype=bool)
    persons = table.filter(pa.array(kind == "person"))
    parts = {name: table.filter(pa.array((kind == name) & free)) for name in KINDS if name != "person"}
    return {
        **_counts(persons),
        "agreement": _without_names(agreement(persons)),
        "machines": {
            name: {**_counts(part), **({"known": known[name]} if name in known else {})}
            for name, part in parts.items()
            if part.num_rows
        },
        "applied": applied,
    }


def _applied(folder: Path, pairs: PairSet) -> tuple[dict[str, int] | None, dict[str, list[Any]]]:
    if not (folder / RECORD).is_file():
        return None, {}
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(str(folder / RECORD), "is not what `sempairs verdicts apply` writes")
    if record.get("manifest_hash") != pairs.manifest_hash:
        remedy = "apply the verdicts again"
        raise UserError(str(folder / RECORD), "is about other pairs than those beside it", remedy=remedy)
    where = f"{folder / RECORD}: known"
    known = {
        kind: [validate(KnownTruth, one, where=where).model_dump(mode="json") for one in measured]
        for kind, measured in record.get("known", {}).items()
    }
    counts = ("before", "kept", "rejected", "dropped_open")
    return {name: int(record["pairs"][name]) for name in counts}, known


def _verdicts(folder: Path, pairs: PairSet, applied: bool) -> pa.Table:
    """Standing verdicts: those that were applied, and those of the log about `pairs`, which are later."""
    known = set(pair_key(pairs)) if (folder / LOG).is_file() else set()
    table = standing_verdicts(folder) if known else VERDICT_SCHEMA.empty_table()
    table = table.filter(pa.array([key in known for key in _keys(table)], type=pa.bool_()))
    if not applied:
        return table
    earlier = read_verdicts(folder / VERDICTS)
    later = set(zip(_keys(table), table.column("reviewer").to_pylist(), strict=True))
    rows = zip(_keys(earlier), earlier.column("reviewer").to_pylist(), strict=True)
    stands = pa.array([row not in later for row in rows], type=pa.bool_())
    return pa.concat_tables([earlier.filter(stands), table])


def _keys(table: pa.Table) -> list[tuple[str, str]]:
    ids = (table.column(name).to_pylist() for name in ("anchor", "partner"))
    return list(zip(*ids, strict=True))


def _counts(table: pa.Table) -> dict[str, int]:
    decided = Counter(decisions(table).column("decision").to_pylist())
    reviewers = {name.removesuffix(ADJUDICATOR) for name in table.column("reviewer").to_pylist()}
    counts = {name: decided[name] for name in DECISIONS}
    return {"reviewers": len(reviewers), "reviewed": decided.total(), **counts}


def _without_names(found: dict[str, Any]) -> dict[str, Any]:
    """A release tells how many people judged and how far they agree, not who they are."""
    kept = ("pairs", "percent", "kappa")
    return {**found, "cohen": [{name: each[name] for name in kept} for each in found["cohen"]]}
