"""Doubt: what it ranks high, against made embeddings whose truth is known and a loop from the formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from sempairs.catalog import Catalog
from sempairs.pairs.audit.centres import margins
from sempairs.pairs.audit.doubt import LIMIT, centred, doubts, standard
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.audit.truth import planted_pairs, ranking
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import PairSet

Vectors = NDArray[np.float32]


def _catalog(make: Any, concepts: int = 60, domains: str = "abcd", **columns: Any) -> Catalog:
    n = concepts * len(domains)
    concept = [f"c{i:03d}" for i in range(concepts) for _ in domains]
    base = {
        "concept": concept,
        "domain": list(domains * concepts),
        "category": [f"top/leaf{i % 10}" for i in range(concepts) for _ in domains],
        "split": ["train"] * n,
    }
    ids = [f"{name}/{domain}" for name, domain in zip(concept, base["domain"], strict=True)]
    return make(ids, **{**base, **columns})


def _vectors(subject: Subject, noise: float, seed: int = 0, width: int = 24) -> Vectors:
    """A direction a concept, each image near it."""
    concept = subject.pairs.index.labels("concept").codes
    draw = np.random.default_rng(seed)
    found = draw.normal(size=(concept.max() + 1, width))[concept]
    found = found + noise * draw.normal(size=found.shape)
    unit: Vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _subject(catalog: Catalog, **config: Any) -> Subject:
    return Subject.of(PairSet.build(catalog, PairsConfig(**{"relation": "cross_domain", **config})))


@pytest.fixture(scope="module")
def corrupted(make: Any) -> Subject:
    return _subject(_catalog(make), corrupted=0.1)


def test_planted_false_pairs_rank_high_without_labels(corrupted: Subject) -> None:
    """Chance would be an average precision near .1 and an enrichment of 1."""
    found = doubts(corrupted, _vectors(corrupted, noise=0.6))
    planted = planted_pairs(corrupted, found)
    assert planted is not None and planted.by_similarity is not None
    assert planted.planted == round(0.1 * len(found.rows))
    assert planted.by_similarity.average_precision > 0.9
    assert planted.by_similarity.enrichment > 8
    assert planted.by_doubt.average_precision > 0.95
    assert planted.planted <= found.count < 1.5 * planted.planted


def test_embeddings_that_know_nothing_find_nothing(corrupted: Subject) -> None:
    found = planted_pairs(corrupted, doubts(corrupted, _vectors(corrupted, noise=1000)))
    assert found is not None and found.by_similarity is not None
    assert found.by_similarity.average_precision < 0.45
    assert found.by_doubt.average_precision > 0.9  # by labels, which contradict planted pairs


def test_a_wrong_label_is_found_though_every_label_agrees(make: Any) -> None:
    """Images that carry another concept's name, as a join by name makes them: only similarity can tell."""
    subject = _subject(_catalog(make))
    vectors = _vectors(subject, noise=0.5)
    wrong = subject.anchor[subject.distinct[::15]]
    vectors[wrong] = vectors[(wrong + 40) % len(vectors)]
    found = doubts(subject, vectors)
    first = set(found.rows[: len(wrong)].tolist())
    truth = set(subject.distinct[::15].tolist())
    assert len(first & truth) >= 0.75 * len(truth)
    assert any("anchor is nearer to “c" in line for line in found.evidence[0])


def test_doubt_lies_between_0_and_1_falls_by_rank_and_covers_every_pair(corrupted: Subject) -> None:
    found = doubts(corrupted, _vectors(corrupted, noise=1))
    assert ((found.doubt >= 0) & (found.doubt <= 1)).all() and (np.diff(found.doubt) <= 0).all()
    assert sorted(found.rows.tolist()) == corrupted.distinct.tolist()
    assert len(found.evidence) == len(found.rows)


def test_the_order_of_rows_does_not_matter(corrupted: Subject) -> None:
    pairs = corrupted.pairs
    order = np.random.default_rng(3).permutation(len(pairs))
    facts = pairs.config, pairs.pairs_per_epoch, pairs.catalog_hash, pairs.catalog_images
    other = Subject.of(PairSet(pairs.table.take(order), pairs.catalog, *facts))
    vectors = _vectors(corrupted, noise=1)
    ours, theirs = doubts(corrupted, vectors), doubts(other, vectors)
    assert [corrupted.key(r) for r in ours.rows] == [other.key(r) for r in theirs.rows]
    assert ours.doubt == pytest.approx(theirs.doubt, abs=1e-5)


def test_labels_alone_rank_by_how_rare_the_contradiction_is(make: Any) -> None:
    names = ["red car", "red car", "red car", "blue boat"] * 60
    subject = _subject(_catalog(make, icon=names))
    found = doubts(subject, None)
    assert found.by_similarity is None
    with_boat = sum("icon" in " ".join(lines) for lines in found.evidence)
    share = with_boat / len(found.rows)
    expected = 1 / (1 + math.exp(3 - min(-math.log(share), 3)))
    assert found.doubt[0] == pytest.approx(expected)
    assert found.doubt[-1] == pytest.approx(1 / (1 + math.exp(3)))
    assert found.evidence[0] == ["icon: “red car” and “blue boat”"] or found.evidence[0] == [
        "icon: “blue boat” and “red car”"
    ]


