"""Common corruptions against the published formulas, written out per picture; and the robustness protocol."""

from __future__ import annotations

import colorsys
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from sempairs.evaluation import EvaluationConfig, evaluate
from sempairs.evaluation.perturbations import corruptions as c
from sempairs.evaluation.perturbations.corruptions import CORRUPTIONS, corrupted
from sempairs.evaluation.protocols import PROTOCOLS, Context
from sempairs.evaluation.scores import Features
from sempairs.evaluation.tasks import TASKS, Fold
from sempairs.evaluation.tasks.coarse_to_fine import CoarseToFine

QUICK = EvaluationConfig(lambdas=2, knn=())
KEYS = np.arange(3, dtype=np.uint64) + 7


def pictures(side: int, seed: int = 0) -> torch.Tensor:
    """Three smooth pictures of whole levels, (3, 3, side, side)."""
    noise = np.random.default_rng(seed).normal(size=(3, 3, side, side))
    soft = ndimage.gaussian_filter(noise, (0, 0, side / 12, side / 12))
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return torch.from_numpy(np.round(soft * 255) / 255).float()


def draws(seed: int = 1) -> list[np.random.Generator]:
    return [np.random.Generator(np.random.Philox(key=[seed, k])) for k in range(3)]


def channels_last(images: torch.Tensor) -> np.ndarray:
    return images.double().numpy().transpose(0, 2, 3, 1)


# What all of them do ------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [20, 86])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_a_pure_function_of_picture_key_and_strength(name: str, side: int) -> None:
    images = pictures(side)
    for strength in (1, 5):
        found = corrupted(images, name, strength, KEYS)
        assert found.shape == images.shape
        assert 0 <= found.min() <= found.max() <= 1
        np.testing.assert_allclose(found * 255, (found * 255).round(), atol=1e-3)
        order = [2, 0]
        again = corrupted(images[order], name, strength, KEYS[order])
        torch.testing.assert_close(again, found[order], atol=1 / 255, rtol=0)
        assert (again != found[order]).float().mean() < 0.01  # sums in another order, at a level's edge


@pytest.mark.parametrize("size", [32, 86])
@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"elastic"}))
def test_stronger_is_further_from_the_picture(name: str, size: int) -> None:
    images = pictures(size)
    off = [float((corrupted(images, name, s, KEYS) - images).square().mean()) for s in range(1, 6)]
    assert off[0] > 0 or name in ("defocus blur", "pixelation", "jpeg")
    assert off == sorted(off) or max(a - b for a, b in pairwise(off)) < 0.1 * off[-1]
    assert off[-1] > off[0]


def test_constants_are_those_of_the_nearer_size() -> None:
    noise = CORRUPTIONS["gaussian noise"]
    assert noise.constants(32) == noise.constants(64) == (0.04, 0.06, 0.08, 0.09, 0.10)
    assert noise.constants(96) == noise.constants(224) == (0.08, 0.12, 0.18, 0.26, 0.38)
    for one in CORRUPTIONS.values():
        assert len(one.small) == len(one.large) == 5


def test_another_key_is_another_draw() -> None:
    images = pictures(32)
    for name in ("gaussian noise", "motion blur", "fog", "elastic"):
        assert not torch.equal(corrupted(images, name, 5, KEYS), corrupted(images, name, 5, KEYS + 1))


# Each one -----------------------------------------------------------------------------------------


