"""Figures of a report as inline SVG that follow the page: its colours, its font, light or dark.

matplotlib draws with placeholder colours, which become CSS variables; text stays text.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sempairs.study.statistics import Comparison, Interval
from sempairs.study.verdict import points

INK, MUTED, LINE, BAND, PAPER = "#000001", "#000002", "#000003", "#000004", "#000005"
ARMS = tuple(f"#0000a{i}" for i in range(6))
_VARIABLES = {
    INK: "--ink", MUTED: "--muted", LINE: "--line", BAND: "--band", PAPER: "--paper",
    **{colour: f"--arm-{i}" for i, colour in enumerate(ARMS)},
}  # fmt: skip
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), (0, (7, 2)), (0, (2, 2)))
_PIXEL = 1 / 72  # matplotlib's SVG unit is the point; one point is shown as one CSS pixel


@dataclass(frozen=True)
class GainRow:
    """One line of the gains figure and table. strong: the primary test's line, set apart.

    concepts: a second interval for the table, over what was tested on.
    """

    label: str
    comparison: Comparison
    strong: bool = False
    concepts: Interval | None = None


@dataclass(frozen=True)
class Curve:
    """One run's line. arm: index of its arm's colour and dash."""

    arm: int
    x: Sequence[float]
    y: Sequence[float]


def gains(
    rows: Sequence[GainRow], *, equivalence: float, name: str, title: str, x_label: str, narrow: bool
) -> str:
    """Mean gain, paired t interval and every seed's own difference, a line for each task; in points.

    narrow: for phones, with labels above their lines instead of beside them.
    """
    width, step = (340, 50) if narrow else (760, 38)
    height = step * len(rows) + 46
    left = 0.02 if narrow else 0.31
    figure = _figure(width, height)
    axes = figure.add_axes((left, 40 / height, 0.96 - left if narrow else 0.89 - left, 1 - 48 / height))
    values = [v for row in rows for v in _extent(row.comparison)] + [-2 * equivalence, 2 * equivalence]
    margin = 0.06 * (max(values) - min(values) or 1.0)
    axes.set_xlim(min(values) - margin, max(values) + margin)
    axes.set_ylim(len(rows) - 0.35, -0.75 if narrow else -0.6)
    axes.axvspan(-equivalence, equivalence, color=BAND, lw=0)
    axes.axvline(0, color=MUTED, lw=1)
    for y, row in enumerate(rows):
        _gain_line(axes, y, row, narrow=narrow)
    axes.set_yticks([])
    axes.set_xlabel(x_label, color=MUTED, fontsize=11)
    _calm(axes, bottom_only=True)
    return _svg(figure, name, title)


def _extent(c: Comparison) -> tuple[float, ...]:
    return (*c.differences, *((c.t.low, c.t.high) if c.t else ()))


def _gain_line(axes: Any, y: int, row: GainRow, *, narrow: bool) -> None:
    c = row.comparison
    colour, weight = (ARMS[0], "bold") if row.strong else (INK, "normal")
    if row.strong and y:
        axes.axhline(y - 0.5, color=LINE, lw=1)
    if c.t:
        axes.plot(
            [c.t.low, c.t.high], [y, y], color=colour, lw=3 if row.strong else 1.8, solid_capstyle="round"
        )
    # Seeds lie just below their interval, so that the mean hides none of them.
    axes.scatter(c.differences, [y + 0.24] * c.n, s=20, facecolors="none", edgecolors=colour, linewidths=1.2)
    axes.scatter([c.mean], [y], s=60, marker="D", color=colour, linewidths=0, zorder=4)
    across = axes.get_yaxis_transform()
    text = {"fontsize": 12, "fontweight": weight, "transform": across}
    if narrow:
        axes.text(0, y - 0.3, row.label, ha="left", va="bottom", color=INK, **text)
        axes.text(1, y - 0.3, points(c.mean), ha="right", va="bottom", color=colour, **text)
    else:
        axes.text(-0.025, y, row.label, ha="right", va="center", color=INK, **text)
        axes.text(1.025, y, points(c.mean), ha="left", va="center", color=colour, **text)


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
    figure = _figure(width, height)
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
    _calm(axes)
    return _svg(figure, name, title)


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


def _calm(axes: Any, *, bottom_only: bool = False) -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
    axes.tick_params(colors=MUTED, labelsize=10.5, length=0, pad=5)
    axes.set_facecolor("none")
    if bottom_only:
        axes.tick_params(axis="y", left=False, labelleft=False)


def _figure(width: int, height: int) -> Any:
    """A figure of that many CSS pixels, outside pyplot: no window, nothing global."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * _PIXEL, height * _PIXEL))
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    return figure


def _svg(figure: Any, name: str, title: str) -> str:
    """The figure as an SVG element, the same for the same numbers."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(buffer.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> str:
    """The SVG element alone: ids its own, colours from the page, named for those who cannot see it."""
    body = svg[svg.index("<svg") :]
    for part in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->"):
        body = re.sub(part, "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    view = re.search(r'viewBox="[^"]*"', body)
    assert view
    return f'<svg {view[0]} role="img" aria-label="{html.escape(title)}">' + body[body.index(">") + 1 :]
