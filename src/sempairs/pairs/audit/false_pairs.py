"""How many pairs are false, from a random sample that was reviewed, with an exact interval.

Only verdicts on the pairs of `audit_sample` count, wherever they were given: pairs that were reviewed because
they looked doubtful would tell of doubtful pairs. A sample reviewed in part counts as far as it was reviewed
without a gap, for what lies behind a gap may have been chosen. Persons, models and rules are kept apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from sempairs.metrics.binomial import clopper_pearson
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.sample import audit_sample
from sempairs.pairs.verdicts import KINDS

ADJUDICATED = "conflicts"  # the queue whose verdicts settle what persons disagree on
CONFIDENCE = 0.95


@dataclass(frozen=True)
class FalseRate:
    """reviewed: pairs of the sample's reviewed beginning; false and unsure of them. rate, low, high: of the
    false among those that are sure. strict_…: the same if every unsure pair is false. beyond: reviewed pairs
    of the sample that lie behind a gap and are not counted. None where there is nothing to divide by."""

    reviewed: int
    false: int
    unsure: int
    rate: float | None
    low: float | None
    high: float | None
    strict_rate: float | None
    strict_low: float | None
    strict_high: float | None
    beyond: int
    confidence: float


@dataclass(frozen=True)
class FalsePairs:
    """sample_size: pairs of the sample. by: what each kind of reviewer found, those with verdicts only.
    elsewhere: verdicts on pairs outside the sample, and unknown: on pairs the set does not have."""

    sample_size: int
    by: dict[str, FalseRate]
    elsewhere: int
    unknown: int


def false_pairs(subject: Subject, verdicts: pa.Table | None, size: int) -> FalsePairs:
    """verdicts: of `VERDICT_SCHEMA`, or None; size: pairs of the sample."""
    sample = [subject.key(int(row)) for row in audit_sample(subject.pairs, size)]
    rows = verdicts.to_pylist() if verdicts is not None else []
    wanted, every = set(sample), {subject.key(int(row)) for row in subject.distinct}
    keys = [(row["anchor"], row["partner"]) for row in rows]
    by = {}
    for kind in KINDS:
        standing = standing_verdicts(row for row in rows if row["reviewer_kind"] == kind)
        if any(key in wanted for key in standing):
            by[kind] = _rate(sample, standing)
    return FalsePairs(
        len(sample), by,
        elsewhere=sum(key in every and key not in wanted for key in keys),
        unknown=sum(key not in every for key in keys),
    )  # fmt: skip


def standing_verdicts(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """What stands about each pair by its canonical ids, of reviewers of one kind: the latest adjudication,
    else the majority, where unsure does not vote; a tie, or nobody sure, is unsure."""
    votes: dict[tuple[str, str], list[str]] = defaultdict(list)
    settled: dict[tuple[str, str], tuple[str, str]] = {}
    for row in rows:
        key = row["anchor"], row["partner"]
        if row["queue"] == ADJUDICATED:
            settled[key] = max(settled.get(key, ("", "")), (row["at"], row["verdict"]))
        else:
            votes[key].append(row["verdict"])
    found = {}
    for key, given in votes.items():
        lead = given.count("yes") - given.count("no")
        found[key] = "yes" if lead > 0 else "no" if lead < 0 else "unsure"
    return found | {key: verdict for key, (_, verdict) in settled.items()}


def _rate(sample: list[tuple[str, str]], standing: Mapping[tuple[str, str], str]) -> FalseRate:
    reviewed = next((n for n, key in enumerate(sample) if key not in standing), len(sample))
    given = [standing[key] for key in sample[:reviewed]]
    false, unsure = given.count("no"), given.count("unsure")
    sure = clopper_pearson(false, reviewed - unsure, confidence=CONFIDENCE)
    strict = clopper_pearson(false + unsure, reviewed, confidence=CONFIDENCE)
    beyond = sum(key in standing for key in sample[reviewed:])
    return FalseRate(reviewed, false, unsure, *sure[2:], *strict[2:], beyond, CONFIDENCE)
