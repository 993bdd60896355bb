"""Comparing two encoders: differences by hand, a page that escapes and asks nobody, no leak let through."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sempairs.catalog.table import Catalog
from sempairs.encoders import Encoder, EncoderConfig, EncoderSpec
from sempairs.errors import UserError
from sempairs.evaluation import compare as module
from sempairs.evaluation import pictures
from sempairs.evaluation.compare import compare
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.leakage import Exposure
from sempairs.evaluation.suite import evaluate_random
from sempairs.evaluation.target import Target, random_target

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
    config = EncoderConfig(arch="tiny-resnet", options={"channels": [4, 4, 8, 8]})

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