def test_noise_has_the_published_statistics() -> None:
    grey = torch.full((3, 3, 64, 64), 0.5)
    n = grey.numel()
    gauss = CORRUPTIONS["gaussian noise"].apply(grey, 0.1, draws()) - grey
    assert float(gauss.mean()) == pytest.approx(0, abs=4 * 0.1 / n**0.5)
    assert float(gauss.std()) == pytest.approx(0.1, rel=0.03)
    shot = CORRUPTIONS["shot noise"].apply(grey, 60, draws())
    assert float(shot.mean()) == pytest.approx(0.5, rel=0.01)
    assert float(shot.var()) == pytest.approx(0.5 / 60, rel=0.05)
    assert torch.allclose((shot * 60).round(), shot * 60, atol=1e-3)
    salted = CORRUPTIONS["impulse noise"].apply(grey, 0.2, draws())
    for level in (0.0, 1.0):
        assert float((salted == level).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((salted == 0.5).float().mean()) == pytest.approx(0.8, abs=0.01)


def test_noise_in_channels_and_pictures_is_independent() -> None:
    grey = torch.full((3, 3, 64, 64), 0.5)
    flat = (CORRUPTIONS["gaussian noise"].apply(grey, 0.1, draws()) - grey).reshape(9, -1).numpy()
    apart = np.corrcoef(flat) - np.eye(9)
    assert np.abs(apart).max() < 0.08


@pytest.mark.parametrize("constants", [(0.3, 0.4), (1, 0.2), (1.5, 0.1), (3, 0.1), (8, 0.5), (10, 0.5)])
def test_defocus_is_the_mean_over_a_disk(constants: tuple[float, float]) -> None:
    radius, alias = constants
    kernel = c.disk(radius, alias)
    assert kernel.shape == ((17, 17) if radius <= 8 else (21, 21))
    # Where the disk touches the kernel's border, OpenCV's mirrored border adds a little, and so here.
    assert kernel.sum() == pytest.approx(1, abs=0.02 if radius in (8, 10) else 1e-9)
    assert (kernel >= 0).all()
    np.testing.assert_allclose(kernel, kernel[::-1].T, atol=1e-12)
    if alias == 0.1:  # too little to soften anything
        reach = len(kernel) // 2
        inside = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= radius
        np.testing.assert_allclose(kernel, inside / inside.sum(), atol=1e-9)
    images = pictures(32)
    expected = ndimage.correlate(images.double().numpy(), kernel[None, None], mode="mirror")
    found = CORRUPTIONS["defocus blur"].apply(images, constants, draws())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_motion_goes_along_its_angle() -> None:
    """The published code for ImageMagick's motion blur, pixel by pixel."""
    images, (radius, sigma), side = pictures(32), (8, 2.0), 32
    found = CORRUPTIONS["motion blur"].apply(images, (radius, sigma), draws())
    width = 2 * radius + 1
    kernel = np.array([np.exp(-(i**2) / (2 * sigma**2)) for i in range(width)])
    kernel /= kernel.sum()
    for image, out, g in zip(channels_last(images), channels_last(found), draws(), strict=True):
        angle = np.deg2rad(g.uniform(-45, 45))
        for y, x in ((0, 0), (5, 30), (16, 16), (31, 2)):
            total = np.zeros(3)
            for i in range(width):
                row = int(np.clip(y + np.ceil(i * np.sin(angle) - 0.5), 0, side - 1))
                column = int(np.clip(x + np.ceil(i * np.cos(angle) - 0.5), 0, side - 1))
                total += kernel[i] * image[row, column]
            np.testing.assert_allclose(out[y, x], total, atol=1e-5)


@pytest.mark.parametrize(("side", "end", "step"), [(32, 1.26, 0.01), (96, 1.31, 0.03)])
def test_zoom_is_scipys(side: int, end: float, step: float) -> None:
    images = pictures(side)
    found = channels_last(CORRUPTIONS["zoom blur"].apply(images, (end, step), draws()))
    for image, out in zip(channels_last(images), found, strict=True):
        total = image.copy()
        factors = np.arange(1, end, step)
        for factor in factors:
            crop = int(np.ceil(side / factor))
            top = (side - crop) // 2
            large = ndimage.zoom(image[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
            trim = (large.shape[0] - side) // 2
            total += large[trim : trim + side, trim : trim + side]
        np.testing.assert_allclose(out, total / (len(factors) + 1), atol=1e-5)


def test_fog_is_clouds_in_the_published_proportion() -> None:
    images = pictures(24)
    clouds = c.plasma(32, 2.0, draws())
    assert clouds.shape == (3, 32, 32)
    assert clouds.min(axis=(1, 2)).tolist() == [0.0] * 3
    assert clouds.max(axis=(1, 2)).tolist() == [1.0] * 3
    # A large decay leaves only the coarse structure: neighbours are alike.
    rough, smooth = (np.abs(np.diff(c.plasma(32, d, draws()), axis=2)).mean() for d in (1.2, 3.0))
    assert rough > smooth
    found = channels_last(CORRUPTIONS["fog"].apply(images, (1.5, 2.0), draws()))
    for image, out, cloud in zip(channels_last(images), found, clouds, strict=True):
        expected = (image + 1.5 * cloud[:24, :24, None]) * image.max() / (image.max() + 1.5)
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_brightness_and_contrast_by_their_definitions() -> None:
    images = pictures(16)
    images[0, :, 0, 0] = 0  # black has no hue
    bright = channels_last(CORRUPTIONS["brightness"].apply(images, 0.3, draws()))
    for image, out in zip(channels_last(images), bright, strict=True):
        for y, x in ((0, 0), (3, 4), (15, 15)):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[y, x])
            np.testing.assert_allclose(
                out[y, x], colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1)), atol=1e-5
            )
    flat = channels_last(CORRUPTIONS["contrast"].apply(images, 0.4, draws()))
    for image, out in zip(channels_last(images), flat, strict=True):
        means = image.mean(axis=(0, 1))
        np.testing.assert_allclose(out, (image - means) * 0.4 + means, atol=1e-5)


