"""Tasks on object-pairs: which images are scored, and known answers on constructed features."""

from __future__ import annotations

import numpy as np
import pytest

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks import TASKS, Classification, Retrieval
from sempairs.metrics import retrieval_scores

SIDES = ("front", "left", "back")
# Object: kind, name, maker, group, split. Makers "K" are held out.
OBJECTS = {
    "a1": ("office", "chair", "S", "chair", "train"),
    "a2": ("office", "chair", "T", "chair", "train"),
    "a3": ("kitchen", "pan", "S", "pan", "train"),
    "a4": ("kitchen", "pot", "K", "pan", None),
    "b1": ("office", "lamp", "S", "lamp", "validation"),
    "b2": ("kitchen", "mug", "T", "mug", "validation"),
    "c1": ("office", "desk", "S", "desk", "test"),
    "c2": ("office", "desk", "S", "desk", "test"),
    "c3": ("office", "oak desk", "K", "desk", "test"),
    "c4": ("kitchen", "jar", "T", "jar", "test"),
    "c5": ("kitchen", "jar", "U", "jar", "test"),
    "c6": ("kitchen", "oven", "S", "oven", "test"),
}


def rows() -> list[dict[str, object]]:
    return [
        {
            "image_id": f"{key}/{side}", "file_hash": f"{key}{side}".encode().hex().ljust(64, "0"),
            "uri": f"{key}/{side}", "width": 8, "height": 8, "source": "objects",
            "category": f"{kind}/{name}",
            "concept": key, "domain": side, "maker": maker, "held_out": maker == "K", "split_group": group,
            "split": split,
        }
        for key, (kind, name, maker, group, split) in OBJECTS.items()
        for side in SIDES
    ]  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    found = rows()
    return Catalog.from_columns({key: [row[key] for row in found] for key in found[0]}).in_order()


def objects(catalog: Catalog, part: np.ndarray) -> set[str]:
    return set(catalog.column("concept")[part])


@pytest.mark.parametrize(
    ("name", "scored"),
    [("object-kind", {"c1", "c2", "c4", "c5", "c6"}), ("object-kind-held-out", {"c3"})],
)
def test_kinds_of_new_objects(name: str, scored: set[str], catalog: Catalog) -> None:
    problem = TASKS.get(name).build(catalog, EvaluationConfig())
    assert isinstance(problem, Classification)
    (fold,) = problem.folds
    assert objects(catalog, fold.fit) == {"a1", "a2", "a3"}  # a4 is by a held-out maker
    assert objects(catalog, fold.validation) == {"b1", "b2"}
    assert objects(catalog, fold.test) == scored
    assert problem.classes == ("kitchen", "office")
    fitted, tested = set(problem.units[problem.fitted]), set(problem.units[problem.scored])
    assert not fitted & tested


def top1(catalog: Catalog, problem: Retrieval, features: np.ndarray) -> float:
    """Of each query as the protocol scores it."""
    return retrieval_scores(
        features[problem.queries],
        problem.meaning[problem.queries],
        features[problem.gallery],
        problem.meaning[problem.gallery],
    ).top1


def one_hot(values: np.ndarray, noise: float = 0.01) -> np.ndarray:
    """Features that know these values and nothing else."""
    code = np.unique(values.astype(str), return_inverse=True)[1]
    return np.eye(code.max() + 1)[code] + noise * np.random.default_rng(0).standard_normal(
        (len(code), code.max() + 1)
    )


def retrieval(name: str, catalog: Catalog) -> Retrieval:
    problem = TASKS.get(name).build(catalog, EvaluationConfig())
    assert isinstance(problem, Retrieval)
    return problem


def test_an_object_from_another_side(catalog: Catalog) -> None:
    problem = retrieval("object-views", catalog)
    test = {key for key, row in OBJECTS.items() if row[4] == "test"}
    assert objects(catalog, problem.gallery) == objects(catalog, problem.queries) == test
    assert set(catalog.column("domain")[problem.gallery]) == {"front"}
    assert len(problem.queries) == 2 * len(test)
    assert top1(catalog, problem, one_hot(catalog.column("concept"))) == 1
    # What knows kinds, and not objects, finds the right one by chance only.
    assert top1(catalog, problem, one_hot(catalog.column("category"), 0)) < 0.7
    own = np.arange(len(catalog)) % 2
    assert top1(catalog, problem, np.eye(2)[own]) < 0.5


def test_a_name_across_makers(catalog: Catalog) -> None:
    problem = retrieval("object-names", catalog)
    # S has most desks; of the jars one of two equal makers is the gallery's.
    assert objects(catalog, problem.gallery) == {"c1", "c2", "c5", "c6"}
    assert objects(catalog, problem.queries) == {"c3", "c4"}
    maker, group = catalog.column("maker"), catalog.column("split_group")
    for row in problem.queries:
        right = problem.gallery[problem.meaning[problem.gallery] == problem.meaning[row]]
        assert len(right) > 0
        assert (maker[right] != maker[row]).all()
        assert (group[right] == group[row]).all()
    assert top1(catalog, problem, one_hot(group)) == 1
    assert top1(catalog, problem, one_hot(maker)) <= 0.5  # who made it does not tell what it is
    assert problem.notes == {"queries_without_match": 0, "gallery_images": 12}


def test_objects_of_no_group_are_left_out(catalog: Catalog) -> None:
    group, maker = catalog.column("split_group"), catalog.column("maker")
    group[catalog.column("concept") == "c6"] = None
    maker[catalog.column("concept") == "c2"] = None
    other = catalog.with_column("split_group", group).with_column("maker", maker)
    problem = TASKS.get("object-names").build(other, EvaluationConfig())
    assert isinstance(problem, Retrieval)
    assert objects(catalog, problem.gallery) == {"c1", "c5"}  # of equally many, the later name
    assert not objects(catalog, problem.scored) & {"c2", "c6"}


@pytest.mark.parametrize(
    ("name", "column"),
    [("object-kind", "held_out"), ("object-names", "maker")],
)
def test_another_catalogue_is_refused(name: str, column: str, catalog: Catalog) -> None:
    other = Catalog.from_table(catalog.table.drop([column]))
    with pytest.raises(UserError, match=f"must have a column {column}"):
        TASKS.get(name).build(other, EvaluationConfig())


@pytest.mark.parametrize("name", ["object-views", "object-names"])
def test_nothing_to_find_is_told(name: str, catalog: Catalog) -> None:
    without = catalog.with_column("split", ["train"] * len(catalog))
    with pytest.raises(UserError, match="the test split must hold images of one"):
        TASKS.get(name).build(without, EvaluationConfig())
