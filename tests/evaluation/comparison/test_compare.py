"""Comparing two encoders: differences by hand, a page that escapes and asks nobody, no leak let through."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from sempairs.catalog.table import Catalog
from sempairs.encoders import Encoder, EncoderConfig, EncoderSpec
from sempairs.errors import UserError
from sempairs.evaluation.comparison import compare as module
from sempairs.evaluation.comparison import pictures
from sempairs.evaluation.comparison.compare import compare
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.leakage import Exposure
from sempairs.evaluation.scores import classification_scores
from sempairs.evaluation.suite import evaluate_random
from sempairs.evaluation.target import Target, random_target
from sempairs.evaluation.tasks import Classification, Fold

QUICK = EvaluationConfig(lambdas=2)
SEEN = {"emoji-subgroup": 18, "emoji-retrieval": 9}


class Means(nn.Module):
    """Mean colours of parts of the picture; `blind` sees only how light it is."""

    def __init__(self, blind: bool) -> None:
        super().__init__()
        self.blind = blind
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        cells = nn.functional.adaptive_avg_pool2d(images, 3)
        return (cells.mean(1, keepdim=True) if self.blind else cells).flatten(1)


def target(name: str, blind: bool, exposure: Exposure | None = None) -> Target:
    config, width = EncoderConfig(), 9 if blind else 27
    spec = EncoderSpec(config, width, 12, (0.0,) * 3, (1.0,) * 3, name, "0")
    return Target(name, "encoder", Encoder(Means(blind), config, width), spec, exposure)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(encoder: str, *, seed: int = 0) -> Target:
        return target(encoder, blind=encoder.startswith("blind"))

    monkeypatch.setattr(module, "open_target", opened)


@pytest.mark.usefixtures("known")
def test_the_difference_is_that_of_the_scores(emoji: tuple[str, Catalog], tmp_path: Path) -> None:
    tasks = list(SEEN)
    found = compare("blind", "seeing", tasks, tmp_path / "out", config=QUICK, data=emoji[0])
    assert [one.task for one in found] == tasks
    assert {one.task: one.n for one in found} == SEEN
    for one in found:
        assert one.difference == pytest.approx(one.value_b - one.value_a)
        assert one.low <= one.difference <= one.high
        assert one.only_b is not None and one.only_a is not None
        assert one.difference == pytest.approx((one.only_b - one.only_a) / one.n)
        assert 0 < one.cka < 1
    assert found[0].value_b > found[0].value_a  # colour is the category
    swapped = compare("seeing", "blind", tasks, config=QUICK, data=emoji[0])
    for one, other in zip(found, swapped, strict=True):
        assert (one.only_a, one.only_b, one.p) == (other.only_b, other.only_a, other.p)
        assert one.difference == -other.difference
        assert one.cka == pytest.approx(other.cka)
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["task"] for row in written["tasks"]] == tasks
    assert [row["name"] for row in written["encoders"]] == ["blind", "seeing"]


@pytest.mark.usefixtures("known")
def test_an_encoder_against_itself_shows_no_difference(emoji: tuple[str, Catalog]) -> None:
    (one,) = compare("seeing", "seeing", ["emoji-subgroup"], config=QUICK, data=emoji[0])
    assert (one.difference, one.low, one.high, one.only_a, one.only_b, one.p) == (0, 0, 0, 0, 0, 1)
    assert one.cka == pytest.approx(1)


def test_the_values_are_those_of_evaluate(
    emoji: tuple[str, Catalog], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = EncoderConfig(arch="tiny-resnet", options={"channels": [8, 8, 8, 8]})

    def opened(encoder: str, *, seed: int = 0) -> Target:
        return random_target(config, seed=int(encoder), size=32, name=encoder)

    monkeypatch.setattr(module, "open_target", opened)
    spec = emoji[0]
    (one,) = compare("1", "2", [spec], config=QUICK)
    for seed, value in ((1, one.value_a), (2, one.value_b)):
        rows = evaluate_random(config, seed, [spec], size=32, config=QUICK)
        assert [row.value for row in rows if row.primary] == [value]


@pytest.mark.usefixtures("known")
def test_the_page_stands_alone_and_escapes(emoji: tuple[str, Catalog], tmp_path: Path) -> None:
    compare(
        "blind<script>alert(1)</script>",
        "seeing",
        ["emoji-subgroup"],
        tmp_path / "o",
        config=QUICK,
        data=emoji[0],
    )
    page = (tmp_path / "o" / "index.html").read_text()
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    with pytest.raises(UserError):
        compare("blind", "seeing", ["emoji-subgroup"], tmp_path / "o", config=QUICK, data=emoji[0])


def test_images_seen_in_pretraining_are_refused(
    emoji: tuple[str, Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, catalog = emoji
    test = catalog.select(catalog.column("split") == "test")
    exposure = Exposure(spec, frozenset(test.column("file_hash")), frozenset(), frozenset())

    def opened(encoder: str, *, seed: int = 0) -> Target:
        return replace(target(encoder, blind=False), exposure=exposure if encoder == "leaky" else None)

    monkeypatch.setattr(module, "open_target", opened)
    with pytest.raises(UserError, match="pretraining"):
        compare("clean", "leaky", ["emoji-subgroup"], config=QUICK, data=spec)


@pytest.mark.usefixtures("known")
def test_tasks_without_outcomes_are_refused(emoji: tuple[str, Catalog]) -> None:
    with pytest.raises(UserError, match="image by image"):
        compare("blind", "seeing", ["emoji-structure"], config=QUICK, data=emoji[0])


def test_the_interval_is_of_the_metric() -> None:
    """Ten images of a class of its own, which B alone has right: 10 points of accuracy, 50 of its mean over
    classes."""
    labels = np.repeat([0, 1], [90, 10])
    units = np.arange(100).astype(str)
    fold = Fold(np.arange(0), np.arange(0), np.arange(100))
    problem = Classification(labels, ("many", "few"), (fold,), units)
    metrics = ("accuracy", "mean_per_class_accuracy")
    a, b = (
        classification_scores(problem, [guess], metrics, selection="none", extra={})
        for guess in (np.zeros(100, dtype=np.int64), labels)
    )
    for one, other, difference in zip(a, b, (0.1, 0.5), strict=True):
        assert other.value - one.value == pytest.approx(difference)
        assert one.outcome is not None and other.outcome is not None
        low, high = module.interval(one.outcome, other.outcome, seed=0)
        assert low < difference < high
        assert (low + high) / 2 == pytest.approx(difference, rel=0.15)


@given(st.integers(0, 10_000))
def test_outcomes_average_to_the_value(seed: int) -> None:
    """Whatever the metric, with images that some folds score and others do not."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 4, 40)
    parts = [np.sort(draws.choice(40, draws.integers(1, 40), replace=False)) for _ in range(3)]
    empty = np.empty(0, dtype=np.int64)
    problem = Classification(
        labels, tuple("abcd"), tuple(Fold(empty, empty, part) for part in parts), labels.astype(str)
    )
    guesses = [draws.integers(0, 4, len(part)) for part in parts]
    metric = "mean_per_class_accuracy"
    (score,) = classification_scores(problem, guesses, [metric], selection="none", extra={})
    assert score.outcome is not None and score.outcome.weights is not None
    assert np.mean(score.outcome.values * score.outcome.weights) == pytest.approx(score.value)


