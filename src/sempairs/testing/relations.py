"""Checks of a relation: pairs that are valid, matched arms, one order whatever the catalogue's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from sempairs.catalog.table import SCHEMA, Catalog
from sempairs.config import validate
from sempairs.pairs.config import RELATIONS, PairsConfig, PairsSection
from sempairs.pairs.plan import plan_pairs
from sempairs.pairs.table import PairSet

Check = Callable[[PairsConfig, Catalog], None]


def made_up_catalog(n: int = 96, **columns: Any) -> Catalog:
    """Make up images of 12 concepts in 4 categories by 4 domains, in two splits; `columns` replace or add.

    columns: a list or array of n values each.
    """
    row = np.arange(n)
    values: dict[str, Any] = {
        "image_id": [f"image {i:04d}" for i in row],
        "file_hash": [f"{i:064x}" for i in row],
        "uri": [f"{i}.png" for i in row],
        "width": np.full(n, 8, dtype=np.int32),
        "height": np.full(n, 8, dtype=np.int32),
        "source": ["made up"] * n,
        "category": [f"kind {i % 12 // 6}/kind {i % 12 // 3}" for i in row],
        "concept": [f"concept {i % 12}" for i in row],
        "domain": [f"domain {i // 12 % 4}" for i in row],
        "split": ["train" if i < 3 * n // 4 else "validation" for i in row],
        **columns,
    }
    for field in SCHEMA:
        values.setdefault(field.name, [None] * n)
    order = [*SCHEMA.names, *(name for name in values if name not in SCHEMA.names)]
    arrays = {name: pa.array(values[name], SCHEMA.field(name).type) for name in SCHEMA.names}
    arrays |= {name: pa.array(values[name]) for name in order if name not in arrays}
    return Catalog(pa.table({name: arrays[name] for name in order}))


def check_described(config: PairsConfig, catalog: Catalog) -> None:
    """It says what it is, in words and by its name; and its config survives a recipe."""
    assert RELATIONS.get(config.relation) is type(config)
    assert config.description and config.label
    again = validate(PairsSection, {"pairs": config.model_dump(mode="json")}).pairs
    assert again == config and type(again) is type(config)


def check_valid_pairs(config: PairsConfig, catalog: Catalog) -> None:
    """Each pair has two images of one split that are two pictures; fixed pairs share no image."""
    plan = plan_pairs(catalog, config)
    assert plan.n > 0
    split, file = catalog.column("split"), catalog.column("file_hash")
    for epoch in range(2):
        pairs = plan.epoch(epoch)
        assert (split[pairs.anchor] == split[pairs.partner]).all()
        if not config.one_image:
            assert (file[pairs.anchor] != file[pairs.partner]).all()
        if config.mode == "fixed" and config.disjoint and not config.one_image:
            both = np.concatenate([pairs.anchor, pairs.partner])
            assert len(np.unique(both)) == len(both)


def check_rule(config: PairsConfig, catalog: Catalog) -> None:
    """What its rule says of two paired images holds: one meaning, two blocks."""
    if not config.by_columns:
        return
    from sempairs.pairs.index import ImageIndex

    index = ImageIndex(catalog)
    rule = config.rule(index)
    pairs = plan_pairs(catalog, config).epoch(0)
    anchor, partner = index.items_of(pairs.anchor), index.items_of(pairs.partner)
    if not config.one_image:
        assert (rule.meaning.codes[anchor] == rule.meaning.codes[partner]).all()
        assert (rule.meaning.codes[anchor] >= 0).all()
    if rule.block is not None:
        assert (rule.block.codes[anchor] != rule.block.codes[partner]).all()


def check_order(config: PairsConfig, catalog: Catalog) -> None:
    """The order of the catalogue's rows changes nothing: the same manifest."""
    shuffled = catalog.select(np.random.default_rng(0).permutation(len(catalog)))
    assert plan_pairs(catalog, config).manifest_hash == plan_pairs(shuffled, config).manifest_hash


def check_seeds(config: PairsConfig, catalog: Catalog) -> None:
    """The same seeds give the same pairs; epochs of a pool draw partners anew."""
    one, other = plan_pairs(catalog, config), plan_pairs(catalog, config)
    assert all(np.array_equal(a, b) for a, b in zip(one.epoch(3), other.epoch(3), strict=True))
    if config.mode == "redrawn" and not config.one_image and config.by_columns:
        drawn = {one.epoch(epoch).partner.tobytes() for epoch in range(8)}
        assert len(drawn) > 1


def check_arms(config: PairsConfig, catalog: Catalog) -> None:
    """The augmented arm has the same anchors in the same order, the same meanings, and itself as partner."""
    semantic = plan_pairs(catalog, config)
    augmented = plan_pairs(catalog, config.model_copy(update={"arm": "augmented"}))
    assert np.array_equal(semantic.epoch(0).anchor, augmented.epoch(0).anchor)
    assert np.array_equal(semantic.meaning, augmented.meaning)
    assert np.array_equal(augmented.epoch(0).anchor, augmented.epoch(0).partner)
    assert semantic.semantic_hash == augmented.semantic_hash


def check_saved(config: PairsConfig, catalog: Catalog) -> None:
    """A saved set opens again and has the plan's hash."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        PairSet.build(catalog, config).save(Path(place) / "pairs")
        again = PairSet.open(Path(place) / "pairs")
    assert again.config == config
    assert again.manifest_hash == plan_pairs(catalog, config).manifest_hash


#: The checks of a relation; each takes a config and a catalogue that it can pair.
RELATION_CHECKS: tuple[Check, ...] = (
    check_described,
    check_valid_pairs,
    check_rule,
    check_order,
    check_seeds,
    check_arms,
    check_saved,
)


def check_relation(name: str, catalog: Catalog | None = None, **settings: Any) -> None:
    """Run every check on the relation registered as `name`, with fixed and with redrawn pairs.

    catalog: images that it can pair; left out, `made_up_catalog()`. settings: of the relation.
    Raises: AssertionError, and UserError where it finds no pair.
    """
    catalog = made_up_catalog() if catalog is None else catalog
    for mode in ("fixed", "redrawn"):
        config = PairsConfig(relation=name, mode=mode, **settings)
        for check in RELATION_CHECKS:
            check(config, catalog)