@pytest.mark.parametrize("constants", [(0, 0, 2.56), (1.6, 6.4, 2.2), (3.2, 0.96, 0.96), (20.0, 3.0, 5.0)])
def test_elastic_is_scipys(constants: tuple[float, float, float]) -> None:
    alpha, sigma, most = constants
    images, side = pictures(32), 32
    found = channels_last(CORRUPTIONS["elastic"].apply(images, constants, draws()))
    y, x = np.mgrid[:side, :side].astype(np.float64)
    for image, out, g in zip(channels_last(images), found, draws(), strict=True):
        before = np.array([[26, 26], [26, 6], [6, 6]], dtype=np.float64)
        after = before + g.uniform(-most, most, (3, 2))
        forward = np.linalg.solve(np.column_stack([before, np.ones(3)]), after).T  # (2, 3), as OpenCV has it
        matrix, shift = forward[:, :2], forward[:, 2]
        back = np.linalg.inv(matrix)
        spots = back @ (np.stack([x.ravel(), y.ravel()]) - shift[:, None])
        warped = np.stack([
            ndimage.map_coordinates(image[..., k], spots[::-1], order=1, mode="mirror") for k in range(3)
        ], axis=-1).reshape(side, side, 3)  # fmt: skip
        right, down = (
            alpha * ndimage.gaussian_filter(g.uniform(-1, 1, (side, side)), sigma, mode="reflect", truncate=3)
            if sigma
            else alpha * g.uniform(-1, 1, (side, side))
            for _ in range(2)
        )
        expected = np.stack([
            ndimage.map_coordinates(warped[..., k], [y + down, x + right], order=1, mode="reflect")
            for k in range(3)
        ], axis=-1)  # fmt: skip
        np.testing.assert_allclose(out, expected, atol=2e-4)


def test_pixelation_and_jpeg_are_pillows() -> None:
    images = pictures(32)
    coarse = CORRUPTIONS["pixelation"].apply(images, 0.65, draws())
    lossy = CORRUPTIONS["jpeg"].apply(images, 40, draws())
    for i, image in enumerate((channels_last(images) * 255).round().astype(np.uint8)):
        picture = Image.fromarray(image)
        small = picture.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
        np.testing.assert_allclose(channels_last(coarse)[i] * 255, np.asarray(small), atol=1e-3)
        held = io.BytesIO()
        picture.save(held, "JPEG", quality=40)
        np.testing.assert_allclose(channels_last(lossy)[i] * 255, np.asarray(Image.open(held)), atol=1e-3)


# The tasks ----------------------------------------------------------------------------------------


def test_robustness_is_measured_beside_clean_accuracy(
    encoder: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: CORRUPTIONS[name] for name in ("gaussian noise", "jpeg")}
    monkeypatch.setattr("sempairs.evaluation.protocols.robustness.CORRUPTIONS", few)
    spec = f"folder:{drawings}"
    found = evaluate(encoder, [f"corruptions:{spec}"], config=QUICK)
    hurt, clean = found
    assert [r.metric for r in found] == ["corrupted_accuracy", "clean_accuracy"]
    assert [r.primary for r in found] == [True, False]
    table = hurt.extra["by_corruption"]
    assert {name: len(values) for name, values in table.items()} == {"gaussian noise": 5, "jpeg": 5}
    assert hurt.value == pytest.approx(np.mean([table[name] for name in few]))
    assert hurt.extra["constants"] == "CIFAR-10-C"
    plain = evaluate(encoder, [spec], protocols=["linear-1"], config=QUICK)[0]
    assert clean.value == pytest.approx(plain.value)
    other = evaluate(encoder, [spec], protocols=["corruptions-1"], config=QUICK)  # the same again
    assert [r.value for r in other] == [r.value for r in found]


