"""A comparison in words a sceptical reader can check: a claim only where the data carry one."""

from __future__ import annotations

from dataclasses import dataclass

from sempairs.study.statistics import (
    ALPHA,
    BCA_COVERAGE,
    Comparison,
    false_claims,
    group_coverage,
    seeds_needed,
    skewness,
    smallest_p,
)

EXPONENTIAL_SKEWNESS = 2.0


@dataclass(frozen=True)
class Verdict:
    """What is concluded. `kind`: gain, loss, too few seeds, no claim, withheld or no data.

    evidence: interval, seeds and p in words, with which `detail` begins where there are any.
    """

    kind: str
    headline: str
    detail: str
    caveats: tuple[str, ...] = ()
    evidence: str = ""

    @property
    def claims(self) -> bool:
        return self.kind in ("gain", "loss")

    @property
    def remark(self) -> str:
        """`detail` without the evidence, for where that stands beside it as numbers."""
        return self.detail.removeprefix(self.evidence).removeprefix(". ")


def judge(comparison: Comparison, *, treatment: str, control: str, equivalence: float) -> Verdict:
    """The verdict on differences treatment − control, in points.

    A gain (or loss) is claimed only if the paired t interval excludes 0 and the exact test gives p < .05.
    `equivalence`: half-width of the region of practical equivalence, in points.
    """
    c = comparison
    direction = "above" if c.mean > 0 else "below"
    size = f"{abs(c.mean):.1f} points"
    scored = f"{treatment} scored {size} {direction} {control}"
    if round(c.mean, 1) == 0:
        scored = f"{treatment} scored the same as {control} to a tenth of a point"
    evidence = f"{interval_text(c)}; n = {seeds_text(c.n)}; exact sign-flip p = {p_text(c.p)}"
    caveats = [coverage_text(c)] if c.bca else []
    if smallest_p(c.n) >= ALPHA:
        headline = (
            f"{scored}, but {seeds_text(c.n)} {'is' if c.n == 1 else 'are'} too few to claim a difference"
        )
        need = seeds_needed()
        detail = (
            f"{evidence}. With {seeds_text(c.n)} the smallest p the test can give is "
            f"2/2{_superscript(c.n)} = {p_text(smallest_p(c.n))}, so no result could reach p < {ALPHA}; "
            f"at least {need} seeds are needed. {_signs(c)}"
        )
        return Verdict("too few seeds", headline, detail.strip(), tuple(caveats), evidence)
    assert c.t is not None
    if c.t.excludes_zero() and c.p < ALPHA:
        kind = "gain" if c.mean > 0 else "loss"
        verb = "beats" if kind == "gain" else "falls behind"
        headline = f"{treatment} {verb} {control} by {size}"
        caveats += skew_texts(c)
        return Verdict(kind, headline, f"{evidence}. {_signs(c)}".strip(), tuple(caveats), evidence)
    headline = f"{scored}: no difference can be claimed"
    high, low = points(c.t.high), points(c.t.low)
    excluded = f"The data exclude (95%) a difference above {high} or below {low} points."
    if c.t.excludes_zero():
        excluded = f"The interval lies {direction} 0, but the exact test does not reach p < {ALPHA}."
    elif -equivalence < c.t.low and c.t.high < equivalence:
        excluded += f" Both arms are practically equivalent (within ±{equivalence:g} points)."
    return Verdict("no claim", headline, f"{evidence}. {excluded}", tuple(caveats), evidence)


def points(value: float) -> str:
    """+2.6 or −0.4, with a true minus sign."""
    rounded = round(value, 1)
    return f"{'−' if rounded < 0 else '+' if rounded > 0 else '±'}{abs(rounded):.1f}"


def p_text(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def seeds_text(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"


def interval_text(c: Comparison) -> str:
    if c.t is None:
        return "no interval from one seed"
    return f"95% paired-t interval {points(c.t.low)} to {points(c.t.high)}"


def coverage_text(c: Comparison) -> str:
    """The BCa interval with how often such an interval holds the truth."""
    assert c.bca is not None
    said = f"95% BCa bootstrap interval {points(c.bca.low)} to {points(c.bca.high)}"
    coverage = BCA_COVERAGE.get(c.n)
    if coverage is None:
        return f"{said}."
    return f"{said}; with n = {c.n} such an interval held the truth in only {coverage:.0%} of simulations."


def skew_texts(c: Comparison) -> list[str]:
    """What skewed differences do to the claim rule with this many seeds, by simulation; [] for no spread."""
    found = skewness(c.differences)
    if found is None:
        return []
    ours, strong = (100 * false_claims(c.n, round(abs(value), 1)) for value in (found, EXPONENTIAL_SKEWNESS))
    sign = "−" if round(found, 1) < 0 else "+"
    return [
        f"The skewness of the {c.n} differences is {sign}{abs(found):.1f}. In simulations without any "
        f"gain, the rule of this claim claimed one in {ours:.1f}% of studies where differences are skewed "
        f"like that, and in {strong:.1f}% where they are exponential (skewness 2); {seeds_text(c.n)} can "
        f"hardly tell which it is."
    ]


def concepts_text(groups: int) -> str:
    """How often an interval over tested groups, of which there are `groups`, holds the truth."""
    least, most = group_coverage(groups)
    return (
        f"With {groups} groups such 95% intervals held the truth in {least:.0%} to {most:.0%} of "
        f"simulations, least where sizes of groups differ and few of them gain."
    )


def _signs(c: Comparison) -> str:
    up, down = (sum(d > 0 for d in c.differences), sum(d < 0 for d in c.differences))
    if c.n == 1:
        return ""
    if c.n in (up, down):
        return f"All {c.n} differences are {'positive' if up else 'negative'}."
    return f"{up} of {c.n} differences are positive."


def _superscript(n: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(n))
