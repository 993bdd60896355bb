"""What is compared between the two arms, what may differ, and what withholds a result."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempairs.study.certificate import (
    MEASURED,
    check_pair,
    compare_records,
    declared,
    flatten,
)

RECORD = {
    "pairs": {"arm": "semantic", "manifest_hash": "m1", "anchor_hash": "a", "images": 20, "per_epoch": 10},
    "optimiser": {"lr": 0.1},
    "threads": 1,
}


def check(left, right, may_differ=("pairs.arm",)):
    return check_pair(left, right, may_differ, contrast="s − a", method="simclr", seed=0)


def changed(**values):
    record = copy.deepcopy(RECORD)
    for key, value in values.items():
        *sections, last = key.split("__")
        place = record
        for section in sections:
            place = place[section]
        place[last] = value
    return record


def test_the_partner_may_differ_and_what_follows_from_it():
    control = changed(pairs__arm="augmented", pairs__manifest_hash="m2", pairs__images=10)
    found = check(RECORD, control)
    assert found.undeclared == {}
    assert found.allowed == {
        "pairs.arm": ("semantic", "augmented"),
        "pairs.images": (20, 10),
        "pairs.manifest_hash": ("m1", "m2"),
    }
    assert found.matched == ("optimiser.lr", "pairs.anchor_hash", "pairs.per_epoch", "threads")


def test_anchors_never_follow_from_the_partner():
    found = check(RECORD, changed(pairs__arm="augmented", pairs__anchor_hash="b"))
    assert set(found.undeclared) == {"pairs.anchor_hash"}
    declared_too = check(
        RECORD, changed(pairs__arm="augmented", pairs__anchor_hash="b"), ("pairs.arm", "pairs.anchor_hash")
    )
    assert declared_too.undeclared == {}


def test_another_semantic_set_follows_from_another_relation_not_from_another_arm():
    treatment = changed(pairs__relation="sibling", pairs__manifest_hash="m2", pairs__semantic_hash="s2")
    control = changed(pairs__relation="cross_domain", pairs__semantic_hash="s1")
    assert check(treatment, control, ("pairs.relation",)).undeclared == {}
    control["pairs"] |= {"arm": "augmented", "relation": "sibling"}
    assert set(check(treatment, control).undeclared) == {"pairs.semantic_hash"}


@pytest.mark.parametrize(
    ("field", "values", "fact"),
    [
        ("sampler.name", ("distinct_meanings", "shuffled"), "schedule.steps_per_epoch"),
        ("objective.heads", ("two", "one"), "initial_weights.method"),
    ],
)
def test_what_a_sampler_and_a_second_head_bring_with_them_follows(field, values, fact):
    section, name = field.split(".")
    records = [RECORD | {section: {name: value}} | _nested(fact, value) for value in values]
    assert check(*records, (field,)).undeclared == {}
    assert fact in check(*records, (field,)).allowed
    assert set(check(*records).undeclared) == {field, fact}


def _nested(fact, value):
    section, _, name = fact.partition(".")
    return {section: {**RECORD.get(section, {}), name: value}}


def test_the_number_of_crops_never_follows():
    records = [
        RECORD | {"objective": {"name": name}, "crops_per_pair": n} for name, n in (("joint", 3), ("pair", 2))
    ]
    assert set(check(*records, ("objective",)).undeclared) == {"crops_per_pair"}
    assert check(*records, ("objective", "crops_per_pair")).undeclared == {}


@pytest.mark.parametrize("fact", ["crops_per_pair", "processes", "data.pixels", "pairs.semantic_hash"])
def test_every_measured_fact_can_be_declared(fact):
    assert declared(fact, MEASURED)


def test_a_fact_only_one_run_has_is_a_difference():
    control = changed()
    del control["threads"]
    assert check(RECORD, control).undeclared == {"threads": (1, "absent")}


@given(
    st.sampled_from(["pairs__anchor_hash", "optimiser__lr", "threads", "pairs__per_epoch"]),
    st.integers(50, 99),
)
def test_any_undeclared_change_is_named(field, value):
    found = check(RECORD, changed(**{field: value}))
    assert list(found.undeclared) == [field.replace("__", ".")]


def test_a_section_declares_all_inside_it_but_no_namesake():
    assert declared("optimiser.lr", ["optimiser"])
    assert not declared("optimiser_two.lr", ["optimiser"])


def test_flatten_and_compare():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}
    assert compare_records({"x": 1, "y": 2}, {"x": 1, "y": 3}) == {"y": (2, 3)}
