"""Invariance and structure: transformations, and encoders whose answers are known beforehand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.encoders import Encoder, EncoderConfig, EncoderSpec
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.perturbations.transforms import TRANSFORMS
from sempairs.evaluation.perturbations.whitening import Whitening
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.protocols.invariance import _on_textures
from sempairs.evaluation.scores import Score
from sempairs.evaluation.target import Target
from sempairs.evaluation.tasks import TASKS
from sempairs.views.store import PixelStore

CONFIG = EvaluationConfig(precision="float32")


class Seen(nn.Module):
    """Not a network: what it says of an image is worked out from its pixels. Shrinks to (B, 3 cells²)."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, self.cells).flatten(1)


def context(emoji: tuple[str, Catalog], cells: int, size: int = 12) -> Context:
    config, width = EncoderConfig(), 3 * cells**2
    encoder = Encoder(Seen(cells), config, width)
    spec = EncoderSpec(config, width, size, (0.0,) * 3, (1.0,) * 3, f"cells{cells}", "0")
    source = open_source(emoji[0])
    return Context(Target("seen", "encoder", encoder, spec, None), source, source.scan().catalog)


def scores(place: Context, name: str) -> dict[str, Score]:
    task = TASKS.get(name)
    problem = task.build(place.catalog, CONFIG)
    return {one.metric: one for one in PROTOCOLS.get(task.protocol).score(place, problem)}


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_transforms_keep_shape_and_range_and_are_pure(name: str) -> None:
    one = TRANSFORMS[name]
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    draws = torch.tensor([0.1, 0.4, 0.6, 0.9])
    before = images.clone()
    moved = []
    for value in one.values:
        out = one.apply(images, value, draws)
        assert out.shape == images.shape
        assert float(out.min()) >= -1e-5 and float(out.max()) <= 1 + 1e-5
        torch.testing.assert_close(out, one.apply(images, value, draws), rtol=0, atol=0)
        moved.append(float((out - images).abs().mean()))
    assert torch.equal(images, before)
    assert min(moved) > 0
    # A stronger one moves a smooth picture further (rotation by 90 degrees may come back near).
    if len(moved) == 5 and name not in ("rotation", "hue"):
        ramp = torch.linspace(0.1, 0.9, 16).expand(1, 3, 16, 16) * torch.tensor([1, 0.6, 0.3])[:, None, None]
        far = [float((one.apply(ramp, v, draws[:1]) - ramp).abs().mean()) for v in one.values]
        assert far == sorted(far)