def test_pictures_left_as_they_are_score_as_clean_ones(
    encoder: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"jpeg": CORRUPTIONS["jpeg"]}
    monkeypatch.setattr("sempairs.evaluation.protocols.robustness.CORRUPTIONS", few)
    monkeypatch.setattr("sempairs.evaluation.protocols.robustness.corrupted", lambda images, *_: images)
    hurt, clean = evaluate(encoder, [f"corruptions:folder:{drawings}"], config=QUICK)
    assert hurt.value == clean.value


def test_only_so_many_test_pictures_are_corrupted(drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sempairs.catalog.sources import open_source

    catalog = open_source(f"folder:{drawings}").scan().catalog
    task, plain = (TASKS.get(f"{kind}folder:{drawings}") for kind in ("corruptions:", ""))
    whole: Any = plain.build(catalog, QUICK)
    monkeypatch.setattr("sempairs.evaluation.tasks.corruptions.MAX_IMAGES", 6)
    fewer: Any = task.build(catalog, QUICK)
    assert len(fewer.scored) == 6
    assert set(fewer.scored) < set(whole.scored)
    assert np.array_equal(fewer.fitted, whole.fitted)
    assert fewer.notes["test_images_left_out"] == len(whole.scored) - 6
    assert np.bincount(fewer.labels[fewer.scored]).tolist() == [2, 2, 2]


# Coarse to fine -----------------------------------------------------------------------------------


def collapse(values: np.ndarray) -> dict[str, Any]:
    """Scores on two coarse classes of three and two fine ones, and one of one; ten images a fine class."""
    parent = np.array([0, 0, 0, 1, 1, 2])
    labels = np.tile(np.arange(6), 10)
    rows = np.arange(60)
    fold = Fold(rows[:30], rows[30:42], rows[42:])
    asked = CoarseToFine(
        labels, tuple("abcdef"), (fold,), rows.astype(str), parent=parent, coarse_classes=("x", "y", "z")
    )
    known: dict[Any, Any] = {"features": Features(rows, values[labels].astype(np.float32))}
    context = Context(None, None, None, EvaluationConfig(lambdas=(0.01, 1.0)), known=known)  # type: ignore
    return {score.metric: score for score in PROTOCOLS.get("coarse-to-fine-1").score(context, asked)}


def test_a_collapsed_encoder_is_seen_to_be() -> None:
    parent = np.eye(3)[[0, 0, 0, 1, 1, 2]]
    full, flat = collapse(np.eye(6)), collapse(parent)
    assert {name: score.value for name, score in full.items()} == dict.fromkeys(full, 1.0)
    assert flat["coarse_accuracy"].value == 1.0
    # One of three fine classes is always named, and one of two: chance, as all are as common.
    within = flat["fine_within_coarse_accuracy"]
    assert within.value == pytest.approx(2 / 5)
    assert within.extra["chance"] == pytest.approx((3 / 3 + 2 / 2) / 5)
    assert within.extra["majority"] == pytest.approx(2 / 5)
    assert within.n == 15
    assert within.extra["images_of_coarse_classes_of_one"] == 3
    assert flat["fine_accuracy"].value == pytest.approx(3 / 6)
    assert flat["fine_accuracy"].n == 18


def test_only_classes_of_the_true_coarse_class_are_named() -> None:
    """The first class of x looks like the first of y: the probe errs, but not within either."""
    alike = collapse(np.eye(6)[[0, 1, 2, 0, 4, 5]])
    assert alike["fine_within_coarse_accuracy"].value == 1.0
    assert alike["fine_accuracy"].value == pytest.approx(5 / 6)


def test_emoji_groups_and_subgroups(emoji: Any, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sempairs.evaluation.tasks.emoji.SOURCE", emoji[0])
    problem: Any = TASKS.get("emoji-coarse-to-fine").build(emoji[1], QUICK)
    assert problem.coarse_classes == ("animal", "food")
    assert [problem.coarse_classes[k] for k in problem.parent] == ["animal", "animal", "food"]
    found = evaluate(encoder, ["emoji-coarse-to-fine"], config=QUICK)
    assert [r.metric for r in found] == list(PROTOCOLS.get("coarse-to-fine-1").metrics)
    assert found[0].extra["chance"] == 0.5
    assert (found[0].n, found[1].n) == (12, 18)  # pears are alone in their group


def test_labels_without_a_tree_have_no_coarse_ones() -> None:
    from sempairs.catalog.sources import open_source
    from sempairs.errors import UserError

    with pytest.raises(UserError, match="must hold two coarse classes"):
        TASKS.get("coarse-to-fine:digits").build(open_source("digits").scan().catalog, QUICK)
