"""Rules that make an audit a gate: `near-duplicates>0.01`, `shared>0`, `false-pair-high>0.05`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sempairs.errors import UserError, unknown

if TYPE_CHECKING:
    from sempairs.pairs.audit.run import Audit

Measure = Callable[["Audit"], float | None]


def _false(name: str) -> Measure:
    def measured(audit: Audit) -> float | None:
        persons = audit.false_pairs.by.get("person")
        return None if persons is None else getattr(persons, name)

    return measured


#: What `--fail-on` may name: a description, and how the number is found in an audit.
MEASURES: dict[str, tuple[str, Measure]] = {
    "pairs": ("distinct pairs", lambda a: len(a.doubts.rows)),
    "classes": ("classes the pairs count towards", lambda a: a.balance.number),
    "evenness": ("of the classes, 1 for equally many pairs each", lambda a: a.balance.evenness),
    "exact-duplicates": ("pairs whose two images are one picture", lambda a: a.exact.pairs),
    "near-duplicates": ("share of near-duplicate pairs", lambda a: a.near.share if a.near else None),
    "near-copies": ("images with a near-copy in the set", lambda a: a.copies.images if a.copies else None),
    "unreadable": ("images that cannot be decoded", lambda a: a.near.unreadable if a.near else None),
    "shared": ("images in two splits or evaluation sets", lambda a: a.shared.images),
    "doubtful": ("share of pairs with doubt from 0.5", lambda a: a.doubts.count / len(a.doubts.rows)),
    "false-pair-rate": ("share of false pairs that persons found in the sample", _false("rate")),
    "false-pair-high": ("upper end of its exact 95% interval", _false("high")),
    "false-pair-strict": ("the share, every unsure pair counted as false", _false("strict_rate")),
    "reviewed": (
        "pairs of the sample that persons reviewed",
        lambda a: p.reviewed if (p := a.false_pairs.by.get("person")) else 0,
    ),
    "licence-missing": ("images without a licence", lambda a: a.licences.missing),
}
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Rule:
    """`name` of `MEASURES`, compared by `sign` with `bound`; text: as it was written."""

    name: str
    sign: str
    bound: float
    text: str

    def broken(self, audit: Audit) -> str | None:
        """One line if the rule is broken, or its number was not measured; None if it is kept."""
        value = MEASURES[self.name][1](audit)
        if value is None:
            return f"failed: {self.text}: {self.name} was not measured"
        if _COMPARE[self.sign](value, self.bound):
            return f"failed: {self.text}: {self.name} is {value:.6g}"
        return None


def parse_rule(text: str) -> Rule:
    """Raises: UserError if it is no rule, or names no measure."""
    found = re.fullmatch(r"\s*([\w-]+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    try:
        bound = float(found[3]) if found else float("nan")
    except ValueError:
        bound = float("nan")
    if found and found[1] not in MEASURES:
        raise unknown("--fail-on", found[1], MEASURES)
    if not found or bound != bound:
        raise UserError(
            "--fail-on", "must be NAME>NUMBER (or >=, <, <=)", text, f"names: {', '.join(MEASURES)}"
        )
    return Rule(found[1], found[2], bound, "".join(text.split()))


def broken_rules(audit: Audit, rules: Sequence[Rule]) -> list[str]:
    """One line for each rule that is not kept."""
    return [line for rule in rules if (line := rule.broken(audit)) is not None]
