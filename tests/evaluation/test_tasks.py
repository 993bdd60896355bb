"""Tasks: which images are fitted on and scored, with what labels, and the errors of their names."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols import PROTOCOLS
from sempairs.evaluation.tasks import TASKS, Classification, Retrieval
from sempairs.evaluation.tasks.split import joined, unit_names

Emoji = tuple[str, Catalog]
DEFAULT = EvaluationConfig()


def classification(
    name: str, catalog: Catalog, config: EvaluationConfig = DEFAULT, data: str = ""
) -> Classification:
    task = TASKS.get(name)
    problem = task.build(catalog, config)
    assert isinstance(problem, Classification)
    return problem


def ids(catalog: Catalog, rows: np.ndarray) -> set[str]:
    return {str(i) for i in catalog.column("image_id")[rows]}


# Every registered task ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def examples(
    drawings: Path, textures: Path, published: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """A name to ask each family by, with a small data set where it takes a path."""
    root = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    for split, n in (("train", 60), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n, dtype=np.uint8) % 10
        (root / "fashion").mkdir(exist_ok=True)
        with gzip.open(root / "fashion" / f"{split}-images-idx3-ubyte.gz", "wb") as handle:
            handle.write(struct.pack(">IIII", 0x803, n, 28, 28) + images.tobytes())
        with gzip.open(root / "fashion" / f"{split}-labels-idx1-ubyte.gz", "wb") as handle:
            handle.write(struct.pack(">II", 0x801, n) + labels.tobytes())
    return {name: name for name, family in TASKS.families().items() if ":" not in family.example} | {
        "fashion-mnist": f"fashion-mnist:{root / 'fashion'}",
        "stamps": f"stamps:{drawings}",
        "texture-pairs": f"texture-pairs:{textures}",
        "corruptions": f"corruptions:folder:{drawings}",
        "coarse-to-fine": f"coarse-to-fine:folder:{drawings}",
        **published.examples(root / "published"),
    }


def test_every_family_has_an_example_here(examples: dict[str, str]) -> None:
    assert set(examples) == set(TASKS.names())


@pytest.mark.parametrize("family", TASKS.names())
def test_every_task_says_what_it_is(family: str, examples: dict[str, str]) -> None:
    task = TASKS.get(examples[family])
    assert task.name == examples[family]
    assert task.metric in PROTOCOLS.get(task.protocol).metrics
    assert set(task.beside) <= set(PROTOCOLS.names())
    assert task.rule["task"] == family
    assert "version" in task.rule


@pytest.mark.parametrize("family", TASKS.names())
def test_every_task_has_disjoint_parts(
    family: str, examples: dict[str, str], emoji: Emoji, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sempairs.evaluation.tasks.emoji.SOURCE", emoji[0])
    task = TASKS.get(examples[family])
    if not {Classification, Retrieval} & set(PROTOCOLS.get(task.protocol).takes):
        return  # problems of other types have tests of their own
    catalog = open_source(task.source).scan().catalog
    problem = task.build(catalog, DEFAULT)
    assert isinstance(problem, PROTOCOLS.get(task.protocol).takes)
    assert len(problem.scored) > 0
    units = problem.units
    if isinstance(problem, Classification):
        for fold in problem.folds:
            parts = [set(units[rows]) for rows in (fold.fit, fold.validation, fold.test)]
            assert all(parts)
            assert not (parts[0] | parts[1]) & parts[2]
            assert (problem.labels[np.concatenate([fold.fit, fold.validation, fold.test])] >= 0).all()
    else:
        assert isinstance(problem, Retrieval)
        assert not set(problem.queries) & set(problem.gallery)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("emoji-subgroop", "did you mean 'emoji-subgroup'"),
        ("stamp", "did you mean 'stamps'"),
        ("nothing-like-it", "choose from: coarse-to-fine, corruptions, digits, "),
        ("floder:x", "folder:…"),
        ("digits:8", "takes nothing after a colon"),
        ("emoji-retrieval:x", "takes nothing after a colon"),
        ("stamps", "needs a path"),
        ("stamps:/not/there", "must be an existing path"),
        ("folder:/not/there", "must be an existing path"),
    ],
)
def test_a_name_that_does_not_hold_is_one_line(name: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        TASKS.get(name)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_family_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        TASKS.register("digits", summary="")(lambda rest: TASKS.get("digits"))


# Emoji --------------------------------------------------------------------------------------------


@pytest.fixture
def at_home(emoji: Emoji, monkeypatch: pytest.MonkeyPatch) -> Emoji:
    monkeypatch.setattr("sempairs.evaluation.tasks.emoji.SOURCE", emoji[0])
    return emoji


def test_subgroups_are_fitted_on_seen_designers_training_concepts(at_home: Emoji) -> None:
    catalog = at_home[1]
    split, held_out = catalog.column("split"), catalog.column("held_out")
    seen = classification("emoji-subgroup", catalog)
    unseen = classification("emoji-subgroup-held-out", catalog)
    (fold,), (other,) = seen.folds, unseen.folds
    assert seen.classes == ("animal/cat", "animal/dog", "food/pear")
    assert ids(catalog, fold.fit) == ids(catalog, np.flatnonzero((split == "train") & ~held_out))
    assert ids(catalog, fold.validation) == ids(catalog, np.flatnonzero((split == "validation") & ~held_out))
    assert ids(catalog, fold.test) == ids(catalog, np.flatnonzero((split == "test") & ~held_out))
    assert ids(catalog, other.test) == ids(catalog, np.flatnonzero((split == "test") & held_out))
    assert np.array_equal(fold.fit, other.fit)
    assert np.array_equal(fold.validation, other.validation)
    names = np.array(seen.classes, dtype=object)[seen.labels[fold.test]]
    assert np.array_equal(names, catalog.column("category")[fold.test])
    assert (len(fold.fit), len(fold.validation), len(fold.test), len(other.test)) == (36, 18, 18, 9)


def test_retrieval_asks_held_out_designers_and_searches_seen_ones(at_home: Emoji) -> None:
    catalog = at_home[1]
    problem = TASKS.get("emoji-retrieval").build(catalog, DEFAULT)
    assert isinstance(problem, Retrieval)
    assert set(catalog.column("domain")[problem.queries]) == {"mozilla"}
    assert set(catalog.column("domain")[problem.gallery]) == {"google", "twitter"}
    assert set(catalog.column("split")[problem.scored]) == {"test"}
    group, concept = catalog.column("split_group"), catalog.column("concept")
    for query in problem.queries:
        hit = problem.meaning[problem.gallery] == problem.meaning[query]
        gallery = problem.gallery
        expected = (concept[gallery] == concept[query]) | (group[gallery] == group[query])
        assert np.array_equal(hit, expected)
    # Concepts 9 and 10 of a category share a group: their queries have four right answers.
    counts = [int((problem.meaning[problem.gallery] == problem.meaning[q]).sum()) for q in problem.queries]
    assert sorted(counts) == [2] * 3 + [4] * 6


def test_a_query_without_an_answer_is_left_out_and_counted(at_home: Emoji) -> None:
    catalog = at_home[1]
    lonely = (catalog.column("concept") == "food/pear/11") & ~catalog.column("held_out")
    problem = TASKS.get("emoji-retrieval").build(catalog.select(~lonely), DEFAULT)
    assert isinstance(problem, Retrieval)
    assert (len(problem.queries), problem.notes["queries_without_match"]) == (8, 1)


def test_emoji_tasks_need_a_held_out_column(at_home: Emoji, drawings: Path) -> None:
    plain = open_source(f"folder:{drawings}").scan().catalog
    for name in ("emoji-subgroup", "emoji-retrieval"):
        with pytest.raises(UserError, match="column held_out"):
            TASKS.get(name).build(plain, DEFAULT)


def test_another_release_may_stand_in_for_emoji_pairs_only(at_home: Emoji) -> None:
    assert TASKS.get("emoji-subgroup").at("release:x").source == "release:x"
    with pytest.raises(UserError, match="task digits has its own images"):
        TASKS.get("digits").at("release:x")


# Any labelled source ------------------------------------------------------------------------------


def labelled(n: int, **columns: Any) -> Catalog:
    base = {
        "image_id": [f"{i:03d}" for i in range(n)],
        "file_hash": [f"hash {i}" for i in range(n)],
        "uri": [f"{i}" for i in range(n)],
        "width": [1] * n,
        "height": [1] * n,
        "source": ["folder:x"] * n,
    }
    return Catalog.from_columns(base | columns)


def generic(catalog: Catalog, drawings: Path, config: EvaluationConfig = DEFAULT) -> Classification:
    return classification(f"folder:{drawings}", catalog, config)


def test_a_source_without_splits_is_divided_70_15_15(drawings: Path) -> None:
    catalog = labelled(200, category=["a", "b"] * 100)
    (fold,) = generic(catalog, drawings).folds
    assert (len(fold.fit), len(fold.validation), len(fold.test)) == (140, 30, 30)
    again = generic(catalog.select(np.random.default_rng(0).permutation(200)), drawings).folds[0]
    assert len(again.test) == 30
    other = generic(catalog, drawings, EvaluationConfig(seed=1)).folds[0]
    assert set(other.test) != set(fold.test)


def test_given_splits_are_kept_and_validation_is_carved_from_training(drawings: Path) -> None:
    split = ["train"] * 150 + ["test"] * 50
    catalog = labelled(
        200, category=["a", "b"] * 100, split=split, split_group=[f"{i // 4}" for i in range(200)]
    )
    problem = generic(catalog, drawings)
    (fold,) = problem.folds
    assert set(fold.test) == set(range(150, 200))
    assert set(fold.fit) | set(fold.validation) == set(range(150))
    assert 20 <= len(fold.validation) <= 40
    assert not set(problem.units[fold.fit]) & set(problem.units[fold.validation])


def test_fitting_images_are_limited_evenly_and_the_test_is_not(drawings: Path) -> None:
    catalog = labelled(400, category=["a"] * 300 + ["b"] * 96 + ["rare"] * 4)
    (all_of_it,) = generic(catalog, drawings).folds
    problem = generic(catalog, drawings, EvaluationConfig(max_fit_images=40))
    (fold,) = problem.folds
    assert len(fold.fit) + len(fold.validation) == 40
    assert np.array_equal(fold.test, all_of_it.test)
    assert set(fold.fit) < set(all_of_it.fit)
    assert problem.classes == ("a", "b", "rare")
    assert len(fold.fit) / 40 == pytest.approx(0.7 / 0.85, abs=0.06)


def test_images_without_a_label_or_of_unfitted_classes_are_not_scored(drawings: Path) -> None:
    catalog = labelled(
        8,
        category=["a", "b", "a", "b", None, "new", "a", "b"],
        split=["train", "train", "validation", "validation", "train", "test", "test", "test"],
    )
    problem = generic(catalog, drawings)
    (fold,) = problem.folds
    assert (fold.fit.tolist(), fold.test.tolist()) == ([0, 1], [6, 7])
    assert problem.notes["unfitted_class_images"] == 1


@pytest.mark.parametrize(
    ("category", "split", "says"),
    [
        ([None] * 6, None, "must hold categories"),
        (["a"] * 6, None, "two classes"),
        (list("abcdef"), None, "the test split must hold images of classes that are fitted"),
        (["a", "b"] * 3, ["train"] * 6, "the test split"),
        (["a", "b"] * 3, ["test"] * 6, "two classes"),
    ],
)
def test_sources_that_cannot_be_scored_say_why(category: Any, split: Any, says: str, drawings: Path) -> None:
    columns = {"category": category} | ({"split": split} if split else {})
    with pytest.raises(UserError, match=says):
        generic(labelled(6, **columns), drawings)


# Folds --------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 3), n=st.integers(30, 80))
def test_folds_score_every_image_once_a_repeat(seed: int, n: int) -> None:
    labels = [f"{i % 3}" for i in range(n)]
    config = EvaluationConfig(seed=seed, folds=4, repeats=2)
    problem = classification("digits", labelled(n, category=labels), config)
    assert len(problem.folds) == 8
    for repeat in (problem.folds[:4], problem.folds[4:]):
        assert sorted(np.concatenate([fold.test for fold in repeat]).tolist()) == list(range(n))
        for fold in repeat:
            together = np.concatenate([fold.fit, fold.validation, fold.test])
            assert sorted(together.tolist()) == list(range(n))
            assert len(fold.validation) == pytest.approx(n / 4, abs=2)


def test_classes_too_small_for_the_folds_are_left_out_and_counted() -> None:
    catalog = labelled(26, category=["a"] * 11 + ["b"] * 11 + ["few"] * 4)
    problem = classification("digits", catalog)
    assert problem.classes == ("a", "b")
    assert problem.notes["small_class_images"] == 4
    assert set(problem.scored) == set(range(22))
    with pytest.raises(UserError, match="two classes with at least 5 different images"):
        classification("digits", labelled(4, category=["a", "b"] * 2))


def test_folds_obey_the_limit_on_fitting_images() -> None:
    catalog = labelled(100, category=["a", "b"] * 50)
    problem = classification("digits", catalog, EvaluationConfig(max_fit_images=20))
    assert all(len(fold.fit) + len(fold.validation) == 20 for fold in problem.folds)
    assert all(len(fold.validation) in (4, 5, 6) for fold in problem.folds)


def test_images_are_joined_by_any_chain_of_equal_values() -> None:
    catalog = labelled(
        6,
        file_hash=["x", "x", "y", "z", "w", "v"],
        split_group=[None, "g", "g", None, None, None],
        pixel_hash=["p", None, "q", "q", "r", "s"],
    )
    assert unit_names(catalog).tolist() == ["000"] * 4 + ["004", "005"]
    assert joined(catalog, ("split_group",)).tolist()[1] == joined(catalog, ("split_group",)).tolist()[2]


# The sources that belong to tasks -----------------------------------------------------------------


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits")
    catalog = source.scan().catalog
    assert len(catalog) == 1797
    data = load_digits()
    assert catalog.column("category").tolist() == [str(label) for label in data.target]
    for row in (0, 1000, 1796):
        image = np.asarray(source.open_image(str(catalog.column("uri")[row])))
        assert image.shape == (8, 8, 3)
        np.testing.assert_array_equal(image[..., 0], np.round(data.images[row] * 255 / 16))
    from sempairs.catalog.sources import UnreadableImage

    with pytest.raises(UnreadableImage):
        source.open_image("1797")


def test_stamps_take_pngs_with_style_and_mirrors_told_apart(tmp_path: Path) -> None:
    for name in (
        "animals/cat/tabby.png",
        "animals/cat/cartoon/felix.png",
        "town/bus.png",
        "town/bus_mirror.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (4, 6), (len(name), 9, 9, 128)).save(path)
    for extra in ("animals/cat/tabby.txt", "animals/cat/tabby.ogg", "town/bus.dat", "town/house.svg"):
        (tmp_path / extra).write_text("<svg/>")
    (tmp_path / "town" / "broken.png").write_bytes(b"")
    scan = open_source(f"stamps:{tmp_path}").scan()
    rows = {row["uri"]: row for row in scan.catalog.table.to_pylist()}
    assert set(rows) == {
        "animals/cat/tabby.png", "animals/cat/cartoon/felix.png", "town/bus.png", "town/bus_mirror.png",
    }  # fmt: skip
    assert rows["animals/cat/cartoon/felix.png"]["category"] == "animals/cat"
    assert rows["animals/cat/cartoon/felix.png"]["domain"] == "cartoon"
    assert rows["animals/cat/tabby.png"]["domain"] is None
    assert rows["town/bus.png"]["split_group"] == rows["town/bus_mirror.png"]["split_group"] == "town/bus"
    assert rows["town/bus.png"]["image_id"] == "stamps/town/bus.png"
    assert [(p.where, p.reason) for p in scan.problems] == [("town/broken.png", "the file is empty")]
    assert scan.ignored == 4
    assert open_source(f"stamps:{tmp_path}").open_image("town/bus.png").mode == "RGBA"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"must hold \.png stamps"):
        open_source(f"stamps:{tmp_path / 'empty'}").scan()


def test_stamps_are_labelled_by_their_topmost_folder(drawings: Path) -> None:
    task = TASKS.get(f"stamps:{drawings}")
    problem = task.build(open_source(task.source).scan().catalog, DEFAULT)
    assert isinstance(problem, Classification)
    assert problem.classes == ("animal", "food")


def test_a_material_across_games(textures: Path) -> None:
    task = TASKS.get(f"texture-pairs:{textures}")
    catalog = open_source(task.source).scan().catalog
    problem = task.build(catalog, DEFAULT)
    assert isinstance(problem, Classification)
    assert problem.classes == ("dark", "light")
    assert problem.notes == {"games": ["g", "h"], "unshared_material_images": 20}
    game, split, material = (catalog.column(name) for name in ("domain", "split", "concept"))
    assert len(problem.folds) == 2
    for fold, own, other in zip(problem.folds, "gh", "hg", strict=True):
        assert set(game[fold.test]) == {own}
        assert set(game[fold.fit]) == set(game[fold.validation]) == {other}
        assert (split[fold.fit] == "train").all()
        assert (split[fold.validation] == "validation").all()
        assert (split[fold.test] == "test").all()
        assert (len(fold.fit), len(fold.validation), len(fold.test)) == (28, 4, 8)
        classes = np.array(problem.classes)
        for rows in (fold.fit, fold.validation, fold.test):
            assert (classes[problem.labels[rows]] == material[rows]).all()


def test_materials_of_one_game_are_refused(textures: Path) -> None:
    task = TASKS.get(f"texture-pairs:{textures}")
    catalog = open_source(task.source).scan().catalog
    with pytest.raises(UserError, match="must be of two games or more"):
        task.build(catalog.select(catalog.column("domain") == "g"), DEFAULT)
    few = (catalog.column("concept") != "dark") | (catalog.column("domain") == "g")
    with pytest.raises(UserError, match="two materials of which every game trains 2 textures"):
        task.build(catalog.select(few), DEFAULT)
    with pytest.raises(UserError, match="must be an existing path"):
        TASKS.get("texture-pairs:/not/there")
