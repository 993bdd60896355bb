"""Verdicts flow back: a set of pairs without those that were rejected, and its baselines to match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sempairs import __version__
from sempairs.catalog.exposure import EXPOSURE, copy_record
from sempairs.curation.decisions import DECIDERS, DECISIONS, agreement, decisions
from sempairs.curation.known_pairs import Known, machines_on
from sempairs.curation.lineage import FORMAT, RECORD, sets_of
from sempairs.curation.store import standing_verdicts
from sempairs.curation.subject import Subject
from sempairs.errors import UserError
from sempairs.files import atomic_folder, sha256_file, write_json
from sempairs.pairs.index import Mask
from sempairs.pairs.inherited import of_folder
from sempairs.pairs.select import Selection, of_list
from sempairs.pairs.table import PairSet
from sempairs.pairs.verdicts import write_verdicts

VERDICTS = "verdicts.parquet"


@dataclass(frozen=True)
class Applied:
    """What became of the pairs. decisions: pairs by decision and by whom, `unjudged` among the open.
    outside: pairs with verdicts that are not in the set. known: see `known.machines_on`."""

    pairs: PairSet
    before: int
    rejected: int
    dropped_open: int
    decisions: dict[str, dict[str, int]]
    outside: int
    known: dict[str, list[dict[str, Any]]]


def apply_verdicts(
    folder: str | Path, out: str | Path, *, keep_open: bool = True, persons_only: bool = False,
    verdicts: pa.Table | None = None, known: Sequence[Known] = (),
) -> Applied:  # fmt: skip
    """Writes a new folder of pairs without the rejected ones, as `save_with_baselines` would.

    Relation, mode and configuration stay; the baselines are those of the curated set, so all arms have its
    number of pairs. Beside them lie `verdicts.parquet`, the standing verdicts that were applied, and
    `curation.json`: counts by decision, reviewer kind and decider, agreement, the sets it came from, and how
    models and rules did on pairs whose truth is known.

    keep_open: whether pairs nobody judged, and those left open, stay. persons_only: pass over what only
    models and rules decided. verdicts: instead of those in the log. known: see
    `known_pairs.read_known`. `out` is written whole or not at all.
    Raises: UserError if `folder` is a pool whose partners are drawn anew (it has no pairs to take out), a
    baseline or modified, no verdict is about it, no machine judged a known pair, or no pair would be left.
    """
    pairs = PairSet.open(folder)
    _check(pairs, folder)
    subject = Subject(pairs, folder)
    table = standing_verdicts(folder) if verdicts is None else verdicts
    number = subject.numbers(table.column("anchor").to_pylist(), table.column("partner").to_pylist())
    outside = len({_pair(table, row) for row in np.flatnonzero(number < 0).tolist()})
    table = table.filter(pa.array(number >= 0))
    if not table.num_rows:
        rule = "has no verdict about a pair of the set"
        raise UserError(str(folder), rule, remedy="judge some with `sempairs curate`, or `verdicts import`")
    machines = machines_on(list(known), table)
    if known and not machines:
        rule = "names no pair that a model or a rule judged"
        raise UserError("--known", rule, remedy="import their verdicts, or add the column verdict")
    decided = decisions(table)
    counts, stays = _fate(decided, subject, persons_only=persons_only, keep_open=keep_open)
    kept = np.ones(len(pairs), dtype=bool)
    kept[subject.row[~stays]] = False
    if not kept.any():
        raise UserError(str(folder), "would have no pair left", remedy="apply with --open keep")
    rejected = sum(counts["rejected"].values())
    applied: dict[str, Any] = {
        "format": FORMAT,
        "sempairs": __version__,
        "from": sets_of(folder, pairs),
        "pairs": {
            "before": len(pairs), "kept": int(kept.sum()), "rejected": rejected,
            "dropped_open": int(len(kept) - kept.sum()) - rejected, "verdicts_outside": outside,
        },
        "open": "keep" if keep_open else "drop",
        "persons_only": persons_only,
        "decisions": counts,
        "verdicts": {
            "rows": table.num_rows,
            "by_kind": dict(sorted(Counter(table.column("reviewer_kind").to_pylist()).items())),
            "reviewers": _reviewers(table),
        },
        "agreement": agreement(table),
        "known": machines,
    }  # fmt: skip
    selection = _selection(pairs, kept)
    facts = pairs.catalog_hash, pairs.catalog_images
    with atomic_folder(out) as temporary:
        curated = PairSet.of(selection, "semantic", *facts)
        curated.write(temporary)
        copy_record(of_folder(folder), temporary / EXPOSURE)
        if selection.draws is None:
            for arm in ("augmented", "image_matched"):
                (temporary / arm).mkdir()
                PairSet.of(selection, arm, *facts).write(temporary / arm)
        write_verdicts(temporary / VERDICTS, table)
        applied["verdicts"] |= {"file": VERDICTS, "sha256": sha256_file(temporary / VERDICTS)}
        write_json(temporary / RECORD, applied | {"manifest_hash": curated.manifest_hash})
    return Applied(curated, len(pairs), rejected, applied["pairs"]["dropped_open"], counts, outside, machines)


def _check(pairs: PairSet, folder: str | Path) -> None:
    config = pairs.config
    if config.arm != "semantic":
        raise UserError(str(folder), "must hold semantic pairs, not a baseline", config.arm)
    if config.mixed is not None or config.corrupted is not None:
        remedy = "apply to the set it was made of"
        raise UserError(str(folder), "has modified pairs, which are meant to be what they are", remedy=remedy)
    if pairs.table.column("partner").null_count:
        rule = "is a pool: partners are drawn anew every epoch, so there is no pair to take out"
        remedy = (
            "its verdicts tell the pool's false-pair rate; to curate, build it with --mode fixed, or draw "
            "anew from a curated list (pairs.relation=listed, pairs.mode=redrawn)"
        )
        raise UserError(str(folder), rule, remedy=remedy)


def _fate(
    decided: pa.Table, subject: Subject, *, persons_only: bool, keep_open: bool
) -> tuple[dict[str, dict[str, int]], Mask]:
    """How many pairs by decision and decider, and which pairs of the subject stay, (P,)."""
    counts = {name: dict.fromkeys(DECIDERS, 0) for name in DECISIONS}
    stays = np.full(len(subject), keep_open)
    number = subject.numbers(decided.column("anchor").to_pylist(), decided.column("partner").to_pylist())
    judged = 0
    rows = zip(number, decided.column("decision").to_pylist(), decided.column("by").to_pylist(), strict=True)
    for pair, decision, by in rows:
        if persons_only and by == "machine":
            continue
        counts[decision][by] += 1
        judged += 1
        if decision != "open":
            stays[pair] = decision == "accepted"
    counts["open"]["unjudged"] = len(subject) - judged
    return counts, stays


def _selection(pairs: PairSet, kept: Mask) -> Selection:
    """The kept rows as a selection again, the way `listed` folders are read."""
    config, index = pairs.config, pairs.index
    rows = np.flatnonzero(kept)
    anchor, partner = pairs.anchor[rows], pairs.partner[rows]
    order = np.lexsort((partner, anchor))
    names = tuple(sorted(set(pairs.relation)))
    codes = np.array([names.index(pairs.relation[row]) for row in rows[order]], dtype=np.int64)
    score = pairs.table.column("score").fill_null(float("nan")).to_numpy()[rows[order]]
    return of_list(
        index, config, config.rule(index), anchor[order], partner[order], score=score,
        relation=(codes, names),
    )  # fmt: skip


def _reviewers(table: pa.Table) -> dict[str, int]:
    names = zip(table.column("reviewer_kind").to_pylist(), table.column("reviewer").to_pylist(), strict=True)
    return dict(Counter(kind for kind, _ in sorted(set(names))))


def _pair(table: pa.Table, row: int) -> tuple[Any, Any]:
    return table.column("anchor")[row].as_py(), table.column("partner")[row].as_py()
