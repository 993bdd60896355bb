"""The audit's page: one self-contained file with the template `templates/audit.html`.

The template escapes all text; no markup is made here but numbers in figures. Its size is bounded whatever the
number of pairs: so many pictures at most, each small, and long lists cut.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from sempairs import __version__
from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.names import printable
from sempairs.catalog.pictures import Pictures
from sempairs.errors import UserError
from sempairs.pairs.audit.doubt import THRESHOLD
from sempairs.pairs.audit.run import SHOWN, Audit
from sempairs.pairs.audit.similarity import Spread

SIDE = 96
DOUBTFUL_SHOWN = 2 * SHOWN
LISTED = 40
TEXT = 120


def render(audit: Audit) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sempairs.pairs.audit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "percent": percent, "cut": cut}
    return environment.get_template("audit.html").render(context(audit))


def context(audit: Audit) -> dict[str, Any]:
    """All that the template reads."""
    thumbnails = _Thumbnails(audit)
    subject = audit.subject
    doubt = {int(row): place for place, row in enumerate(audit.doubts.rows)}
    shown = [int(row) for row in audit.doubts.rows[:DOUBTFUL_SHOWN]]
    galleries = {"near": audit.near_rows[:SHOWN], "alike": audit.alike, "unlike": audit.unlike}
    return {
        "audit": audit,
        "config": subject.pairs.config,
        "relation": subject.pairs.config.label,
        "pairs": len(subject.distinct),
        "threshold": THRESHOLD,
        "headline": headline(audit),
        "caveats": caveats(audit),
        "doubtful": [
            thumbnails.pair(row)
            | {"doubt": float(audit.doubts.doubt[doubt[row]]), "evidence": audit.doubts.evidence[doubt[row]]}
            for row in shown
        ],
        "galleries": {name: [thumbnails.pair(int(r)) for r in rows] for name, rows in galleries.items()},
        "similarity": _similarity(audit.similarity or {}),
        "bars": _bars(list(audit.balance.classes.values())),
        "classes": _first(audit.balance.classes),
        "licences": _first(audit.licences.images),
        "attributions": _first(audit.licences.attributions),
        "licence_pairs": _first(audit.licences.pairs),
        "multiplicity": _first({f"{n}": count for n, count in audit.multiplicity.images.items()}),
        "manifest_hash": subject.pairs.manifest_hash,
        "version": __version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def headline(audit: Audit) -> str:
    """The false-pair rate in a sentence, or that it is not known."""
    rate = audit.false_pairs.by.get("person")
    if rate is None or rate.rate is None or rate.low is None or rate.high is None:
        return "How many pairs are false is not known: no person has reviewed the random sample."
    sure = rate.reviewed - rate.unsure
    return (
        f"{percent(rate.rate)} of pairs are false, {percent(rate.low)} to {percent(rate.high)} with 95% "
        f"confidence: {rate.false} of {sure} pairs of a random sample."
    )


def caveats(audit: Audit) -> list[str]:
    """What a reader must know before trusting the numbers."""
    found, rates = [], audit.false_pairs
    person = rates.by.get("person")
    if person is not None and person.unsure:
        strict = (
            f"{percent(person.strict_rate)}, {percent(person.strict_low)} to {percent(person.strict_high)}"
        )
        found.append(
            f"Reviewers were unsure of {_some(person.unsure, 'pair')}. If all of them are false: {strict}."
        )
    if person is not None and person.reviewed < rates.sample_size:
        line = f"The sample has {rates.sample_size} pairs, of which the first {person.reviewed} were reviewed"
        later = f"; {person.beyond} further on are not counted, as a gap lies before them" * (
            person.beyond > 0
        )
        found.append(f"{line}{later}.")
    others = sorted(set(rates.by) - {"person"})
    found += [
        f"Verdicts of reviewers of the kind “{kind}” are shown apart and are no person's." for kind in others
    ]
    if audit.subject.drawn:
        found.append("The set is a redrawn pool: the pairs here are those of the first epoch, draw seed 0.")
    if audit.measured_by == "pixels":
        found.append(
            "No embeddings were given: similarity is that of the pictures at 8 × 8 pixels, colour and "
            "opacity, which says little about meaning."
        )
    if not audit.measured_by:
        found.append("Neither embeddings nor pixels were used: doubt comes from labels alone.")
    if audit.near is None:
        found.append("Near-duplicates were not measured (--no-pixels).")
    elif audit.near.unreadable:
        first = f", the first of them {audit.near.unreadable_first[0]}"
        found.append(f"{_some(audit.near.unreadable, 'image')} could not be decoded{first}.")
    if not audit.shared.against:
        found.append("No evaluation set was given (--against); only the set's own splits were compared.")
    return found


class _Thumbnails:
    """Small pictures as data addresses, each made once."""

    def __init__(self, audit: Audit) -> None:
        self._subject = audit.subject
        self._pictures = Pictures(audit.subject.images)
        self._columns = {n: audit.subject.text(n) for n in ("name", "concept", "category", "domain")}
        self._made: dict[int, dict[str, str]] = {}

    def pair(self, row: int) -> dict[str, Any]:
        """Both images of a row's pair."""
        subject = self._subject
        items = int(subject.anchor[row]), int(subject.partner[row])
        return {"images": [self._of(item) for item in items]}

    def _of(self, item: int) -> dict[str, str]:
        if item not in self._made:
            self._made[item] = {
                "src": self._source(item),
                "text": self._text(item),
                "whose": self._value("domain", item),
            }
        return self._made[item]

    def _source(self, item: int) -> str:
        """A WebP data address, "" where the image cannot be read."""
        try:
            image = self._pictures.image(item)
        except (UnreadableImage, UserError):
            return ""
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "WEBP", quality=72)
        return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

    def _text(self, item: int) -> str:
        found = (self._value(name, item) for name in ("name", "concept", "category"))
        return next((text for text in found if text), self._subject.ids[item])

    def _value(self, column: str, item: int) -> str:
        values = self._columns[column]
        return (values[item] or "") if values is not None else ""