def test_names_that_only_repeat_the_concept_say_nothing(make: Any) -> None:
    names = [f"name {i}" for i in range(60) for _ in "abcd"]
    assert doubts(_subject(_catalog(make, name=names)), None).count == 0


def test_a_meaning_is_called_by_the_one_name_of_its_images(make: Any) -> None:
    names = [f"name {i}" for i in range(60) for _ in "abcd"]
    catalog = _catalog(make, name=names)
    for relation, expected in (("cross_domain", "“name "), ("same_category", "“top/leaf")):
        subject = _subject(catalog, relation=relation, corrupted=0.1)
        found = doubts(subject, _vectors(subject, noise=0.3))
        nearer = [line for lines in found.evidence for line in lines if "nearer" in line]
        assert nearer and all(line.count(expected) == 2 for line in nearer)


def test_contradictions_that_all_pairs_have_say_nothing(make: Any) -> None:
    subject = _subject(_catalog(make, concepts=20), relation="sibling")
    assert doubts(subject, None).doubt == pytest.approx(1 / (1 + math.exp(3)))


def test_margins_are_those_of_a_loop(make: Any) -> None:
    subject = _subject(_catalog(make, concepts=14), corrupted=0.2)
    vectors = _vectors(subject, noise=1)
    found = margins(subject, vectors)
    exact = vectors.astype(float)
    meaning = subject.meaning_of.codes
    for i, row in enumerate(subject.distinct):
        ends = [int(subject.anchor[row]), int(subject.partner[row])]
        claim = meaning[ends[0]]
        best = []
        for image in ends:
            own = [j for j in range(len(exact)) if meaning[j] == claim and j not in ends]
            cosines = {}
            for code in set(meaning) - {claim}:
                members = [j for j in range(len(exact)) if meaning[j] == code and j != image]
                cosines[code] = _cosine(exact[image], exact[members].sum(axis=0))
            best.append(max(cosines.values()) - _cosine(exact[image], exact[own].sum(axis=0)))
        assert found.margin[i] == pytest.approx(max(best), abs=1e-4)
        assert found.side[i] == int(np.argmax(best)) or abs(best[0] - best[1]) < 1e-4


def _cosine(one: Any, other: Any) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_concept_of_the_pair_alone_has_no_margin(make: Any) -> None:
    subject = _subject(_catalog(make, concepts=30, domains="ab"))
    vectors = _vectors(subject, noise=1)
    assert np.isnan(margins(subject, vectors).margin).all()
    assert np.isfinite(doubts(subject, vectors).doubt).all()


@given(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=40), st.floats(-3, 3), st.floats(0.1, 9))
def test_standard_scores_do_not_depend_on_unit_or_origin(
    values: list[float], origin: float, unit: float
) -> None:
    x = np.round(np.array(values), 2)
    group = np.zeros(len(x), dtype=np.int64)
    ours = standard(x, group)
    assert standard(origin + unit * x, group) == pytest.approx(ours, abs=1e-3)


def test_standard_scores_by_the_formula_and_by_group() -> None:
    x = np.array([0.0, 1, 2, 3, 100, 10, 20, 30, np.nan])
    found = standard(x, np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]))
    assert found[:4] == pytest.approx((x[:4] - 2) / 1.4826)
    assert found[4] == pytest.approx(3 + math.log1p(98 / 1.4826 - 3)) and found[5:8] == pytest.approx(
        [-1 / 1.4826, 0, 1 / 1.4826]
    )
    assert np.isnan(found[8])
    assert standard(np.array([1.0, 1, 1, 2]), np.zeros(4, int)).tolist() == [0, 0, 0, LIMIT]


def test_centred_vectors_have_unit_length_or_none() -> None:
    x = np.array([[1, 0], [0, 1], [0.5, 0.5]], dtype=np.float32)
    assert np.linalg.norm(centred(x), axis=1) == pytest.approx([1, 1, 0])


@given(st.lists(st.booleans(), min_size=2, max_size=60).filter(any), st.randoms(use_true_random=False))
def test_average_precision_is_scikit_learns(false: list[bool], random: Any) -> None:
    score = np.array(random.sample(range(1000), len(false))) / 1000
    found = ranking(np.array(false), score)
    assert found.average_precision == pytest.approx(average_precision_score(false, score))


def test_ties_count_against_a_ranking() -> None:
    assert ranking(np.array([True, False, False, False]), np.zeros(4)).average_precision == 0.25


def test_sets_without_planted_pairs_have_no_such_number(make: Any) -> None:
    subject = _subject(_catalog(make, concepts=12))
    assert planted_pairs(subject, doubts(subject, None)) is None
