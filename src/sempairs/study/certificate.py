"""The certificate: what two arms of a contrast had in common, and what differed.

For every method and seed the provenance of the two runs is compared field by field: anchors, classes, pair
count, steps, views, optimiser, schedule, augmentation, initial weights, versions, hardware, threads, and how
the two encoders were scored. What the contrast declares may differ, and with it what follows by measurement
(the partner decides which pairs exist and which images are seen); anything else withholds the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sempairs.training.provenance import measured_names

_PARTNER = ("pairs.manifest_hash", "pairs.images")
# Measured facts that a declared field of the recipe brings with it. That the *anchors* differ never follows:
# a contrast for which they may has to say so.
FOLLOWS: dict[str, tuple[str, ...]] = {
    "pairs.arm": _PARTNER,
    # Arms derive from one semantic set; these make another.
    "pairs.relation": (*_PARTNER, "pairs.semantic_hash"),
    "pairs.mixed": (*_PARTNER, "pairs.semantic_hash", "pairs.semantic_share"),
    # By whose features partners are chosen is extra data: `pairs.mining` has to be declared beside it.
    "pairs.choices": (*_PARTNER, "pairs.semantic_hash"),
    "pairs.corrupted": (*_PARTNER, "pairs.semantic_hash"),
    # Where the duration is in steps; in epochs the steps differ too, and have to be declared.
    "sampler": ("schedule.steps_per_epoch",),
    "sampler.name": ("schedule.steps_per_epoch",),
    # A second head has weights of its own.
    "objective": ("initial_weights.method",),
    "objective.heads": ("initial_weights.method",),
    "optimiser.lr": ("optimiser.peak_lr",),
    "optimiser.base_lr": ("optimiser.peak_lr",),
}
# Facts of a run that stand beside its recipe; a contrast may declare these too.
MEASURED = measured_names()

Differences = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class PairCheck:
    """Two runs of one contrast, method and seed, compared.

    matched: fields that are equal. allowed, undeclared: field -> (treatment's, control's value).
    """

    contrast: str
    method: str
    seed: int
    matched: tuple[str, ...]
    allowed: Differences
    undeclared: Differences


def check_pair(
    treatment: Mapping[str, Any],
    control: Mapping[str, Any],
    may_differ: Sequence[str],
    *,
    contrast: str,
    method: str,
    seed: int,
) -> PairCheck:
    """Compares what two runs are made of: `Provenance.comparable`, and how they were scored.

    A field that only one of them has counts as different.
    """
    ours, theirs = flatten(treatment), flatten(control)
    differences = compare_records(ours, theirs)
    permitted = (*may_differ, *(fact for field in may_differ for fact in FOLLOWS.get(field, ())))
    return PairCheck(
        contrast,
        method,
        seed,
        tuple(sorted(f for f in ours if f in theirs and f not in differences)),
        {f: v for f, v in differences.items() if declared(f, permitted)},
        {f: v for f, v in differences.items() if not declared(f, permitted)},
    )


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys; lists and everything else are values."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= flatten(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = inner
    return flat


def compare_records(left: Mapping[str, Any], right: Mapping[str, Any]) -> Differences:
    """Fields of two flat records whose values differ, sorted; an absent one reads as "absent"."""
    missing = "absent"
    return {
        field: (left.get(field, missing), right.get(field, missing))
        for field in sorted(left.keys() | right.keys())
        if field not in left or field not in right or left[field] != right[field]
    }


def declared(field: str, fields: Iterable[str]) -> bool:
    """Whether `field` is one of `fields` or lies inside one of them."""
    return any(field == known or field.startswith(f"{known}.") for known in fields)


def shown(value: Any) -> str:
    """A value short enough for a line."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