class Collapsed(Means):
    """Every image is the same to it."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * super().forward(images) + 1


def test_a_collapsed_encoder_can_be_compared(
    emoji: tuple[str, Catalog], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def opened(encoder: str, *, seed: int = 0) -> Target:
        given = target(encoder, blind=False)
        if encoder == "collapsed":
            given = replace(given, encoder=Encoder(Collapsed(False), EncoderConfig(), 27))
        return given

    monkeypatch.setattr(module, "open_target", opened)
    out = tmp_path / "out"
    for task in ("emoji-subgroup", "emoji-retrieval"):
        (one,) = compare("collapsed", "seeing", [task], out / task, config=QUICK, data=emoji[0])
        assert one.cka is None
        assert one.value_b >= one.value_a
        assert json.loads((out / task / "comparison.json").read_text())["tasks"][0]["cka"] is None


@pytest.mark.usefixtures("known")
def test_mistakes_are_said_before_anything_is_scored(
    emoji: tuple[str, Catalog], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("it went on"))
    with pytest.raises(UserError, match="must name each task once"):
        compare("blind", "seeing", ["emoji-subgroup"] * 2, config=QUICK, data=emoji[0])
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(OSError):
        compare("blind", "seeing", ["digits"], tmp_path / "notes" / "out", config=QUICK)


def test_neighbours_leave_the_query_out() -> None:
    draws = np.random.default_rng(0)
    features = draws.normal(size=(20, 4)).astype(np.float32)
    features[7] = features[3]
    found = pictures.neighbour_rows(features, np.array([3, 0]), 5)
    assert found.shape == (2, 5)
    assert found[0, 0] == 7
    assert 3 not in found[0] and 0 not in found[1]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    order = [i for i in np.argsort(-(unit @ unit[0]), kind="stable") if i != 0][:5]
    assert found[1].tolist() == order


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 30])
@pytest.mark.parametrize("kind", ["zero", "one", "noise", "line", "narrow", "two"])
def test_a_map_of_anything(count: int, kind: str) -> None:
    """Collapsed features too, on which scikit-learn's t-SNE ends the process."""
    draws = np.random.default_rng(0).normal(size=(count, 6))
    features = {
        "zero": np.zeros((count, 6)),
        "one": np.ones((count, 6)),
        "noise": 1 + 1e-9 * draws,
        "line": draws[:, :1] * np.ones(6) + np.arange(6),
        "narrow": draws[:, :1],
        "two": np.eye(6)[np.arange(count) % 2],
    }[kind].astype(np.float32)
    thumbs = [Image.new("RGB", (8, 8), "black")] * count
    sheet = np.asarray(pictures.embedding_map(features, thumbs, side=64))
    dark = np.argwhere((sheet == 0).all(axis=2))
    assert len(dark) >= 64
    if kind in ("zero", "one", "noise") or count == 1:
        assert (dark.min(axis=0).tolist(), dark.max(axis=0).tolist()) == ([28, 28], [35, 35])


