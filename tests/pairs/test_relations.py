"""Each relation on cases small enough to work out by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.config import validate
from sempairs.errors import UserError
from sempairs.pairs.config import RELATIONS, PairsConfig, PairsSection
from sempairs.pairs.plan import PairPlan, plan_pairs


def pairs_of(plan: PairPlan, epoch: int = 0) -> list[tuple[str, str]]:
    ids = plan.catalog.column("image_id")
    found = plan.epoch(epoch)
    return list(zip(ids[found.anchor], ids[found.partner], strict=True))


def unordered(plan: PairPlan, epoch: int = 0) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in pairs_of(plan, epoch)}


def seen(catalog: Catalog, epochs: int = 60, **config: Any) -> dict[str, set[str]]:
    """Partners each anchor is redrawn with."""
    plan = plan_pairs(catalog, PairsConfig(mode="redrawn", **config), draw_seed=5)
    found: dict[str, set[str]] = {}
    for epoch in range(epochs):
        for anchor, partner in pairs_of(plan, epoch):
            found.setdefault(anchor, set()).add(partner)
    return found


def test_same_category_pairs_within_the_leaf(make: Any) -> None:
    catalog = make("cat1 cat2 dog1 dog2 dog3", category=["a/cat", "a/cat", "a/dog", "a/dog", "a/dog"])
    plan = plan_pairs(catalog, PairsConfig(relation="same_category"))
    assert plan.n == 2
    assert frozenset({"cat1", "cat2"}) in unordered(plan)
    assert seen(catalog, relation="same_category") == {
        "cat1": {"cat2"}, "cat2": {"cat1"},
        "dog1": {"dog2", "dog3"}, "dog2": {"dog1", "dog3"}, "dog3": {"dog1", "dog2"},
    }  # fmt: skip


def test_sibling_pairs_different_leaves_under_the_ancestor(make: Any) -> None:
    catalog = make(
        "cat1 cat2 dog fly rock",
        category=["an/mammal/cat", "an/mammal/cat", "an/mammal/dog", "an/insect/fly", "rock"],
    )
    assert seen(catalog, relation="sibling") == {"cat1": {"dog"}, "cat2": {"dog"}, "dog": {"cat1", "cat2"}}
    assert seen(catalog, relation="sibling", depth=2) == {
        "cat1": {"dog", "fly"}, "cat2": {"dog", "fly"}, "dog": {"cat1", "cat2", "fly"},
        "fly": {"cat1", "cat2", "dog"},
    }  # fmt: skip
    # Two of one leaf are no siblings: cat1 and cat2 go with dog and fly.
    assert unordered(plan_pairs(catalog, PairsConfig(relation="sibling", depth=2))) in (
        {frozenset({"cat1", "dog"}), frozenset({"cat2", "fly"})},
        {frozenset({"cat1", "fly"}), frozenset({"cat2", "dog"})},
    )
    with pytest.raises(UserError, match=r"more than 3 deep \(the deepest here has 3\)"):
        plan_pairs(catalog, PairsConfig(relation="sibling", depth=3))


def test_cross_domain_pairs_one_concept_over_two_domains(make: Any) -> None:
    catalog = make(
        "n1 n2 t1 t2 n3 x",
        concept=["sun", "sun", "sun", "moon", "moon", None],
        domain=["noto", "noto", "twemoji", "twemoji", "noto", "noto"],
        set=["v1", "v2", "v1", "v1", "v1", "v1"],
    )
    assert seen(catalog, relation="cross_domain") == {
        "n1": {"t1"}, "n2": {"t1"}, "t1": {"n1", "n2"}, "t2": {"n3"}, "n3": {"t2"},
    }  # fmt: skip
    assert seen(catalog, relation="cross_domain", domain_column="set") == {
        "n1": {"n2"}, "n2": {"n1", "t1"}, "t1": {"n2"},
    }  # fmt: skip


def test_cross_domain_leaves_no_image_over_that_could_have_a_partner(make: Any) -> None:
    # Pairing the three single domains with each other would strand images of domain a.
    catalog = make("a1 a2 a3 b c d", concept=["k"] * 6, domain=["a", "a", "a", "b", "c", "d"])
    for seed in range(30):
        plan = plan_pairs(catalog, PairsConfig(relation="cross_domain", seed=seed))
        assert plan.n == 3
        assert len(plan.images) == 6


def test_random_same_category_shares_the_top_category_and_no_concept(make: Any) -> None:
    catalog = make(
        "p q r s t",
        category=["face/happy", "face/sad", "face/sad", "food/fruit", "face/sad"],
        concept=["grin", "cry", "cry", "apple", None],
    )
    assert seen(catalog, relation="random_same_category") == {"p": {"q", "r"}, "q": {"p"}, "r": {"p"}}


def test_augmented_pairs_every_image_with_itself(make: Any) -> None:
    catalog = make("z a m")
    for mode in ("fixed", "redrawn"):
        plan = plan_pairs(catalog, PairsConfig(relation="augmented", mode=mode))
        assert pairs_of(plan) == [("a", "a"), ("m", "m"), ("z", "z")]
        assert plan.images.tolist() == [0, 1, 2]
        assert len(set(plan.meaning.tolist())) == 3


def test_no_pair_crosses_splits(make: Any) -> None:
    catalog = make("a b c d e", category=["k"] * 5, split=["train", "test", "train", None, None])
    assert seen(catalog, relation="same_category") == {"a": {"c"}, "c": {"a"}, "d": {"e"}, "e": {"d"}}


def test_equal_pictures_are_never_partners(make: Any) -> None:
    # b and c are one file; c and d decode alike: all three are one picture.
    catalog = make(
        "a b c d", category=["k"] * 4, file_hash=["1", "2", "2", "3"], pixel_hash=[None, None, "p", "p"]
    )
    assert seen(catalog, relation="same_category") == {
        "a": {"b", "c", "d"},
        "b": {"a"},
        "c": {"a"},
        "d": {"a"},
    }
    assert plan_pairs(catalog, PairsConfig(relation="same_category")).n == 1


def test_equal_pictures_under_two_concepts_are_never_partners(make: Any) -> None:
    catalog = make(
        "man woman other",
        category=["people/x"] * 3,
        concept=["man", "woman", "child"],
        file_hash=["1", "1", "2"],
    )
    assert seen(catalog, relation="random_same_category") == {
        "man": {"other"}, "woman": {"other"}, "other": {"man", "woman"},
    }  # fmt: skip


def test_meaning_is_what_the_relation_shares(drawings: Catalog) -> None:
    for relation, column, kinds in [
        ("cross_domain", lambda c, k: c, 12),
        ("same_category", lambda c, k: k, 6),
        ("sibling", lambda c, k: k.split("/")[0], 2),
        ("random_same_category", lambda c, k: k.split("/")[0], 2),
        ("augmented", lambda c, k: c, 12),
    ]:
        plan = plan_pairs(drawings, PairsConfig(relation=relation))
        rows = plan.epoch(0).anchor
        concept, category = drawings.column("concept")[rows], drawings.column("category")[rows]
        shared = [column(c, k) for c, k in zip(concept, category, strict=True)]
        assert len(set(shared)) == kinds == len(set(plan.meaning.tolist()))
        assert len(set(zip(shared, plan.meaning.tolist(), strict=True))) == kinds


def test_fixed_partners_of_a_large_group_are_mixed_well(make: Any) -> None:
    # Forty images of each of five concepts: ten kinds of pairs, ten pairs each if at random.
    ids = [f"{i:03d}" for i in range(200)]
    catalog = make(ids, category=["k"] * 200, concept=[f"c{i % 5}" for i in range(200)])
    plan = plan_pairs(catalog, PairsConfig(relation="random_same_category"))
    assert plan.n == 100
    kinds = Counter(frozenset((int(a) % 5, int(b) % 5)) for a, b in pairs_of(plan))
    assert len(kinds) == 10
    assert all(2 <= count <= 22 for count in kinds.values())
    first = sum(a < b for a, b in pairs_of(plan))
    assert 30 <= first <= 70  # which of the two is the anchor is drawn, too


def test_limits_are_exact_and_nested(drawings: Catalog) -> None:
    full = unordered(plan_pairs(drawings, PairsConfig(relation="cross_domain")))
    assert len(full) == 12  # three domains: one pair a concept, one image left over
    before: set[frozenset[str]] = set()
    for count in (3, 7, 11, 50):
        now = unordered(plan_pairs(drawings, PairsConfig(relation="cross_domain", count=count)))
        assert len(now) == min(count, 12)
        assert before <= now <= full
        before = now
    plan = plan_pairs(drawings, PairsConfig(relation="cross_domain", per_class=1))
    assert plan.class_histogram() == {f"top{i % 2}/leaf{i}": 1 for i in range(6)}
    assert plan_pairs(drawings, PairsConfig(relation="augmented", per_class=2, count=9)).n == 9


def test_limited_pools_keep_a_partner_for_every_image(drawings: Catalog) -> None:
    plan = plan_pairs(drawings, PairsConfig(relation="cross_domain", mode="redrawn", count=10))
    concepts = Counter(drawings.column("concept")[plan.epoch(0).anchor])
    assert sorted(concepts.values()) == [2] * 5  # a pair of each class, as far as they go
    assert len(plan.class_histogram()) == 5
    whole = plan_pairs(drawings, PairsConfig(relation="cross_domain", mode="redrawn", count=20))
    concepts = Counter(drawings.column("concept")[whole.epoch(0).anchor])
    assert len(whole.class_histogram()) == 6 and min(concepts.values()) >= 2 and 3 in concepts.values()
    plan = plan_pairs(drawings, PairsConfig(relation="same_category", mode="redrawn", count=11))
    assert plan.n == 10
    classes = plan_pairs(drawings, PairsConfig(relation="same_category", mode="redrawn", per_class=3))
    assert set(classes.class_histogram().values()) == {2}
    with pytest.raises(UserError, match=r"pairs.count must be at least 2 for redrawn pairs, got 1"):
        plan_pairs(drawings, PairsConfig(relation="same_category", mode="redrawn", count=1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_limited_pools_keep_every_class_there_is_room_for(make: Any, data: st.DataObject) -> None:
    n = data.draw(st.integers(8, 60))
    numbers = data.draw(st.lists(st.integers(0, 10**6), min_size=n, max_size=n))
    category = [f"top{x % 2}/leaf{x // 2 % 4}" for x in numbers]
    catalog = make(
        [f"{i:02d}" for i in range(n)],
        category=category,
        concept=[f"{name}-{x // 8 % 4}" for name, x in zip(category, numbers, strict=True)],
        domain=["aaab"[x // 32 % 4] + "c" * (x // 128 % 7 == 0) for x in numbers],
    )
    relation = data.draw(
        st.sampled_from(["same_category", "sibling", "cross_domain", "random_same_category"])
    )
    try:
        full = plan_pairs(catalog, PairsConfig(relation=relation, mode="redrawn")).class_histogram()
    except UserError:
        return  # no pair at all
    count = data.draw(st.none() | st.integers(2 * len(full), n + 9))
    per_class = data.draw(st.none() | st.integers(2, 7))
    config = PairsConfig(relation=relation, mode="redrawn", count=count, per_class=per_class, seed=n)
    plan = plan_pairs(catalog, config)
    found = plan.class_histogram()
    assert set(found) == set(full)
    assert plan.n <= (count or n) and max(found.values()) <= (per_class or n)
    if count is None and per_class is not None:  # at most one image a class is left over
        assert all(found[name] >= min(per_class, full[name]) - 1 for name in full)


def test_images_without_a_partner_take_no_place_in_a_limited_pool(make: Any) -> None:
    # Ten concepts in two domains; thirty more that only one domain has.
    concept = [f"c{i}" for i in range(10)] * 2 + [f"lone{i}" for i in range(30)]
    catalog = make(
        [f"{i:02d}" for i in range(50)], concept=concept, domain=["x"] * 10 + ["y"] * 10 + ["x"] * 30
    )
    assert plan_pairs(catalog, PairsConfig(relation="cross_domain", mode="redrawn", count=20)).n == 20


@pytest.mark.parametrize(
    ("relation", "columns", "message"),
    [
        ("same_category", {}, r"relation same_category needs the column 'category', which no image"),
        ("sibling", {}, r"relation sibling needs the column 'category'"),
        ("sibling", {"category": ["a", "b", "c"]}, r"needs category paths more than 1 deep"),
        ("cross_domain", {"domain": ["a", "b", "c"]}, r"needs the column 'concept'"),
        ("cross_domain", {"concept": ["a", "a", "a"]}, r"needs the column 'domain'"),
        ("random_same_category", {"category": ["a", "a", "a"]}, r"needs the column 'concept'"),
        ("same_category", {"category": ["a", "b", "c"]}, r"finds no pair in 3 images: no category has two"),
        ("sibling", {"category": ["a/b", "a/b", "c/d"]}, r"sibling\(1\) finds no pair"),
        (
            "cross_domain",
            {"concept": ["a", "a", "b"], "domain": ["x", "x", "y"]},
            r"no concept has different",
        ),
        (
            "random_same_category",
            {"category": ["a", "b", "c"], "concept": ["x", "y", "z"]},
            "no top category",
        ),
        ("same_category", {"category": ["a", "a//b", "a"], "concept": ["x"] * 3}, None),
    ],
)
@pytest.mark.parametrize("mode", ["fixed", "redrawn"])
def test_what_is_missing_is_said_in_one_line(
    make: Any, relation: Any, columns: dict[str, Any], message: str | None, mode: Any
) -> None:
    catalog = make("p q r", **columns)
    config = PairsConfig(relation=relation, mode=mode)
    if message is None:
        assert plan_pairs(catalog, config).n in (1, 2)
        return
    with pytest.raises(UserError, match=message) as caught:
        plan_pairs(catalog, config)
    assert "\n" not in str(caught.value)


def test_an_empty_catalogue_and_an_unknown_domain_column_are_refused(make: Any) -> None:
    with pytest.raises(UserError, match="the catalogue has none"):
        plan_pairs(make([]), PairsConfig(relation="augmented"))
    catalog = make("p q", concept=["a", "a"], domain=["x", "y"])
    with pytest.raises(UserError, match="did you mean 'domain'"):
        plan_pairs(catalog, PairsConfig(relation="cross_domain", domain_column="domian"))
    with pytest.raises(UserError, match="per_class needs a category or concept"):
        plan_pairs(make("p q"), PairsConfig(relation="augmented", per_class=1))


def test_domain_column_may_hold_numbers(make: Any) -> None:
    catalog = make("p q", concept=["a", "a"], year=[1999, 2001])
    assert plan_pairs(catalog, PairsConfig(relation="cross_domain", domain_column="year")).n == 1


def test_a_configuration_is_that_of_its_relation() -> None:
    assert len(RELATIONS.names()) == 7
    for name in RELATIONS.names():
        own = {"listed": {"file": "x.csv"}, "neighbour": {"embeddings": "x.parquet"}}.get(name, {})
        config = PairsConfig(relation=name, **own)
        assert type(config) is RELATIONS.get(name) and config.relation == name
        assert validate(PairsSection, {"pairs": config.model_dump(mode="json")}).pairs == config
        assert len(config.description.split()) > 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arm": "image_matched", "mode": "redrawn"}, "both arms show the same images"),
        ({"mixed": 0.5, "corrupted": 0.5}, "must be left out where mixed is given"),
        ({"file": "list.csv"}, "pairs.file is not a known key"),
        ({"relation": "listed"}, "pairs.file is required"),
        ({"mixed": 1.5}, r"must be in \[0, 1\] all through training, got 1.5"),
        ({"relation": "sibling", "depth": 0}, "greater than or equal to 1"),
        ({"seed": 2**32}, "less than"),
        ({"relations": "x"}, "did you mean 'relation'"),
        ({"relation": "cros_domain"}, r"pairs.relation is unknown.*did you mean 'cross_domain'"),
    ],
)
def test_configurations_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(PairsSection, {"pairs": {"relation": "cross_domain", **fields}})


def test_without_concepts_a_category_is_paired_across_domains(make: Any) -> None:
    """The layout of PACS, Office-Home and DomainNet: one folder a domain, one a class inside."""
    from sempairs.pairs.stats import pair_stats, summary
    from sempairs.pairs.table import PairSet

    catalog = make(
        "photo/dog1 photo/dog2 sketch/dog1 sketch/dog2 photo/cat sketch/cat photo/owl",
        category=["dog", "dog", "dog", "dog", "cat", "cat", "owl"],
        domain=["photo", "photo", "sketch", "sketch", "photo", "sketch", "photo"],
    )
    expected = {
        "photo/dog1": {"sketch/dog1", "sketch/dog2"},
        "photo/dog2": {"sketch/dog1", "sketch/dog2"},
        "sketch/dog1": {"photo/dog1", "photo/dog2"},
        "sketch/dog2": {"photo/dog1", "photo/dog2"},
        "photo/cat": {"sketch/cat"},
        "sketch/cat": {"photo/cat"},
    }
    for meaning in (None, "category"):
        assert seen(catalog, relation="cross_domain", meaning=meaning) == expected
    plan = plan_pairs(catalog, PairsConfig(relation="cross_domain"))
    assert plan.n == 3 and plan.class_histogram() == {"cat": 1, "dog": 2}
    limited = plan_pairs(catalog, PairsConfig(relation="cross_domain", mode="redrawn", per_class=2))
    assert limited.class_histogram() == {"cat": 2, "dog": 2}
    stats = pair_stats(PairSet.build(catalog, PairsConfig(relation="cross_domain")))
    assert stats.shared == "category"
    assert summary(stats)[0] == ("relation", "cross_domain of one category, fixed, semantic arm")
    with pytest.raises(UserError, match="needs the column 'concept', which no image"):
        plan_pairs(catalog, PairsConfig(relation="cross_domain", meaning="concept"))


def test_where_there_are_concepts_they_are_what_domains_share(make: Any) -> None:
    catalog = make("a b c d", category=["k"] * 4, concept=["x", "x", "y", "y"], domain=["1", "2", "1", "2"])
    assert unordered(plan_pairs(catalog, PairsConfig(relation="cross_domain"))) == {
        frozenset("ab"),
        frozenset("cd"),
    }
    wide = seen(catalog, relation="cross_domain", meaning="category")
    assert wide == {"a": {"b", "d"}, "b": {"a", "c"}, "c": {"b", "d"}, "d": {"a", "c"}}


def test_any_column_may_be_the_domain(make: Any) -> None:
    days = [20.5, 20.5, 24.0, None]
    catalog = make(
        "a b c d", concept=["x"] * 4, seen_on=days, tags=[["t"]] * 4, night=[True, False, True, None]
    )
    plan = plan_pairs(catalog, PairsConfig(relation="cross_domain", domain_column="seen_on"))
    assert plan.n == 1 and "c" in next(iter(unordered(plan)))
    night = seen(catalog, relation="cross_domain", domain_column="night")
    assert night == {"a": {"b"}, "b": {"a", "c"}, "c": {"b"}}
    with pytest.raises(
        UserError, match=r"^catalog.tags must hold texts or numbers to pair images by, got 'list"
    ):
        plan_pairs(catalog, PairsConfig(relation="cross_domain", domain_column="tags"))
    with pytest.raises(UserError, match=r"^pairs.domain_column must differ from what the images share"):
        plan_pairs(catalog, PairsConfig(relation="cross_domain", domain_column="concept"))
