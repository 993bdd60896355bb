"""The page of a comparison: one self-contained file, everything escaped, no script."""

from __future__ import annotations

from collections.abc import Sequence

from sempairs import __version__
from sempairs.evaluation.comparison.compare import Compared, points


def render(names: tuple[str, str], compared: Sequence[Compared]) -> str:
    """The page as HTML. names: of the two encoders, A and B."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("sempairs.evaluation", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    rows = [(points(one.result), one) for one in compared]
    return environment.get_template("compare.html").render(names=names, rows=rows, version=__version__)
