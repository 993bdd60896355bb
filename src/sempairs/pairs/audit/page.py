"""The audit's page: what it shows, gathered, and the page made of it.

Its size is bounded whatever the number of pairs: so many pictures at most, each small, and long lists cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from sempairs import pages
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


@dataclass(frozen=True)
class Shown:
    """An image of a shown pair. source: address of a small picture, "" where the image cannot be read."""

    source: str
    text: str
    whose: str


@dataclass(frozen=True, eq=False)
class AuditPage:
    """All that the page shows. pairs: both images of each shown pair, by its row in the audited set."""

    audit: Audit
    doubtful: tuple[int, ...]
    near: tuple[int, ...]
    pairs: Mapping[int, tuple[Shown, Shown]]


def gather(audit: Audit) -> AuditPage:
    """Collect what the page of an audit shows: decodes the images of shown pairs, each once."""
    doubtful = tuple(int(row) for row in audit.doubts.rows[:DOUBTFUL_SHOWN])
    near = tuple(int(row) for row in audit.near_rows[:SHOWN])
    rows = dict.fromkeys([*doubtful, *near, *map(int, audit.alike), *map(int, audit.unlike)])
    subject = audit.subject
    items = {row: (int(subject.anchor[row]), int(subject.partner[row])) for row in rows}
    images = _images(audit, sorted({item for both in items.values() for item in both}))
    return AuditPage(
        audit, doubtful, near, {row: (images[one], images[other]) for row, (one, other) in items.items()}
    )


def render(gathered: AuditPage) -> str:
    """The page as HTML."""
    return pages.render(
        "sempairs.pairs.audit",
        "audit.html",
        context(gathered),
        filters={"count": _count, "percent": percent, "cut": cut},
        written=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def context(gathered: AuditPage) -> dict[str, Any]:
    """All that the template reads."""
    audit = gathered.audit
    subject = audit.subject
    place = {int(row): number for number, row in enumerate(audit.doubts.rows)}
    galleries = {"near": gathered.near, "alike": audit.alike, "unlike": audit.unlike}
    return {
        "audit": audit,
        "config": subject.pairs.config,
        "relation": subject.pairs.config.label,
        "pairs": len(subject.distinct),
        "threshold": THRESHOLD,
        "headline": headline(audit),
        "caveats": caveats(audit),
        "doubtful": [
            {
                "images": gathered.pairs[row],
                "doubt": float(audit.doubts.doubt[place[row]]),
                "evidence": audit.doubts.evidence[place[row]],
            }
            for row in gathered.doubtful
        ],
        "galleries": {
            name: [{"images": gathered.pairs[int(row)]} for row in rows] for name, rows in galleries.items()
        },
        "similarity": _similarity(audit.similarity or {}),
        "bars": _bars(list(audit.balance.classes.values())),
        "classes": _first(audit.balance.classes),
        "licences": _first(audit.licences.images),
        "attributions": _first(audit.licences.attributions),
        "licence_pairs": _first(audit.licences.pairs),
        "multiplicity": _first({f"{n}": count for n, count in audit.multiplicity.images.items()}),
        "manifest_hash": subject.pairs.manifest_hash,
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


def _images(audit: Audit, items: Sequence[int]) -> dict[int, Shown]:
    """The images of an audited set that are shown, by item."""
    subject, pictures = audit.subject, Pictures(audit.subject.images)
    columns = {name: subject.text(name) for name in ("name", "concept", "category", "domain")}

    def value(name: str, item: int) -> str:
        values = columns[name]
        return (values[item] or "") if values is not None else ""

    def text(item: int) -> str:
        found = (value(name, item) for name in ("name", "concept", "category"))
        return next((text for text in found if text), subject.ids[item])

    return {item: Shown(_source(pictures, item), text(item), value("domain", item)) for item in items}


def _source(pictures: Pictures, item: int) -> str:
    try:
        image = pictures.image(item)
    except (UnreadableImage, UserError):
        return ""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return pages.picture_uri(image, quality=72)


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
