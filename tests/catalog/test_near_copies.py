"""Near-copies on constructed pictures: every kind of change is found, other pictures are not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from sempairs.catalog import near_copies as module
from sempairs.catalog.near_copies import compared, has_features, near_copies, sketch

COUNT = 24
T = Image.Transpose


def drawing(number: int, side: int = 96) -> Image.Image:
    """Ellipses of random colours on white."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.integers(0, 0.7 * side, 2)
        w, h = rng.integers(0.15 * side, 0.45 * side, 2)
        draw.ellipse((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg 95": lambda image: jpeg(image, 95),
    "jpeg 30": lambda image: jpeg(image, 30),
    "half": lambda image: image.resize((48, 48), Image.Resampling.BICUBIC),
    "larger, other sides": lambda image: image.resize((224, 160), Image.Resampling.BILINEAR),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "quarter": lambda image: image.transpose(T.ROTATE_90),
    "three quarters": lambda image: image.transpose(T.ROTATE_270),
    "half turn": lambda image: image.transpose(T.ROTATE_180),
    "transposed": lambda image: image.transpose(T.TRANSPOSE),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cropped by 5%": lambda image: image.crop((5, 0, 96, 91)),
    "cropped by 20%": lambda image: image.crop((0, 19, 77, 96)),
    "rim of 10%": lambda image: image.crop((10, 10, 86, 86)),
    "mirrored, cropped, jpeg": lambda image: jpeg(ImageOps.mirror(image).crop((3, 6, 90, 93)), 60),
}


@pytest.fixture(scope="module")
def originals() -> np.ndarray:
    return np.stack([sketch(drawing(number)) for number in range(COUNT)])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str, originals: np.ndarray) -> None:
    copies = np.stack([sketch(CHANGES[change](drawing(number))) for number in range(COUNT)])
    found = near_copies(copies, originals)
    pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert len({a for a, b in pairs if a == b}) >= 0.95 * COUNT
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
    both = np.concatenate([copies, originals])
    assert (compared(both, np.arange(COUNT), COUNT + np.arange(COUNT)) <= 1).mean() >= 0.95


def test_other_drawings_are_no_copies(originals: np.ndarray) -> None:
    assert len(near_copies(originals)) == 0
    one, other = np.triu_indices(COUNT, 1)
    assert (compared(originals, one, other) > 1).all()


def test_within_a_set_each_pair_stands_once_and_from_either_side_the_same(originals: np.ndarray) -> None:
    cropped = sketch(drawing(3).crop((0, 0, 80, 80)))
    for both in (np.vstack([originals, cropped]), np.vstack([cropped, originals])):
        found = near_copies(both)
        assert len(found) == 1 and found.left[0] < found.right[0]
    back, forth = near_copies(originals, cropped[None]), near_copies(cropped[None], originals)
    assert (back.left.tolist(), back.right.tolist()) == (forth.right.tolist(), forth.left.tolist())


@pytest.mark.parametrize(
    ("change", "words"),
    [("jpeg 95", "the same"), ("mirrored", "mirrored"), ("quarter", "turned"), ("cropped by 20%", "cropped"),
     ("mirrored, cropped, jpeg", "mirrored, cropped")],
)  # fmt: skip
def test_it_says_how_they_differ(change: str, words: str, originals: np.ndarray) -> None:
    found = near_copies(sketch(CHANGES[change](drawing(5)))[None], originals)
    assert found.how(0) == words


def test_equal_shapes_of_other_colours_are_two_pictures_unless_one_is_grey() -> None:
    def disc(colour: str) -> Image.Image:
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).ellipse((10, 14, 50, 44), fill=colour)
        return image

    red, green = disc("#d04040"), disc("#108a10")
    level = red.convert("L").getpixel((30, 30))
    assert abs(int(level) - int(green.convert("L").getpixel((30, 30)))) < 30
    assert len(near_copies(np.stack([sketch(red), sketch(green)]))) == 0
    assert len(near_copies(np.stack([sketch(red), sketch(red.convert("L").convert("RGB"))]))) == 1


def test_plain_and_tiny_pictures_are_compared_with_none() -> None:
    plain, tiny = Image.new("RGB", (64, 64), "#eeeeee"), drawing(0).resize((12, 12))
    drawn = np.stack([sketch(plain), sketch(plain), sketch(tiny), sketch(tiny)])
    assert not has_features(drawn).any()
    assert len(near_copies(drawn)) == 0


def test_a_white_drawing_on_nothing_is_laid_on_black() -> None:
    image = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    ImageDraw.Draw(image).ellipse((8, 20, 40, 60), fill=(255, 255, 255, 255))
    under = Image.new("RGBA", image.size, "black")
    under.alpha_composite(image)
    assert len(near_copies(np.stack([sketch(image), sketch(under.convert("RGB"))]))) == 1


def test_the_lists_find_what_the_search_of_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [drawing(number) for number in range(60)]
    drawn = np.stack([sketch(image) for image in [*images, *(ImageOps.mirror(i) for i in images[:20])]])
    outright = near_copies(drawn)
    monkeypatch.setattr(module, "_EXACT", 0.0)
    listed = near_copies(drawn)
    pairs = [set(zip(found.left.tolist(), found.right.tolist(), strict=True)) for found in (outright, listed)]
    assert {(i, 60 + i) for i in range(20)} <= pairs[0]
    assert len(pairs[0] & pairs[1]) >= 0.9 * len(pairs[0]) and pairs[1] <= pairs[0]
    again = near_copies(drawn)
    assert np.array_equal(listed.left, again.left) and np.array_equal(listed.right, again.right)


def test_nothing_is_found_in_nothing(originals: np.ndarray) -> None:
    assert len(near_copies(originals[:0])) == 0
    assert len(near_copies(originals, originals[:0])) == 0
    assert len(near_copies(originals[:1])) == 0