def test_pictures_are_pure() -> None:
    draws = np.random.default_rng(0)
    features = np.concatenate([draws.normal(size=(15, 6)), draws.normal(size=(15, 6)) + 9]).astype(np.float32)
    thumbs = [Image.new("RGB", (8, 8), (i * 8, 0, 0)) for i in range(30)]
    one, two = (pictures.embedding_map(features, thumbs, side=100) for _ in range(2))
    assert one.size == (100, 100)
    assert one.tobytes() == two.tobytes()
    sheet = pictures.neighbour_sheet(thumbs, np.array([0]), np.array([[1, 20]]), np.repeat([0, 1], 15))
    pixels = np.asarray(sheet)
    assert (pixels == pictures._RIGHT).all(axis=2).any()
    assert (pixels == pictures._WRONG).all(axis=2).any()
    assert pictures.data_uri(sheet).startswith("data:image/webp;base64,")


def test_the_command(emoji: tuple[str, Catalog], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sempairs.cli.main import run

    pair = ["--compare", "random:tiny-resnet@16", "random:tiny-resnet@20"]
    asked = ["--task", "emoji-subgroup", "--data", emoji[0], "--set", "lambdas=2"]
    out = tmp_path / "page"
    assert run(["evaluate", *pair, *asked, "--out", str(out)]) == 0
    assert "B-A" in capsys.readouterr().out
    assert (out / "index.html").exists()
    assert run(["evaluate", *pair, *asked, "--out", str(out)]) == 2
    assert "new or empty folder" in capsys.readouterr().err
    assert run(["evaluate", "random:tiny-resnet", *pair, *asked, "--out", str(tmp_path / "b")]) == 2
    assert run(["evaluate", *asked, "--out", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.count("needs one encoder, or two") == 2
