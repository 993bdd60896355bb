"""Scenes: boxes as the pixels have them, parts that share no drawing, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sempairs.catalog.scenes import ScenesConfig, write_scenes
from sempairs.catalog.scenes.grounds import laid
from sempairs.catalog.scenes.render import Scene, render
from sempairs.catalog.scenes.scene_draws import SceneDraws
from sempairs.catalog.sources import open_source
from sempairs.catalog.table import Catalog
from sempairs.catalog.voc import read_voc
from sempairs.cli.main import run
from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.plan import plan_pairs

# Colours that no ground or shape has by chance: each object's own.
COLOURS = [(255, 0, 254), (1, 255, 0), (0, 3, 255), (255, 254, 1), (2, 255, 253)]
TINY: dict[str, Any] = {"train": 4, "val": 2, "test": 2, "test_designers": 2, "size": 48}


def painted(seed: int, sprite: Callable[[int], Image.Image], **settings: Any) -> Scene:
    config = ScenesConfig(size=64, clutter=(0, 0), seed=seed, **settings)
    taken = iter(range(len(COLOURS)))
    return render(SceneDraws(seed, 0, 0), config, lambda draws: next(taken), sprite)


def rectangle(row: int) -> Image.Image:
    return Image.new("RGBA", (20, 10 + 5 * row), (*COLOURS[row], 255))


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(mask)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


@given(st.integers(0, 10_000))
def test_boxes_hold_just_the_pixels_that_show(seed: int) -> None:
    scene = painted(seed, rectangle, rotation=0, objects=(1, 5))
    pixels = np.asarray(scene.picture)
    for one in scene.objects:
        mask = (pixels == COLOURS[one.row]).all(axis=2)
        assert one.box == bounds(mask)
        assert one.visible >= 0.4
        inside = one.box[0] > 0 and one.box[1] > 0 and one.box[2] < 64 and one.box[3] < 64
        assert not (inside and one.truncated)
        if not one.truncated and not one.occluded:
            assert one.visible == 1
            assert mask.sum() == (one.box[2] - one.box[0]) * (one.box[3] - one.box[1])
        assert (one.visible < 1) == (one.truncated or one.occluded)


@given(st.integers(0, 10_000))
def test_boxes_of_turned_drawings_hold_their_opaque_pixels(seed: int) -> None:
    def shown(colour: str) -> Scene:
        canvas = Image.new("RGBA", (80, 80))  # with a clear margin, which is no part of the object
        ImageDraw.Draw(canvas).polygon([(20, 20), (59, 30), (45, 59)], fill=colour)
        return painted(seed, lambda row: canvas, objects=(1, 1), scale=(0.3, 0.5), beyond=0)

    # Painted white and painted black, a pixel differs by as much as it is opaque.
    white, black = shown("white"), shown("black")
    alpha = np.asarray(white.picture.convert("L"), dtype=int) - np.asarray(black.picture.convert("L"))
    (one,) = white.objects
    assert black.objects == (one,)
    inner, outer = bounds(alpha >= 130), bounds(alpha >= 126)
    for i, side in enumerate(one.box):
        assert min(inner[i], outer[i]) <= side <= max(inner[i], outer[i])
    assert 0.2 * 64 < max(one.box[2] - one.box[0], one.box[3] - one.box[1]) <= 0.5 * 64 * 1.42


def test_clutter_hides_no_object_beyond_the_limit() -> None:
    config = ScenesConfig(size=64, clutter=(20, 20), objects=(1, 1), rotation=0, visible=0.6)
    hidden = []
    for seed in range(20):
        scene = render(SceneDraws(seed, 0, 0), config, lambda draws: 0, rectangle)
        hidden += [one.visible for one in scene.objects]
    assert len(hidden) == 20
    assert min(hidden) >= 0.6
    assert min(hidden) < 1  # some are hidden in part


@pytest.fixture(scope="module")
def emoji() -> Catalog:
    return open_source("emoji-pairs").scan().catalog


def test_parts_share_no_concept_and_designers_stay_out(emoji: Catalog, tmp_path: Path) -> None:
    about = write_scenes(emoji, tmp_path / "scenes", ScenesConfig(**TINY))
    assert about["scenes"] == {"train": 4, "val": 2, "test": 2, "test_designers": 2, "trainval": 6}
    table = pq.read_table(tmp_path / "scenes" / "objects.parquet").to_pandas()
    assert set(table["part"]) == {"train", "val", "test", "test_designers"}
    rows = emoji.select(emoji.rows_of(table["image_id"].to_numpy()))
    split = {"train": "train", "val": "validation", "test": "test", "test_designers": "test"}
    assert list(rows.column("split")) == [split[part] for part in table["part"]]
    assert list(rows.column("held_out").astype(bool)) == list(table["part"] == "test_designers")
    assert list(rows.column("concept")) == list(table["concept"])
    assert len(about["classes"]) == 20
    assert sum(row["drawings"] for row in about["licences"]) == table["image_id"].nunique()


def test_a_devkit_reads_back_what_was_painted(emoji: Catalog, tmp_path: Path) -> None:
    write_scenes(emoji, tmp_path / "scenes", ScenesConfig(**TINY))
    table = pq.read_table(tmp_path / "scenes" / "objects.parquet").to_pandas()
    for part in ("train", "val", "test", "test_designers"):
        for image in read_voc(tmp_path / "scenes", 2007, part):
            own = table[table["scene"] == image.id]
            assert [one.name for one in image.objects] == list(own["class"])
            assert [one.box for one in image.objects] == [
                tuple(row) for row in own[["xmin", "ymin", "xmax", "ymax"]].to_numpy()
            ]
            assert [one.occluded for one in image.objects] == list(own["occluded"])
            assert [one.truncated for one in image.objects] == list(own["truncated"])


def test_the_same_bytes_for_any_number_of_workers(emoji: Catalog, tmp_path: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    config = ScenesConfig(**TINY, contexts=1, context_size=16, classes=("food-drink/drink",))
    write_scenes(emoji, tmp_path / "one", config, workers=1)
    write_scenes(emoji.select(np.arange(len(emoji))[::-1]), tmp_path / "three", config, workers=3)
    assert files(tmp_path / "one") == files(tmp_path / "three")
    again = config.model_copy(update={"seed": 1})
    write_scenes(emoji, tmp_path / "other", again)
    assert files(tmp_path / "one").keys() == files(tmp_path / "other").keys()
    assert files(tmp_path / "one") != files(tmp_path / "other")


def test_more_scenes_leave_the_first_ones_as_they_were(emoji: Catalog, tmp_path: Path) -> None:
    few = TINY | {"val": 0, "test": 0, "test_designers": 0}
    write_scenes(emoji, tmp_path / "few", ScenesConfig(**few))
    write_scenes(emoji, tmp_path / "more", ScenesConfig(**{**few, "train": 6}))
    for name in ("000001.jpg", "000004.jpg"):
        pictures = [tmp_path / n / "VOCdevkit/VOC2007/JPEGImages" / name for n in ("few", "more")]
        assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_contexts_are_the_same_object_in_other_scenes(emoji: Catalog, tmp_path: Path) -> None:
    none = {"train": 0, "val": 0, "test": 0, "test_designers": 0}
    config = ScenesConfig(**none, contexts=3, context_size=16, classes=("food-drink/drink",))
    write_scenes(emoji, tmp_path / "scenes", config)
    catalog = open_source(f"csv:{tmp_path}/scenes/contexts/images.csv").scan().catalog
    drawings = emoji.rows_of(catalog.column("concept"))
    assert set(emoji.select(drawings).column("split")) == {"train"}
    assert not emoji.select(drawings).column("held_out").astype(bool).any()
    assert len(catalog) == 3 * len(set(drawings))
    assert len(set(catalog.column("file_hash"))) == len(catalog)
    plan = plan_pairs(catalog, PairsConfig(relation="cross_domain", mode="redrawn"))
    drawn = plan.epoch(0)
    concept, domain = catalog.column("concept"), catalog.column("domain")
    assert len(drawn.anchor) == len(catalog)
    assert (concept[drawn.anchor] == concept[drawn.partner]).all()
    assert (domain[drawn.anchor] != domain[drawn.partner]).all()


def folder_of_grounds(place: Path, splits: tuple[str, ...]) -> str:
    """A source of plain pictures, one shade a split, of a size that is no divisor of a scene's."""
    for number, split in enumerate(splits):
        (place / split).mkdir(parents=True)
        for k in range(2):
            shade = 40 * (number + 1)
            Image.new("RGB", (20, 30), (shade, shade, 5 * k)).save(place / split / f"{k}.png")
    return f"folder:{place}"


