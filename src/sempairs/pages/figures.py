"""Figures as inline SVG that follow the page: its colours, its font, light or dark.

matplotlib draws with placeholder colours, which become CSS variables of `style.css`; text stays text.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

INK, MUTED, LINE, BAND, PAPER = "#000001", "#000002", "#000003", "#000004", "#000005"
ARMS = tuple(f"#0000a{i}" for i in range(6))
_VARIABLES = {
    INK: "--ink", MUTED: "--muted", LINE: "--line", BAND: "--band", PAPER: "--paper",
    **{colour: f"--arm-{i}" for i, colour in enumerate(ARMS)},
}  # fmt: skip
#: Of lines of the arms, so that they are told apart without colours too.
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), (0, (7, 2)), (0, (2, 2)))
_PIXEL = 1 / 72  # matplotlib's SVG unit is the point; one point is shown as one CSS pixel


def calm(axes: Any, *, bottom_only: bool = False) -> None:
    """Take from axes all lines but the bottom one; bottom_only: and the numbers of the other axis."""
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
    axes.tick_params(colors=MUTED, labelsize=10.5, length=0, pad=5)
    axes.set_facecolor("none")
    if bottom_only:
        axes.tick_params(axis="y", left=False, labelleft=False)


def new_figure(width: int, height: int) -> Any:
    """A figure of that many CSS pixels, outside pyplot: no window, nothing global."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * _PIXEL, height * _PIXEL))
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    return figure


def as_svg(figure: Any, name: str, title: str) -> str:
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
