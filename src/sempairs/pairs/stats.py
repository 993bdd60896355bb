"""What a set of pairs is made of, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sempairs.errors import UserError
from sempairs.pairs.index import Int, Labels
from sempairs.pairs.plan import PairPlan
from sempairs.pairs.purity import mining_rows, purity
from sempairs.pairs.select import Selection
from sempairs.pairs.table import PairSet

Spread = dict[str, float]


@dataclass(frozen=True)
class PairStats:
    """Numbers of one set of pairs.

    relations: pairs an epoch by relation. classes: pairs an epoch by class, "" for none known. class_balance:
    spread of those counts; its evenness is their entropy over that of equal counts, 1 for equal ones.
    multiplicity: how many images have how many partners: the pairs an image is in or, redrawn, all it may be
    drawn with. domain_pairs: pairs an epoch by their two domains, sorted; redrawn, of the first epoch of draw
    seed 0. same_meaning: the negatives of an anchor that share its meaning, expected in a batch of
    `batch_size` pairs; of the 2 (batch_size - 1) that a contrastive loss on two views has. The image-matched
    arm is counted over all images that its anchors are taken from. shared: what pairs across domains have in
    common, concept or category. purity: see `sempairs.pairs.purity`. mining: as `PairSet`.
    """

    relation: str
    mode: str
    arm: str
    pairs_per_epoch: int
    images: int
    catalog_images: int
    meanings: int
    relations: dict[str, int]
    classes: dict[str, int]
    class_balance: Spread
    multiplicity: dict[int, int]
    partners: Spread
    domain_column: str
    domain_pairs: dict[str, int]
    batch_size: int
    same_meaning: float
    negatives: int
    shared: str | None
    purity: dict[str, dict[str, float]]
    mining: Mapping[str, Any] | None
    manifest_hash: str
    catalog_hash: str


def pair_stats(pairs: PairSet, *, batch_size: int = 256) -> PairStats:
    """Count what stands in `pairs`. Raises: UserError if `batch_size` is below 2."""
    if batch_size < 2:
        raise UserError("--batch-size", "must be at least 2", batch_size)
    config = pairs.config
    redrawn = config.mode == "redrawn" and config.arm == "semantic" and not config.one_image
    if redrawn:
        selection = pairs.selection(pairs.index)
        plan = PairPlan(
            pairs.catalog, config, 0, selection.meaning.codes, selection.anchor, selection, _items(pairs)
        )
        first = plan.epoch(0)
        anchor, partner = first.anchor, first.partner
        relations, category, meaning = _named(selection), selection.category, selection.meaning
        assert selection.draws is not None
        degree = selection.draws.count[selection.anchor]
    else:
        anchor, partner = pairs.anchor, pairs.partner
        relations, category, meaning = dict(Counter(pairs.relation)), pairs.category, pairs.meaning
        other = partner[partner != anchor]
        degree = np.bincount(np.concatenate([anchor, other]), minlength=len(pairs.index))
    classes = Counter(name or "" for name in category.texts())
    values, counts = np.unique(degree, return_counts=True)
    return PairStats(
        relation=config.label,
        mode=config.mode,
        arm=config.arm,
        pairs_per_epoch=pairs.pairs_per_epoch,
        images=len(pairs.catalog),
        catalog_images=pairs.catalog_images,
        meanings=len(meaning.counts()),
        relations=dict(sorted(relations.items())),
        classes=dict(sorted(classes.items())),
        class_balance=_spread(np.array(list(classes.values())))
        | {"evenness": _evenness(list(classes.values()))},
        multiplicity={int(v): int(c) for v, c in zip(values, counts, strict=True)},
        partners=_spread(degree),
        domain_column=config.domain,
        domain_pairs=_domain_pairs(pairs, anchor, partner),
        batch_size=batch_size,
        same_meaning=_same_meaning(meaning, batch_size),
        negatives=2 * (batch_size - 1),
        shared=config.shared(pairs.index),
        purity=purity(pairs),
        mining=pairs.mining,
        manifest_hash=pairs.manifest_hash,
        catalog_hash=pairs.catalog_hash,
    )


def summary(stats: PairStats) -> list[tuple[str, str]]:
    """The numbers as rows of a name and a text, for a table."""
    balance, partners = stats.class_balance, stats.partners
    share = stats.images / stats.catalog_images if stats.catalog_images else float("nan")
    shared = " of one category" if stats.shared == "category" else ""
    unit = "images" if stats.arm == "image_matched" else "pairs"
    rows = [
        ("relation", f"{stats.relation}{shared}, {stats.mode}, {stats.arm} arm"),
        ("pairs an epoch", f"{stats.pairs_per_epoch:,}"),
        ("images covered", f"{stats.images:,} of {stats.catalog_images:,} ({share:.1%})"),
        ("meanings", f"{stats.meanings:,}"),
        (
            "classes",
            f"{len(stats.classes):,}: {_range(balance)} {unit} each, evenness {balance['evenness']:.3f}",
        ),
        ("partners an image", _range(partners)),
        (
            f"same-meaning negatives in {stats.batch_size} pairs",
            f"{stats.same_meaning:.2f} of {stats.negatives} an anchor",
        ),
        ("manifest hash", stats.manifest_hash),
        ("catalogue hash", stats.catalog_hash),
    ]
    if len(stats.relations) > 1:
        rows.insert(2, ("of them", ", ".join(f"{name} {n:,}" for name, n in stats.relations.items())))
    if 1 < len(stats.multiplicity) <= 12:
        rows += [(f"images with {n} partner{'s' * (n > 1)}", f"{c:,}") for n, c in stats.multiplicity.items()]
    rows += [
        (f"purity by {column}", f"{found['share']:.1%} of {found['n']:,.0f} pairs share it")
        for column, found in stats.purity.items()
    ]
    rows += mining_rows(stats.mining)
    common = sorted(stats.domain_pairs.items(), key=lambda item: (-item[1], item[0]))
    rows += [(f"{stats.domain_column}: {name}", f"{n:,}") for name, n in common[:_SHOWN]]
    if len(common) > _SHOWN:
        rest = sum(n for _, n in common[_SHOWN:])
        rows.append((f"{stats.domain_column}: {len(common) - _SHOWN} further", f"{rest:,}"))
    return rows


_SHOWN = 10


def _items(pairs: PairSet) -> Int:
    return np.arange(len(pairs.index))


def _named(selection: Selection) -> dict[str, int]:
    counts = np.bincount(selection.relation, minlength=len(selection.relations))
    named: Counter[str] = Counter()
    for name, count in zip(selection.relations, counts, strict=True):
        named[name] += int(count)
    return {name: count for name, count in named.items() if count}


def _spread(values: np.ndarray[Any, Any]) -> Spread:
    return {
        "least": float(values.min()),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "most": float(values.max()),
    }


def _range(spread: Spread) -> str:
    if spread["least"] == spread["most"]:
        return f"{spread['least']:g}"
    return f"{spread['least']:g} to {spread['most']:g} (median {spread['median']:g})"


def _evenness(counts: list[int]) -> float:
    share = np.array(counts) / sum(counts)
    return float(-(share * np.log(share)).sum() / np.log(len(counts))) if len(counts) > 1 else 1.0


def _same_meaning(meaning: Labels, batch_size: int) -> float:
    """Expected over batches drawn without replacement; each pair that shares the meaning is two negatives."""
    counts = np.array(list(meaning.counts().values()), dtype=float)
    n = counts.sum()
    chance = float((counts * (counts - 1)).sum() / (n * (n - 1))) if n > 1 else 0.0
    return 2 * (batch_size - 1) * chance


def _domain_pairs(pairs: PairSet, anchor: Int, partner: Int) -> dict[str, int]:
    column = pairs.config.domain
    if column not in pairs.catalog.table.column_names:
        return {}
    domain = pairs.index.labels(column)
    if not domain.known.any():
        return {}
    low = np.minimum(domain.codes[anchor], domain.codes[partner])
    high = np.maximum(domain.codes[anchor], domain.codes[partner])
    both, counts = np.unique(np.stack([low, high]), axis=1, return_counts=True)
    named = ("unknown" if code < 0 else domain.names[code] for code in both.T.ravel())
    names = list(named)
    return {f"{a} – {b}": int(count) for a, b, count in zip(names[::2], names[1::2], counts, strict=True)}