def test_textures_lie_behind_scenes_of_their_own_split(emoji: Catalog, tmp_path: Path) -> None:
    source = folder_of_grounds(tmp_path / "grounds", ("train", "validation", "test"))
    bare: dict[str, Any] = {
        **TINY,
        "clutter": (0, 0),
        "scale": (0.15, 0.2),
        "objects": (1, 1),
        "quality": 100,
    }
    config = ScenesConfig(**bare, textures=source, contexts=1, classes=("food-drink/drink",))
    about = write_scenes(emoji, tmp_path / "scenes", config)
    assert sum(row["textures"] for row in about["grounds"]["licences"]) == 6
    for part, shade in (("train", 40), ("val", 80), ("test", 120), ("test_designers", 120)):
        for image in read_voc(tmp_path / "scenes", 2007, part):
            file = tmp_path / "scenes/VOCdevkit/VOC2007/JPEGImages" / f"{image.id}.jpg"
            pixels = np.asarray(Image.open(file))
            near = np.abs(pixels[..., 0].astype(int) - shade) <= 6
            assert near.mean() > 0.8
    for file in list((tmp_path / "scenes/contexts/images").glob("*.png"))[:5]:
        assert (np.asarray(Image.open(file))[..., 0] == 40).mean() > 0.2
    again = write_scenes(emoji, tmp_path / "again", config, workers=1)
    assert again["pictures_hash"] == about["pictures_hash"]
    few = folder_of_grounds(tmp_path / "few", ("train", "test"))
    with pytest.raises(UserError, match=r"scenes\.textures must have images of the split validation"):
        write_scenes(emoji, tmp_path / "no", config.model_copy(update={"textures": few}))


