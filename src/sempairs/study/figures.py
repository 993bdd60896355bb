"""The figures of a report: gains with their intervals, and learning curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sempairs.pages.figures import ARMS, BAND, DASHES, INK, LINE, MUTED, as_svg, calm, new_figure
from sempairs.study.statistics import Comparison, Interval
from sempairs.study.verdict import points


@dataclass(frozen=True)
class GainRow:
    """One line of the gains figure and table.

    kind: "task", "mean" for that of a method's tasks, or "overall" for that of all, set apart. concepts: a
    second interval for the table, over what was tested on.
    """

    label: str
    comparison: Comparison
    kind: str = "task"
    concepts: Interval | None = None


@dataclass(frozen=True)
class Heading:
    """A line without numbers above those of one method."""

    label: str
    kind: str = "heading"


@dataclass(frozen=True)
class Curve:
    """One run's line. arm: index of its arm's colour and dash."""

    arm: int
    x: Sequence[float]
    y: Sequence[float]


def gains(
    rows: Sequence[GainRow | Heading],
    *,
    equivalence: float,
    name: str,
    title: str,
    x_label: str,
    narrow: bool,
) -> str:
    """Mean gain, paired t interval and every seed's own difference, a line for each row; in points.

    narrow: for phones, with labels above their lines instead of beside them.
    """
    width, step = (340, 50) if narrow else (760, 38)
    height = step * len(rows) + 46
    left = 0.02 if narrow else 0.31
    figure = new_figure(width, height)
    axes = figure.add_axes((left, 40 / height, 0.96 - left if narrow else 0.89 - left, 1 - 48 / height))
    lines = [(y, row) for y, row in enumerate(rows) if isinstance(row, GainRow)]
    values = [v for _, row in lines for v in _extent(row.comparison)] + [-2 * equivalence, 2 * equivalence]
    margin = 0.06 * (max(values) - min(values) or 1.0)
    axes.set_xlim(min(values) - margin, max(values) + margin)
    axes.set_ylim(len(rows) - 0.35, -0.75 if narrow else -0.6)
    axes.axvspan(-equivalence, equivalence, color=BAND, lw=0)
    axes.axvline(0, color=MUTED, lw=1)
    across = axes.get_yaxis_transform()
    for y, row in enumerate(rows):
        if isinstance(row, GainRow):
            _gain_line(axes, y, row, narrow=narrow)
            continue
        if y:
            _rule_above(axes, y, LINE, narrow=narrow)
        place = (0, y - 0.05) if narrow else (-0.025, y)
        axes.text(
            *place, row.label, ha="left" if narrow else "right", va="center", color=INK, fontsize=12,
            fontweight="bold", transform=across,
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_xlabel(x_label, color=MUTED, fontsize=11)
    calm(axes, bottom_only=True)
    return as_svg(figure, name, title)


def _extent(c: Comparison) -> tuple[float, ...]:
    return (*c.differences, *((c.t.low, c.t.high) if c.t else ()))


def _gain_line(axes: Any, y: int, row: GainRow, *, narrow: bool) -> None:
    c, strong = row.comparison, row.kind == "overall"
    colour, weight = (ARMS[0], "bold") if strong else (INK, "normal")
    if strong and y:
        _rule_above(axes, y, MUTED, narrow=narrow)
    if c.t:
        axes.plot([c.t.low, c.t.high], [y, y], color=colour, lw=3 if strong else 1.8, solid_capstyle="round")
    # Seeds lie just below their interval, so that the mean hides none of them.
    axes.scatter(c.differences, [y + 0.24] * c.n, s=20, facecolors="none", edgecolors=colour, linewidths=1.2)
    # As in a forest plot: a square for one task, a diamond for a mean of several.
    size, marker = (36, "s") if row.kind == "task" else (66, "D")
    axes.scatter([c.mean], [y], s=size, marker=marker, color=colour, linewidths=0, zorder=4)
    across = axes.get_yaxis_transform()
    text = {"fontsize": 12, "fontweight": weight, "transform": across}
    if narrow:
        axes.text(0, y - 0.3, row.label, ha="left", va="bottom", color=INK, **text)
        axes.text(1, y - 0.3, points(c.mean), ha="right", va="bottom", color=colour, **text)
    else:
        axes.text(-0.025, y, row.label, ha="right", va="center", color=INK, **text)
        axes.text(1.025, y, points(c.mean), ha="left", va="center", color=colour, **text)


def _rule_above(axes: Any, y: int, colour: str, *, narrow: bool) -> None:
    """A line across the figure between row y, its label included, and the row above."""
    left, at = (0, y - 0.66) if narrow else (-0.43, y - 0.5)
    transform = axes.get_yaxis_transform()
    axes.plot([left, 1.0], [at, at], color=colour, lw=1, transform=transform, clip_on=False)


def curves(
    lines: Sequence[Curve],
    *,
    name: str,
    title: str,
    x_label: str,
    scale: float = 1.0,
    levels: Mapping[str, float] | None = None,
) -> str:
    """One small panel of learning curves, a thin line for each run; `scale` multiplies the values.

    levels: values that the curves are held against, by the words that stand beside each; one that lies far
    from all of them is left out, or they would be flat.
    """
    width, height = 330, 210
    figure = new_figure(width, height)
    axes = figure.add_axes((0.125, 0.2, 0.855, 0.75))
    for line in lines:
        y = [scale * value for value in line.y]
        axes.plot(
            line.x,
            y,
            color=ARMS[line.arm % len(ARMS)],
            lw=1.6,
            alpha=0.9,
            ls=DASHES[line.arm % len(DASHES)],
        )
    for words, level in _near(levels or {}, axes.get_ylim(), scale):
        axes.axhline(level, color=MUTED, lw=1, ls=(0, (1, 2)))
        left, right = axes.get_xlim()
        axes.text(right, level, words, color=MUTED, fontsize=9, ha="right", va="bottom")
        axes.set_xlim(left, right)
    axes.set_xlabel(x_label, color=MUTED, fontsize=10.5)
    axes.locator_params(nbins=5)
    axes.grid(axis="y", color=LINE, lw=0.8)
    axes.set_axisbelow(True)
    calm(axes)
    return as_svg(figure, name, title)


def _near(
    levels: Mapping[str, float], limits: tuple[float, float], scale: float
) -> Iterator[tuple[str, float]]:
    """The levels within one height of a panel of what it shows, equal ones under one name."""
    height = limits[1] - limits[0]
    names: dict[float, list[str]] = {}
    for words, level in levels.items():
        names.setdefault(scale * level, []).append(words)
    for level, words_of in names.items():
        if limits[0] - height <= level <= limits[1] + height:
            yield ", ".join(words_of), level
