"""From verdicts to decisions: the one policy of this project."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sempairs.curation.ledger import CODE, agreement_of
from sempairs.curation.store import ADJUDICATIONS

DECISIONS = ("accepted", "rejected", "open")
DECIDERS = ("persons", "adjudicated", "machine")
DECISION_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("anchor", "partner", "decision", "by")]
)


def decisions(table: pa.Table) -> pa.Table:
    """What holds for each pair that somebody or something judged: `DECISION_SCHEMA`, sorted by pair.

    table: standing verdicts, `VERDICT_SCHEMA`. The adjudication decides where there is one (the latest); else
    the majority of persons; else, where no person judged, the majority of models and rules, named `machine`.
    Unsure does not vote; a tie, and nothing but unsure, is open.
    """
    names = ("anchor", "partner", "verdict", "reviewer_kind", "queue", "at")
    votes: dict[tuple[str, str], list[int]] = {}  # yes less no of persons, how many; the same of machines
    ruled: dict[tuple[str, str], tuple[str, str]] = {}
    for anchor, partner, verdict, kind, queue, at in zip(
        *(table.column(name).to_pylist() for name in names), strict=True
    ):
        pair = anchor, partner
        if queue == ADJUDICATIONS:
            ruled[pair] = max(ruled.get(pair, ("", "")), (at, verdict))
            continue
        place = 0 if kind == "person" else 2
        count = votes.setdefault(pair, [0, 0, 0, 0])
        count[place] += (verdict == "yes") - (verdict == "no")
        count[place + 1] += 1
    rows = []
    for pair in sorted({*votes, *ruled}):
        persons, many, machines, _ = votes.get(pair, (0, 0, 0, 0))
        if pair in ruled:
            verdict = ruled[pair][1]
            lead, by = (verdict == "yes") - (verdict == "no"), "adjudicated"
        else:
            lead, by = (persons, "persons") if many else (machines, "machine")
        rows.append((*pair, "accepted" if lead > 0 else "rejected" if lead < 0 else "open", by))
    columns = zip(*rows, strict=True) if rows else [[]] * 4
    return pa.table([pa.array(list(c), pa.string()) for c in columns], schema=DECISION_SCHEMA)


def agreement(table: pa.Table) -> dict[str, object]:
    """Of persons' own verdicts in a table of standing ones, see `ledger.agreement_of`."""
    chosen = [
        (anchor, partner, verdict, reviewer)
        for anchor, partner, verdict, reviewer, kind, queue in zip(
            *(
                table.column(name).to_pylist()
                for name in ("anchor", "partner", "verdict", "reviewer", "reviewer_kind", "queue")
            ),
            strict=True,
        )
        if kind == "person" and queue != ADJUDICATIONS
    ]
    place = {pair: at for at, pair in enumerate(sorted({row[:2] for row in chosen}))}
    codes = {row[3]: np.zeros(len(place), dtype=np.int8) for row in chosen}
    for anchor, partner, verdict, reviewer in chosen:
        codes[reviewer][place[anchor, partner]] = CODE[verdict]
    return agreement_of(codes)