def test_a_texture_is_repeated_without_seams() -> None:
    ramp = np.repeat(np.arange(0, 200, 5, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    for number in range(20):
        shown = laid(SceneDraws(0, 0, number), 100, Image.fromarray(ramp))
        assert shown.shape == (100, 100, 3)
        assert np.abs(np.diff(shown.astype(int), axis=1)).max() <= 6
        assert (shown == shown[:1]).all()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"objects": (5, 1)}, "objects must be a range"),
        ({"train": 0, "val": 0, "test": 0, "test_designers": 0}, "at least one scene"),
        ({"scale": (0.0, 0.5)}, "scale"),
    ],
)
def test_a_configuration_that_cannot_be(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        ScenesConfig(**settings)


def test_mistakes(emoji: Catalog, tmp_path: Path) -> None:
    train = emoji.select(emoji.column("split") == "train")
    with pytest.raises(UserError, match=r"scenes\.val asks for scenes, and no image is there"):
        write_scenes(train, tmp_path / "a", ScenesConfig(**TINY))
    with pytest.raises(UserError, match=r"food-drink/drink"):
        write_scenes(emoji, tmp_path / "a", ScenesConfig(**TINY, classes=("food-drink/drinks",)))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "kept").write_text("x")
    with pytest.raises(UserError, match="used"):
        write_scenes(emoji, tmp_path / "used", ScenesConfig(**TINY))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["used"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--set={name}={value}" for name, value in TINY.items()]
    assert run(["data", "scenes", "--out", str(tmp_path / "s"), "--set", "classes=3", *given]) == 0
    assert "3 classes; scenes: train 4" in capsys.readouterr().out
    assert run(["data", "info", f"voc:{tmp_path / 's'}"]) == 0
    assert "images         8\n" in capsys.readouterr().out  # the sets that every devkit has
