"""What changed from one release to another: images, labels, pairs, licences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sempairs.catalog import Catalog
from sempairs.catalog.sources.release import ReleaseSource
from sempairs.pairs.table import open_released
from sempairs.release.build import open_arms
from sempairs.release.writer import LICENCES, counts

_NO_LABEL = ("image_id", "file_hash", "pixel_hash", "source")
_SHOWN = 10

Pair = tuple[str, str | None, str]


@dataclass(frozen=True)
class Change:
    """One label: the image's id and its value in either release."""

    image_id: str
    before: Any
    after: Any


@dataclass(frozen=True)
class PairChange:
    """Pairs of one arm that are in one release only: ids in canonical order (the second None for an image of
    a pool) and relation; and how many are in both."""

    added: list[Pair]
    removed: list[Pair]
    kept: int


@dataclass(frozen=True)
class ReleaseDiff:
    """From `before` to `after` (name and version). Images by id: added, removed; changed are those of other
    pixels (or, where these are not known, of another file), repacked those of equal pixels in another file.
    labels: changes by column, of images in both. columns: in one release only. licences, counts: numbers of
    images that differ, as (before, after). texts: files of licences that differ."""

    before: str
    after: str
    added: list[str]
    removed: list[str]
    changed: list[str]
    repacked: list[str]
    labels: dict[str, list[Change]]
    columns_added: list[str]
    columns_removed: list[str]
    pairs: dict[str, PairChange]
    counts: dict[str, tuple[Any, Any]]
    licences: dict[str, tuple[int, int]]
    texts: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether both hold the same images, labels, pairs and licences, whatever their names."""
        rest = (
            self.added, self.removed, self.changed, self.repacked, self.labels, self.columns_added,
            self.columns_removed, self.counts, self.licences, self.texts,
        )  # fmt: skip
        return not any(rest) and not any(each.added or each.removed for each in self.pairs.values())

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"same": self.same, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """All of it for people, long lists cut short."""
        yield f"{self.before} -> {self.after}"
        if self.same:
            yield "no difference: the same images, labels, pairs and licences"
            return
        for name in ("added", "removed", "changed", "repacked"):
            yield from _listed(f"images {name}", getattr(self, name))
        yield from _listed("columns added", self.columns_added)
        yield from _listed("columns removed", self.columns_removed)
        for column, changes in self.labels.items():
            shown = [f"{c.image_id}: {c.before!r} -> {c.after!r}" for c in changes]
            yield from _listed(f"{column} changed", shown)
        for arm, change in self.pairs.items():
            for what, pairs in (("added", change.added), ("removed", change.removed)):
                yield from _listed(f"{arm} pairs {what}", [_shown(pair) for pair in pairs])
        for name, values in {**self.counts, **{f"licence {k}": v for k, v in self.licences.items()}}.items():
            yield f"{name}: {values[0]} -> {values[1]}"
        yield from _listed("licence texts that differ", self.texts)


def diff_releases(before: str | Path, after: str | Path) -> ReleaseDiff:
    """Compares two releases. Raises: UserError if one is none, or is not sound."""
    old, new = ReleaseSource(str(before)), ReleaseSource(str(after))
    left, right = old.scan().catalog, new.scan().catalog
    ours, theirs = set(left.column("image_id")), set(right.column("image_id"))
    shared = sorted(ours & theirs)
    here, there = left.select(left.rows_of(shared)), right.select(right.rows_of(shared))
    changed, repacked = _pictures(shared, here, there)
    labels = sorted((set(left.table.column_names) & set(right.table.column_names)) - set(_NO_LABEL))
    totals = {}
    for name, value in counts(left).items():
        other = counts(right)[name]
        if isinstance(value, int) and value != other:
            totals[name] = (value, other)
    return ReleaseDiff(
        before=_title(old),
        after=_title(new),
        added=sorted(theirs - ours),
        removed=sorted(ours - theirs),
        changed=changed,
        repacked=repacked,
        labels={name: found for name in labels if (found := _changes(shared, here, there, name))},
        columns_added=sorted(set(right.table.column_names) - set(left.table.column_names)),
        columns_removed=sorted(set(left.table.column_names) - set(right.table.column_names)),
        pairs=_pair_changes((old, left), (new, right)),
        counts=totals,
        licences=_licences(left, right),
        texts=_texts(old.root, new.root),
    )


def _title(source: ReleaseSource) -> str:
    kind = ", references only" if source.references_only else ""
    return f"{source.about.get('name', '?')} {source.about.get('version', '?')}{kind}"


def _pictures(ids: list[str], here: Catalog, there: Catalog) -> tuple[list[str], list[str]]:
    columns = [c.column(name) for name in ("file_hash", "pixel_hash") for c in (here, there)]
    changed: list[str] = []
    repacked: list[str] = []
    for image, file_a, file_b, pixels_a, pixels_b in zip(ids, *columns, strict=True):
        if file_a != file_b:
            same = pixels_a is not None and pixels_a == pixels_b
            (repacked if same else changed).append(image)
    return changed, repacked


def _changes(ids: list[str], here: Catalog, there: Catalog, column: str) -> list[Change]:
    values = (here.table.column(column).to_pylist(), there.table.column(column).to_pylist())
    return [Change(i, a, b) for i, a, b in zip(ids, *values, strict=True) if a != b]


def _pair_changes(
    old: tuple[ReleaseSource, Catalog], new: tuple[ReleaseSource, Catalog]
) -> dict[str, PairChange]:
    arms = dict.fromkeys(open_arms(old[0].root) + open_arms(new[0].root))
    found = {}
    for arm in arms:
        a, b = _pairs(*old, arm), _pairs(*new, arm)
        kept = (a & b).total()
        found[arm] = PairChange(_sorted(b - a), _sorted(a - b), kept)
    return found


def _pairs(source: ReleaseSource, catalog: Catalog, arm: str) -> Counter[Pair]:
    if arm not in open_arms(source.root):
        return Counter()
    pairs = open_released(source.root, arm, catalog=catalog)
    ids = (pairs.table.column(name).to_pylist() for name in ("anchor", "partner"))
    rows: Counter[Pair] = Counter()
    for anchor, partner, relation in zip(*ids, pairs.relation, strict=True):
        swap = partner is not None and partner < anchor
        rows[(partner, anchor, relation) if swap else (anchor, partner, relation)] += 1
    return rows


def _sorted(pairs: Counter[Pair]) -> list[Pair]:
    return sorted(pairs.elements(), key=lambda pair: (pair[0], pair[1] or "", pair[2]))


def _licences(left: Catalog, right: Catalog) -> dict[str, tuple[int, int]]:
    a, b = (Counter(name or "none stated" for name in c.column("licence")) for c in (left, right))
    return {name: (a[name], b[name]) for name in sorted(a.keys() | b.keys()) if a[name] != b[name]}


def _texts(old: Path, new: Path) -> list[str]:
    a, b = ({f.name: f.read_bytes() for f in sorted((r / LICENCES).glob("*"))} for r in (old, new))
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def _shown(pair: Pair) -> str:
    partner = pair[1] if pair[1] is not None else "drawn every epoch"
    return f"{pair[0]} | {partner} ({pair[2]})"


def _listed(what: str, items: list[str]) -> Iterator[str]:
    if items:
        yield f"{what}: {len(items):,}"
        yield from (f"  {' '.join(item.split())}" for item in items[:_SHOWN])
        if len(items) > _SHOWN:
            yield f"  and {len(items) - _SHOWN:,} more"