def test_rotation_by_a_quarter_and_flips_are_exact() -> None:
    images = torch.rand(2, 3, 8, 8)
    turned = TRANSFORMS["rotation"].apply(images, 90, torch.tensor([0.1, 0.9]))
    ways = [torch.rot90(images, k, (2, 3)) for k in (1, 3)]
    close = [[torch.allclose(turned[i], way[i], atol=1e-5) for way in ways] for i in range(2)]
    assert sorted(map(tuple, close)) == [(False, True), (True, False)]
    shifted = TRANSFORMS["translation"].apply(images, 0.25, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(shifted[0, :, :, :6], images[0, :, :, 2:], rtol=0, atol=1e-5)
    torch.testing.assert_close(shifted[0, :, :, 6:], torch.ones(3, 8, 2), rtol=0, atol=1e-5)


@given(st.integers(0, 1000))
def test_whitened_features_have_unit_covariance(seed: int) -> None:
    draws = np.random.default_rng(seed)
    rows = draws.normal(size=(400, 3)) @ draws.normal(size=(3, 3)) + 5
    whitening = Whitening.fitted(rows.astype(np.float32))
    turned = (rows - whitening.mean) @ whitening.turn
    values = np.linalg.eigvalsh(np.cov(turned, rowvar=False, bias=True))
    assert values.max() <= 1 + 1e-6
    share = np.linalg.eigvalsh(np.cov(rows, rowvar=False, bias=True))
    expected = np.sort(share / (share + 0.01 * share.mean()))
    np.testing.assert_allclose(values, expected, rtol=1e-3)


def test_the_mean_colour_does_not_see_flips_and_sees_inversion(emoji: tuple[str, Catalog]) -> None:
    table = scores(context(emoji, 1), "emoji-transforms")["cosine"].extra["by_transform"]
    assert table["horizontal flip"] == [pytest.approx(1)]
    assert table["vertical flip"] == [pytest.approx(1)]
    assert table["rotation"][4] == pytest.approx(1, abs=1e-4)
    assert table["inversion"][0] < 0.5
    fine = scores(context(emoji, 3), "emoji-transforms")["cosine"].extra["by_transform"]
    assert fine["horizontal flip"][0] < 0.9
    assert list(table) == list(TRANSFORMS)


def test_pictures_without_alpha_look_the_same_on_any_ground(emoji: tuple[str, Catalog]) -> None:
    found = scores(context(emoji, 3), "emoji-backgrounds")["cosine"]
    assert found.value == pytest.approx(1, abs=1e-3)
    assert set(found.extra["by_ground"]) == {"colour", "texture"}


def test_grounds_that_the_user_gives(emoji: tuple[str, Catalog], textures: Path) -> None:
    place, name = context(emoji, 3), f"emoji-backgrounds:{textures}"
    found = scores(place, name)["cosine"]
    assert found.value == pytest.approx(1, abs=1e-3)  # nothing shows through these drawings
    assert set(found.extra["by_ground"]) == {"given"}
    with pytest.raises(UserError, match="must be an existing path"):
        TASKS.get("emoji-backgrounds:/not/there")
    # Half-clear pictures let half of one of the test textures through.
    own = PixelStore.build(place.source, place.catalog.select(np.arange(6)), 8, channels=4)
    clear = own.pixels.clone()
    clear[:, 3] = torch.tensor([0, 255, 128, 0, 0, 0], dtype=torch.uint8)[:, None, None]
    laid = _on_textures(replace(own, pixels=clear), f"release:{textures}", place).pixels
    assert (laid[1] == clear[1, :3]).all()
    shades = open_source(f"release:{textures}")
    catalog = shades.scan().catalog
    test = catalog.select(catalog.column("split") == "test")
    there = PixelStore.build(shades, test, 8, channels=3).pixels
    for row in (0, 3, 4, 5):
        assert (there == laid[row]).flatten(1).all(1).any()
    halves = (clear[2, :3].float() * 128 + there.float() * 127) / 255
    assert (halves - laid[2].float()).abs().flatten(1).amax(1).min() <= 0.51
    assert len({laid[row].numpy().tobytes() for row in (0, 3, 4, 5)}) > 1


def test_pairs_against_other_meanings(emoji: tuple[str, Catalog]) -> None:
    # The category is the colour of a ninth of the picture, the concept its place and shade.
    place = context(emoji, 3)
    problem = TASKS.get("emoji-designers").build(place.catalog, CONFIG)
    concept, group = place.catalog.column("concept"), place.catalog.column("split_group")
    domain = place.catalog.column("domain")
    same = (concept[problem.left] == concept[problem.right]) | (group[problem.left] == group[problem.right])
    assert same.all()
    assert (domain[problem.left] != domain[problem.right]).all()
    assert set(place.catalog.column("split")[problem.scored]) == {"test"}
    assert set(place.catalog.column("split")[problem.fitted]) == {"train"}
    found = scores(place, "emoji-designers")
    # By hand: for each left image, the right images of other meanings that lie farther than its own.
    held = place.features(np.union1d(problem.scored, problem.fitted))
    whitening = Whitening.fitted(held.at(problem.reference))
    left, right = whitening.unit(held.at(problem.left)), whitening.unit(held.at(problem.right))
    shares = []
    for i in range(len(left)):
        far = [
            1.0 if left[i] @ right[j] < left[i] @ right[i] else 0.0
            for j in range(len(right))
            if problem.apart[problem.left[i]] != problem.apart[problem.right[j]]
        ]
        shares.append(np.mean(far))
    assert found["auroc"].value == pytest.approx(np.mean(shares), abs=1e-6)
    assert found["cosine"].value == pytest.approx(np.mean(np.sum(left * right, axis=1)))
    assert found["auroc"].n == len(problem.scored)


def test_individuals_are_other_concepts_of_one_category(emoji: tuple[str, Catalog]) -> None:
    catalog = open_source(emoji[0]).scan().catalog
    problem = TASKS.get("emoji-individuals").build(catalog, CONFIG)
    category, concept = catalog.column("category"), catalog.column("concept")
    assert (category[problem.left] == category[problem.right]).all()
    assert (concept[problem.left] != concept[problem.right]).all()


def test_structure_by_other_ways(emoji: tuple[str, Catalog]) -> None:
    place = context(emoji, 3)
    found = scores(place, "emoji-structure")
    problem = TASKS.get("emoji-structure").build(place.catalog, CONFIG)
    assert {one.n for one in found.values()} == {len(problem.images)} == {27}
    # No augmentation leaves nine means as they were, nor does another designer's shade.
    assert 0 < found["alignment_augmented"].value < 4
    rows = place.features(problem.images).at(problem.images).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    meaning, category = problem.meaning[problem.images], problem.category[problem.images]
    hits, asked = 0, 0
    for i in range(27):
        others = [j for j in range(27) if j != i and category[j] == category[i]]
        if any(meaning[j] == meaning[i] for j in others):
            asked += 1
            hits += meaning[max(others, key=lambda j: rows[i] @ rows[j])] == meaning[i]
    assert found["within_class_top_1"].value == pytest.approx(hits / asked)
    # An encoder that keeps the class alone tells nothing apart within it.
    flat = place.known["features"]
    collapsed = np.eye(3, dtype=np.float32)[problem.category[flat.rows]] + 1e-4 * flat.values[:, :3]
    place.known["features"] = type(flat)(flat.rows, collapsed)
    again = {one.metric: one for one in PROTOCOLS.get("structure-1").score(place, problem)}
    assert again["class_variance"].value < 1e-6 < found["class_variance"].value


class Same(nn.Module):
    """Collapsed: one answer, whatever it is shown."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, images: Tensor) -> Tensor:
        return self.value.expand(len(images), 8)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_collapsed_encoder_gets_the_numbers_that_there_are(
    emoji: tuple[str, Catalog], value: float
) -> None:
    config = EncoderConfig()
    spec = EncoderSpec(config, 8, 12, (0.0,) * 3, (1.0,) * 3, "same", "0")
    source = open_source(emoji[0])
    place = Context(
        Target("same", "encoder", Encoder(Same(value), config, 8), spec, None), source, source.scan().catalog
    )
    found = scores(place, "emoji-structure")
    # Classes have one mean: no variance can be measured by their distance.
    assert set(PROTOCOLS.get("structure-1").metrics) - set(found) == {"class_variance"}
    assert found["feature_std"].value == 0
    assert (found["lidar"].value, found["rankme"].value) == (1, pytest.approx(1, abs=1e-4))
    assert found["lidar"].extra["undefined"] == ["class_variance"]
    for name in ("emoji-transforms", "emoji-backgrounds", "emoji-designers", "emoji-individuals"):
        assert all(np.isfinite(one.value) for one in scores(place, name).values())
    assert scores(place, "emoji-designers")["auroc"].value == 0.5


@pytest.mark.parametrize("name", ["emoji-structure", "emoji-designers", "emoji-individuals"])
def test_a_source_without_meanings_is_refused_in_one_line(
    name: str, emoji: tuple[str, Catalog], tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sempairs.cli.main import run

    catalog = emoji[1]
    bare = np.full(len(catalog), None, dtype=object)
    first = catalog.column("category")[0]
    one = np.array([first if c == first else None for c in catalog.column("category")], dtype=object)
    for label, columns in {
        "none": {"concept": bare, "split_group": bare, "category": bare},
        "one": {"concept": one, "split_group": bare, "category": one, "domain": catalog.column("concept")},
    }.items():
        changed = catalog
        for column, values in columns.items():
            changed = changed.with_column(column, values)
        changed.save(tmp_path / f"{label}.arrow")
        asked = ["--task", name, "--data", f"catalog:{tmp_path / f'{label}.arrow'}"]
        assert run(["evaluate", "random:tiny-resnet@16", *asked, "--out", str(tmp_path / "r.jsonl")]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and name in said
    assert not (tmp_path / "r.jsonl").exists()


def test_what_no_class_can_show_is_left_out(emoji: tuple[str, Catalog]) -> None:
    """Concepts without classes: nothing within a class could be told apart, and no 0 is made up for it."""
    place = context(emoji, 3)
    problem = TASKS.get("emoji-structure").build(place.catalog, CONFIG)
    bare = replace(problem, category=np.full_like(problem.category, -1))
    found = {one.metric: one for one in PROTOCOLS.get("structure-1").score(place, bare)}
    assert "within_class_top_1" not in found and "class_variance" not in found
    assert "lidar" in found


def test_the_command_prints_plain_numbers(
    emoji: tuple[str, Catalog], tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sempairs.cli.main import run

    asked = ["--task", "emoji-designers", "--task", "emoji-structure"]
    out = tmp_path / "results.jsonl"
    assert run(["evaluate", "random:tiny-resnet@32", *asked, "--data", emoji[0], "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "pairs-1*" in shown and "structure-1*" in shown and "within_class_top_1" in shown
    # Shares and other numbers are told apart.
    rows = [line.split() for line in shown.splitlines()]
    assert rows[0] == ["task", "protocol", "metric", "value", "n"]
    values = {row[2]: row[3] for row in rows[1:-1]}
    assert re.fullmatch(r"\d+\.\d%", values["auroc"]) and re.fullmatch(r"-?\d+\.\d{3}", values["cosine"])
    assert run(["evaluate", "random:tiny-resnet@32", *asked[:2], "--data", emoji[0], "--out", str(out)]) == 0
