"""Checks made from the registry of protocols, and how the suite runs those that are asked for."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.folder import FolderSource
from sempairs.cli.main import run
from sempairs.errors import UserError
from sempairs.evaluation import EvaluationConfig, evaluate
from sempairs.evaluation import features as frozen
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.scores import Features
from sempairs.evaluation.target import open_target
from sempairs.evaluation.tasks import TASKS, Classification, Fold, Retrieval
from sempairs.evaluation.tasks.coarse_to_fine import CoarseToFine
from sempairs.evaluation.tasks.invariance import (
    BackgroundInvariance,
    PairInvariance,
    Structure,
    TransformInvariance,
)
from sempairs.testing import check_protocol
from sempairs.testing.protocols import made_up_problem

QUICK = EvaluationConfig(
    lambdas=(0.1, 10.0), epochs=1, steps=2, episodes=3, fine_tune_rates=(0.01,), fine_tune_decays=(0.0,)
)
CLASSIFIERS = [name for name in PROTOCOLS.names() if Classification in PROTOCOLS.get(name).takes]
ISSUED = {
    "linear-1", "linear-moco-1", "linear-simclr-1", "knn-20-0.07", "knn-200-0.1", "low-shot-1", "low-shot-10",
    "fine-tune-1", "few-shot-5-5", "voc07-svm-1", "retrieval-1",
}  # fmt: skip


def test_all_that_are_issued_are_registered() -> None:
    assert set(PROTOCOLS.names()) >= ISSUED


@pytest.mark.parametrize("name", sorted(ISSUED & set(CLASSIFIERS) - {"few-shot-5-5"}))
def test_its_results_carry_its_settings(name: str, encoder: Path, drawings: Path) -> None:
    results = evaluate(encoder, [f"folder:{drawings}"], protocols=[name], config=QUICK)
    assert [r.metric for r in results] == list(PROTOCOLS.get(name).metrics)
    assert {r.protocol for r in results} == {name}
    assert all(0 <= r.value <= 1 for r in results)
    assert [r.primary for r in results] == [name == "linear-1" and r.metric == "accuracy" for r in results]


@pytest.mark.parametrize(
    ("name", "change", "other"),
    [
        ("linear-moco-1", {"epochs": 2}, "fine-tune-1"),
        ("linear-moco-1", {"probe_views": "none"}, "low-shot-1"),
        ("low-shot-10", {"epochs": 2}, "linear-1"),
        ("fine-tune-1", {"steps": 3}, "low-shot-1"),
        ("fine-tune-1", {"fine_tune_rates": (0.1,)}, "knn-20-0.07"),
        ("few-shot-5-5", {"episodes": 4}, "linear-1"),
        ("voc07-svm-1", {"svm_costs": (1.0,)}, "linear-1"),
    ],
)
def test_a_lowered_cost_is_another_setting(name: str, change: dict[str, Any], other: str) -> None:
    changed = QUICK.model_copy(update=change)
    assert PROTOCOLS.get(name).settings(changed) != PROTOCOLS.get(name).settings(QUICK)
    assert PROTOCOLS.get(other).settings(changed) == PROTOCOLS.get(other).settings(QUICK)


def test_what_was_given_was_not_chosen(encoder: Path, drawings: Path) -> None:
    """Of a single λ, cost, or rate and decay nothing is chosen, and no validation number is made up."""
    given = QUICK.model_copy(update={"lambdas": (1.0,)})
    asked = ["linear-1", "fine-tune-1"]
    found = {r.protocol: r for r in evaluate(encoder, [f"folder:{drawings}"], protocols=asked, config=given)}
    assert found["linear-1"].selection == "weights: as given; none: one lambda given"
    assert found["fine-tune-1"].selection == "weights: as given; none: one rate and decay given, last step"
    assert found["linear-1"].extra["validation"] == [[]]
    assert found["fine-tune-1"].extra["validation"] == [[[0.01, 0.0, None]]]
    several = QUICK.model_copy(update={"fine_tune_rates": (0.01, 0.1)})
    found = {
        r.protocol: r for r in evaluate(encoder, [f"folder:{drawings}"], protocols=asked, config=several)
    }
    assert found["linear-1"].selection == "weights: as given; lambda on validation"
    assert found["fine-tune-1"].selection == "weights: as given; rate and decay on validation, last step"
    assert all(entry[2] is not None for entry in found["fine-tune-1"].extra["validation"][0])


def test_a_results_file_that_cannot_be_written_is_said_before_anything_is_computed(
    encoder: Path, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "embed", lambda *_, **__: pytest.fail("it went on"))
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(OSError):
        evaluate(encoder, [f"folder:{drawings}"], tmp_path / "notes" / "r.jsonl", config=QUICK)


# Every protocol -----------------------------------------------------------------------------------

COUNT = 108


POSED_BY = {
    Retrieval: "emoji-retrieval", TransformInvariance: "emoji-transforms", Structure: "emoji-structure",
    BackgroundInvariance: "emoji-backgrounds", PairInvariance: "emoji-designers",
    CoarseToFine: "emoji-coarse-to-fine",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(encoder: Path, emoji: Any) -> Context:
    source = open_source(emoji[0])
    catalog = source.scan().catalog
    assert len(catalog) == COUNT
    return Context(open_target(encoder), source, catalog, QUICK)


def few(problem: Any) -> Any:
    """Six images where a hundred changes of each are looked at."""
    return (
        replace(problem, images=problem.images[:6]) if isinstance(problem, TransformInvariance) else problem
    )


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_every_protocol_keeps_its_word(name: str, place: Context) -> None:
    for kind in PROTOCOLS.get(name).takes:
        problem = made_up_problem(kind, COUNT)
        if problem is None:  # a type of problem that is new needs a task here
            problem = few(TASKS.get(POSED_BY[kind]).build(place.catalog, QUICK))
        check_protocol(name, place, problem)


@pytest.mark.parametrize("name", [n for n in CLASSIFIERS if n != "few-shot-5-5"])  # fits on scored images
def test_labels_of_scored_images_choose_nothing(name: str, place: Context) -> None:
    """With other labels on the scored images the same is chosen, fitted and so predicted: their accuracy over
    all ways of turning the labels round adds up to 1."""
    protocol, rows = PROTOCOLS.get(name), np.arange(COUNT)
    fold = Fold(rows[:60], rows[60:80], rows[80:])
    total = 0.0
    for turn in range(3):
        labels = rows % 3
        labels[80:] = (labels[80:] + turn) % 3
        problem = Classification(labels, ("a", "b", "c"), (fold,), rows.astype(str))
        total += protocol.score(replace(place, known={}), problem)[0].value
    assert total == pytest.approx(1)


def test_asked_protocols_take_the_place_of_the_tasks_own(encoder: Path, emoji: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("sempairs.evaluation.tasks.emoji.SOURCE", emoji[0])
    both = ["emoji-subgroup", "emoji-retrieval"]
    found = evaluate(encoder, both, protocols=["knn-20-0.07", "retrieval-1"], config=QUICK)
    assert [(r.task, r.protocol) for r in found] == [
        ("emoji-subgroup", "knn-20-0.07"),
        ("emoji-retrieval", "retrieval-1"),
        ("emoji-retrieval", "retrieval-1"),
    ]
    with pytest.raises(
        UserError, match="task emoji-retrieval poses a Retrieval problem, and is scored by retr"
    ):
        evaluate(encoder, both, protocols=["knn-20-0.07"], config=QUICK)
    with pytest.raises(UserError, match="must name each protocol once"):
        evaluate(encoder, both, protocols=["linear-1", "linear-1"], config=QUICK)
    # Where no task is named, those of the default ones that can be scored.
    monkeypatch.setattr("sempairs.evaluation.suite.DEFAULT_TASKS", both)
    assert {r.task for r in evaluate(encoder, protocols=["knn-20-0.07"], config=QUICK)} == {"emoji-subgroup"}
    with pytest.raises(UserError, match="must name a task that these protocols can score, got 'voc07-svm-1'"):
        evaluate(encoder, protocols=["voc07-svm-1"], config=QUICK)


def test_what_cannot_be_scored_is_refused_before_anything_is(
    encoder: Path, drawings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    with pytest.raises(UserError, match=r"task folder:.*: protocol few-shot-5-5 needs 5 classes"):
        evaluate(encoder, [f"folder:{drawings}"], out, protocols=["linear-1", "few-shot-5-5"], config=QUICK)
    assert not out.exists()


def test_a_source_is_scanned_once_and_an_image_embedded_once(
    encoder: Path, emoji: Any, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of tasks and protocols; and with a cache, not again at all."""
    scans: list[str] = []
    scan = FolderSource.scan
    monkeypatch.setattr(FolderSource, "scan", lambda self, **k: scans.append(self.spec) or scan(self, **k))
    embedded: list[int] = []
    embed = frozen.embed
    monkeypatch.setattr(
        frozen, "embed", lambda e, batches, **k: embedded.append(k["total"]) or embed(e, batches, **k)
    )
    tasks = [f"folder:{drawings}"]
    names = ["linear-1", "knn-20-0.07", "knn-200-0.1", "linear-moco-1", "linear-simclr-1"]
    config = QUICK.model_copy(update={"probe_views": "none"})
    first = evaluate(encoder, tasks, protocols=names, config=config, cache=tmp_path / "cache")
    assert (len(scans), len(embedded)) == (1, 1)
    # The probes by SGD alone, which ask for scored and fitted images apart, give the same from the cache.
    evaluate(encoder, tasks, protocols=names[3:], config=config, cache=tmp_path / "cache")
    again = evaluate(encoder, tasks, protocols=names, config=config, cache=tmp_path / "cache")
    assert again == first
    count = len(embedded)
    evaluate(encoder, tasks, protocols=names[3:], config=config, cache=tmp_path / "cache")
    assert len(embedded) == count