def _similarity(spreads: Mapping[str, Spread]) -> list[dict[str, Any]]:
    """A line for each relation, with its marks as percent of a common axis."""
    if not spreads:
        return []
    low = min(s.quantiles["5"] for s in spreads.values())
    high = max(s.quantiles["95"] for s in spreads.values())
    width = (high - low) or 1.0
    return [
        {
            "name": name,
            "spread": spread,
            "at": {
                mark: round(100 * (v - low) / width, 2)
                for mark, v in spread.quantiles.items()
                if mark not in ("0", "100")
            },
        }
        for name, spread in spreads.items()
    ]


def _bars(counts: list[int]) -> list[tuple[float, float, float]]:
    """x, width and height of a bar for each class, percent of the figure; more than 200 are thinned out."""
    step = -(-len(counts) // 200)
    kept = counts[::step]
    width = 100 / len(kept)
    return [
        (round(i * width, 3), round(width * 0.85, 3), round(100 * n / max(kept), 2))
        for i, n in enumerate(kept)
    ]


def _first(counts: Mapping[str, int]) -> dict[str, Any]:
    """The first `LISTED` entries, how many there are beyond, and what those add up to."""
    items = list(counts.items())
    rest = items[LISTED:]
    return {"rows": items[:LISTED], "more": len(rest), "sum": sum(count for _, count in rest)}


def _some(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def cut(text: object) -> str:
    """A text from the data as one short line: what would hide or reorder text is escaped."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= TEXT else line[: TEXT - 1] + "…"


def percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share:.1f}%" if share == 0 or share >= 0.0005 else f"{100 * share:.2g}%"


def _count(values: Iterable[int] | int) -> str:
    return f"{values if isinstance(values, int) else sum(values):,}"
