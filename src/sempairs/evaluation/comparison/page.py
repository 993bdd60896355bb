"""The page of a comparison."""

from __future__ import annotations

from sempairs import pages
from sempairs.evaluation.comparison.records import Comparison, TaskComparison, points


def render(comparison: Comparison) -> str:
    """The page as HTML."""
    results = [points(one.result) for one in comparison.tasks]
    context = {
        "names": comparison.names,
        "headline": headline(results),
        "rows": list(zip(results, comparison.tasks, strict=True)),
    }
    return pages.render("sempairs.evaluation.comparison", "compare.html", context)


def headline(results: list[TaskComparison]) -> str:
    """Which encoder scores higher on how many tasks, and on how many its interval excludes 0."""
    if len(results) == 1:
        (one,) = results
        if not one.difference:
            return f"A and B score the same on {one.task}"
        better, worse = ("B", "A") if one.difference > 0 else ("A", "B")
        clear = "the interval excludes 0" if _excludes_zero(one) else "but the interval includes 0"
        size = f"{abs(one.difference):.1f} points"
        return f"{better} scores {size} higher than {worse} on {one.task}: {clear}"
    ahead = {
        name: [one for one in results if sign * one.difference > 0] for name, sign in (("B", 1), ("A", -1))
    }
    first, second = sorted(ahead, key=lambda name: -len(ahead[name]))
    sure = {name: sum(map(_excludes_zero, ahead[name])) for name in ahead}
    said = f"on {sure[first]} the interval excludes 0"
    if not ahead[first]:
        return f"A and B score the same on all {len(results)} tasks"
    if not ahead[second]:
        return f"{first} scores higher on {len(ahead[first])} of {len(results)} tasks; {said}"
    return (
        f"{first} scores higher on {len(ahead[first])} of {len(results)} tasks ({said}), "
        f"{second} on {len(ahead[second])} (on {sure[second]})"
    )


def _excludes_zero(one: TaskComparison) -> bool:
    return one.low > 0 or one.high < 0