def test_features_of_more_rows_are_added_to_those_held(encoder: Path, drawings: Path) -> None:
    source = open_source(f"folder:{drawings}")
    context = Context(open_target(encoder), source, source.scan().catalog)
    everything = context.features(np.arange(20)).values
    parts = Context(open_target(encoder), source, context.catalog)
    parts.features(np.array([3, 17, 4]))
    found = parts.features(np.array([0, 4, 19, 3, 1]))
    assert found.rows.tolist() == [0, 1, 3, 4, 17, 19]
    np.testing.assert_allclose(found.values, everything[found.rows], rtol=1e-5, atol=1e-6)
    assert parts.features(np.array([19, 0])) is found


# kNN ----------------------------------------------------------------------------------------------


def knn(values: np.ndarray, labels: list[int], fitted: int, name: str = "knn-20-0.07") -> float:
    """Accuracy, the last rows being scored."""
    rows = np.arange(len(values))
    fold = Fold(rows[:fitted], rows[:0], rows[fitted:])
    asked = Classification(np.array(labels), ("a", "b"), (fold,), rows.astype(str))
    known: dict[object, object] = {"features": Features(rows, values.astype(np.float32))}
    return PROTOCOLS.get(name).score(Context(None, None, None, known=known), asked)[0].value  # type: ignore


