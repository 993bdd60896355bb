"""The transfer suite on tiny sets in the format of the originals: splits, labels, metrics, what breaks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sempairs.catalog.sources import open_source
from sempairs.cli.main import run
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.records import read_results
from sempairs.evaluation.tasks import TASKS, Classification, MultiLabel
from sempairs.evaluation.tasks.transfer import DATASETS
from sempairs.evaluation.transfer import evaluate_transfer, look

QUICK = EvaluationConfig(lambdas=2, knn=(), svm_costs=(1.0,))
FRUIT = ("aquatic_mammals/beaver", "fruit_and_vegetables/apple", "fruit_and_vegetables/pear",
         "large_carnivores/bear", "large_carnivores/leopard", "large_carnivores/lion")  # fmt: skip

# Task: images to fit on, to choose λ on, to score; classes; the metric that the papers give.
EXPECTED: dict[str, tuple[tuple[int, int, int], tuple[str, ...], str]] = {
    "aircraft": ((12, 4, 6), ("707-320", "F-A-18"), "mean_per_class_accuracy"),
    "birdsnap": ((12, 2, 6), ("Blue_Jay", "Common_Loon"), "accuracy"),
    "caltech101": ((72, 18, 10), ("BACKGROUND_Google", "ant", "crab"), "mean_per_class_accuracy"),
    "cars": (
        (10, 2, 6), ("AM General Hummer SUV 2000", "Ram C-V Cargo Van Minivan 2012"), "accuracy",
    ),
    "cifar10": ((24, 6, 6), ("airplane", "automobile", "bird"), "accuracy"),
    "cifar100": ((48, 12, 18), FRUIT, "accuracy"),
    "cifar100-coarse": ((48, 12, 18), FRUIT, "fine_within_coarse_accuracy"),
    "dtd": ((8, 6, 6), ("banded", "blotchy"), "accuracy"),
    "flowers": ((12, 6, 12), ("001", "002", "003"), "mean_per_class_accuracy"),
    "food": ((16, 4, 8), ("apple_pie", "pad_thai"), "accuracy"),
    "imagenet": ((16, 4, 6), ("n01440764", "n02084071"), "accuracy"),
    "pets": ((16, 4, 8), ("Abyssinian", "American Bulldog"), "mean_per_class_accuracy"),
    "sun397": ((15, 3, 12), ("abbey", "apartment_building/outdoor", "zen_garden"), "accuracy"),
    "voc07": ((14, 14, 12), ("cat", "dog"), "mean_average_precision_11"),
}  # fmt: skip


@pytest.fixture(scope="session")
def sets(published: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = published.make_all(tmp_path_factory.mktemp("published"))
    return made


def posed(name: str) -> tuple[Any, Any]:
    """The problem of a task, and its catalogue."""
    task = TASKS.get(name)
    catalog = open_source(task.source).scan().catalog
    return task.build(catalog, QUICK), catalog


def test_every_set_of_the_suite_is_tested() -> None:
    assert {task for one in DATASETS for task in one.tasks} == {f"transfer-{name}" for name in EXPECTED}


@pytest.mark.parametrize("name", EXPECTED)
def test_splits_labels_and_metric(name: str, sets: Path) -> None:
    counts, classes, metric = EXPECTED[name]
    problem, catalog = posed(f"transfer-{name}:{sets}")
    assert isinstance(problem, Classification | MultiLabel)
    (fold,) = problem.folds
    parts = fold.fit, fold.validation, fold.test
    assert tuple(map(len, parts)) == counts
    assert len(np.unique(np.concatenate(parts))) == sum(counts)
    assert problem.classes == classes
    assert TASKS.get(f"transfer-{name}:{sets}").metric == metric
    # The makers colour each class: the mean colour of a picture says which it is.
    source = open_source(TASKS.get(f"transfer-{name}:{sets}").source)
    means = np.array([
        np.asarray(source.open_image(uri)).mean(axis=(0, 1)) for uri in catalog.column("uri")[problem.scored]
    ])  # fmt: skip
    labels = problem.labels[problem.scored]
    labels = labels[:, 1] if isinstance(problem, MultiLabel) else labels
    for label in np.unique(labels):
        own, other = means[labels == label], means[labels != label]
        centre = own.mean(axis=0)
        assert np.linalg.norm(own - centre, axis=1).max() < np.linalg.norm(other - centre, axis=1).min()


def stems(catalog: Any, rows: np.ndarray) -> set[str]:
    return {Path(uri).stem for uri in catalog.column("uri")[rows]}


def test_published_lists_are_followed(sets: Path) -> None:
    for name, folder, file, suffix in (
        ("dtd", "dtd/dtd/labels", "train1.txt", "fit"),
        ("dtd", "dtd/dtd/labels", "val1.txt", "validation"),
        ("dtd", "dtd/dtd/labels", "test1.txt", "test"),
        ("sun397", "SUN397/Partitions", "Testing_01.txt", "test"),
        ("birdsnap", "birdsnap", "test_images.txt", "test"),
        ("pets", "oxford-iiit-pet/annotations", "test.txt", "test"),
        ("aircraft", "fgvc-aircraft-2013b/data", "images_variant_val.txt", "validation"),
    ):
        problem, catalog = posed(f"transfer-{name}:{sets}")
        listed = {Path(line.split()[0]).stem for line in (sets / folder / file).read_text().splitlines()}
        assert stems(catalog, getattr(problem.folds[0], suffix)) == listed - {"path"}
    problem, catalog = posed(f"transfer-flowers:{sets}")
    assert stems(catalog, problem.folds[0].validation) == {f"image_{i:05d}" for i in range(13, 19)}
    assert len(open_source(f"dataset:sun397:{sets}").scan().catalog) == 30  # of 36 on disk


def test_caltech_fits_thirty_of_each_class_and_copies_stay_together(published: Any, tmp_path: Path) -> None:
    published.caltech101(tmp_path)
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    for number in range(1, 7):  # every one of six pictures twice
        shutil.copy(
            folder / "crab" / f"image_{number:04d}.jpg", folder / "crab" / f"image_{number + 50:04d}.jpg"
        )
    problem, catalog = posed(f"transfer-caltech101:{tmp_path}")
    tests = []
    for seed in range(8):
        problem = TASKS.get(f"transfer-caltech101:{tmp_path}").build(catalog, EvaluationConfig(seed=seed))
        (fold,) = problem.folds
        learn = np.concatenate([fold.fit, fold.validation])
        count = np.bincount(problem.labels[learn])
        assert count[:2].tolist() == [30, 30]
        assert 29 <= count[2] <= 30
        assert len(learn) + len(fold.test) == len(catalog)  # none had to be left out
        assert not set(problem.units[learn]) & set(problem.units[fold.test])
        tests.append(frozenset(fold.test))
    assert len(set(tests)) == 8


def test_voc_counts_difficult_objects_neither_way(sets: Path) -> None:
    problem, catalog = posed(f"transfer-voc07:{sets}")
    names = [f"VOC2007/{number:06d}" for number in (0, 1, 4, 6)]
    rows = [catalog.column("image_id").tolist().index(name) for name in names]
    assert problem.labels[rows].tolist() == [[1, 0], [0, 1], [1, -1], [1, -1]]


def test_a_set_may_lie_under_its_short_name(published: Any, tmp_path: Path) -> None:
    published.dtd(tmp_path / "dtd")
    published.cifar10(tmp_path / "cifar10")
    published.caltech101(tmp_path / "caltech101")
    published.voc07(tmp_path / "voc07")
    found, missing = look(tmp_path)
    assert {one.name for one in found} == {"dtd", "cifar10", "caltech101", "voc07"}
    assert len(found) + len(missing) == len(DATASETS) == 13
    for name in ("dtd", "cifar10", "caltech101", "voc07"):
        assert len(posed(f"transfer-{name}:{tmp_path}")[0].scored) == EXPECTED[name][0][2]


# The suite ----------------------------------------------------------------------------------------


def test_everything_that_is_found_is_scored(sets: Path, encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    report = evaluate_transfer(encoder, sets, out, config=QUICK)
    assert report.complete
    assert not report.missing
    assert read_results(out) == list(report.results)
    primary = {result.task: result for result in report.results if result.primary}
    assert set(primary) == {f"transfer-{name}:{sets}" for name in EXPECTED}
    for name, (counts, _, metric) in EXPECTED.items():
        result = primary[f"transfer-{name}:{sets}"]
        assert (result.metric, result.n) == (metric, counts[2] - 3 * (name == "cifar100-coarse"))
        assert result.value > 0.6, name  # colours; chance is a half at most
    assert primary[f"transfer-cifar100-coarse:{sets}"].extra["chance"] == pytest.approx((6 / 2 + 9 / 3) / 15)


def broken(published: Any, root: Path) -> None:
    """Three sets: one without its split, one with half a picture, one whole."""
    for make in (published.dtd, published.pets, published.food):
        make(root)
    (root / "dtd" / "dtd" / "labels" / "val1.txt").unlink()
    half = root / "oxford-iiit-pet" / "images" / "Abyssinian_3.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(half)
    half.write_bytes(half.read_bytes()[:1500])


def command(encoder: Path, root: Path, out: Path) -> list[str]:
    quick = ["--set", "lambdas=2", "--set", "knn=[]", "--device", "cpu"]
    return [
        "evaluate",
        str(encoder),
        "--suite",
        "transfer",
        "--data-root",
        str(root),
        "--out",
        str(out),
        *quick,
    ]


def test_a_broken_set_does_not_stop_the_others(
    published: Any, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(published, tmp_path)
    out = tmp_path / "r.jsonl"
    assert run(command(encoder, tmp_path, out)) == 1
    shown = capsys.readouterr()
    scored = {result.task: result for result in read_results(out)}
    assert set(scored) == {f"transfer-food:{tmp_path}", f"transfer-pets:{tmp_path}"}
    assert scored[f"transfer-pets:{tmp_path}"].extra["unreadable"] == 1
    half, failed = (line for line in shown.err.splitlines() if not line.startswith("note: "))
    assert half == "incomplete: transfer-pets: 1 images cannot be read, and were left out"
    assert failed.startswith("failed: transfer-dtd: ")
    assert "val1.txt" in failed
    assert "Traceback" not in shown.err
    assert f"not found under {tmp_path}:" in shown.out
    line = next(line for line in shown.out.splitlines() if line.startswith("  transfer-sun397 "))
    assert f"{tmp_path}/SUN397/ with" in line
    assert "Training_01.txt" in line
    assert sum(line.startswith("  transfer-") for line in shown.out.splitlines()) == 10


def test_absent_images_are_said(
    published: Any, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published.birdsnap(tmp_path)
    (tmp_path / "birdsnap" / "images" / "Blue_Jay" / "1.jpg").unlink()
    assert run(command(encoder, tmp_path, tmp_path / "r.jsonl")) == 1
    assert "incomplete: transfer-birdsnap: 1 images cannot be read" in capsys.readouterr().err
    assert read_results(tmp_path / "r.jsonl")[0].n == 5


def test_nothing_found_and_other_mistakes_are_one_line(
    published: Any, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, empty = tmp_path / "r.jsonl", tmp_path / "empty"
    empty.mkdir()
    asked = command(encoder, empty, out)
    for arguments, says in (
        (asked, "--data-root must hold a set of the transfer suite, and has none of 13"),
        (command(encoder, tmp_path / "absent", out), "--data-root must be an existing folder"),
        ([*asked, "--task", "digits"], "--suite names its tasks and data itself"),
        ([arg if arg != "transfer" else "transfr" for arg in asked], "did you mean 'transfer'"),
        (
            [a for a in asked if a not in ("--data-root", str(empty))],
            "needs --data-root, or SEMPAIRS_TRANSFER",
        ),
    ):
        assert run(arguments) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert not out.exists()
    assert not list(empty.iterdir())
    published.food(empty)
    monkeypatch.setenv("SEMPAIRS_TRANSFER_ROOT", str(empty))
    assert run([a for a in asked if a not in ("--data-root", str(empty))]) == 0
    assert {result.task for result in read_results(out)} == {f"transfer-food:{empty}"}


def test_protocols_of_the_suite_are_those_asked_for(published: Any, encoder: Path, tmp_path: Path) -> None:
    published.food(tmp_path)
    published.voc07(tmp_path)
    report = evaluate_transfer(encoder, tmp_path, protocols=["knn-20-0.07"], config=QUICK)
    assert {(r.task, r.protocol) for r in report.results} == {(f"transfer-food:{tmp_path}", "knn-20-0.07")}
    assert report.passed_by == ("transfer-voc07",)
    assert report.complete
    with pytest.raises(UserError, match="must score a set that was found"):
        evaluate_transfer(encoder, tmp_path, protocols=["retrieval-1"], config=QUICK)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("transfer-dtd", "needs a path"),
        ("transfer-dtd:/not/there", "must be an existing path"),
        ("transfer-dtd:{empty}", "task transfer-dtd needs dtd/dtd/ with images/CLASS/"),
        ("transfer-voc07:{empty}", "VOC"),
        ("transfer-cifar100-coarse:{empty}", "needs cifar-100-python/ with train, test, meta"),
        ("transfer-dt", "did you mean 'transfer-dtd'"),
    ],
)
def test_names_that_do_not_hold(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        TASKS.get(name.format(empty=tmp_path))
    assert says in str(error.value)
    assert "\n" not in str(error.value)