def test_votes_by_hand() -> None:
    """One neighbour at cosine .99 against two at .95: exp(.99/.07) = 1.77 exp(.95/.07) < 2 exp(.95/.07); at
    .93 exp(.06/.07) = 2.36 > 2; with T = .1, exp(.6) = 1.82 < 2."""

    def at(cosine: float) -> list[float]:
        return [cosine, float(np.sqrt(1 - cosine**2))]

    query = [1.0, 0.0]
    near = np.array([at(0.99), at(0.95), at(0.95), query])
    assert knn(near, [0, 1, 1, 1], 3) == 1.0
    far = np.array([at(0.99), at(0.93), at(0.93), query])
    assert knn(far, [0, 1, 1, 0], 3) == 1.0
    assert knn(far, [0, 1, 1, 1], 3, "knn-200-0.1") == 1.0


def test_memory_is_bounded() -> None:
    """All similarities would be 480 MB; a chunk of them and its order is worked on at a time."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(28_000, 4)).astype(np.float32)
    labels = rng.integers(0, 2, 28_000).tolist()
    tracemalloc.start()
    try:
        assert knn(values, labels, 24_000) == pytest.approx(0.5, abs=0.05)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 330e6


# The command line ---------------------------------------------------------------------------------


def test_lists_of_tasks_and_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--list-protocols"]) == 0
    shown = capsys.readouterr().out
    for name in PROTOCOLS.names():
        assert f"{name}\n  {PROTOCOLS.get(name).summary}" in shown
    assert '"length": "100 epochs", "batch": 256, "rate": 30.0' in shown
    assert run(["evaluate", "--list-tasks"]) == 0
    shown = capsys.readouterr().out
    assert "emoji-subgroup-held-out" in shown
    assert "fashion-mnist:PATH" in shown


def test_protocols_and_the_device_by_name(
    encoder: Path, drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["evaluate", str(encoder), "--out", str(tmp_path / "r.jsonl"), "--task", f"folder:{drawings}"]
    some = ["--protocol", "low-shot-10", "--protocol", "knn-20-0.07", "--set", "epochs=1", "--device", "cpu"]
    assert run([*asked, *some]) == 0
    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert shown == ["low-shot-10", "low-shot-10", "knn-20-0.07"]
    for mistake, says in (
        (["--protocol", "linear-2"], "did you mean 'linear-1'"),
        (["--protocol", "voc07-svm-1"], "poses a Classification problem"),
        (["--device", "tpu"], "device must be auto, cpu, or cuda"),
        (["--set", "epochs=0"], "epochs must be greater than or equal to 1"),
        (["--set", "fine_tune_rates=[]"], "fine_tune_rates must have at least 1 item"),
        (["--set", "low_shot_lists.low-shot-2=x"], "low_shot_lists"),
    ):
        assert run([*asked, *mistake]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
