"""The builder's parts: names, pictures, groups."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emoji_pairs import groups, join, raster
from emoji_pairs.concepts import Concept, normal_code, plain_form
from emoji_pairs.measure import margins_by_set


def _concept(code: str, name: str = "", subgroup: str = "s") -> Concept:
    return Concept(code, name or code, "g", subgroup, None)


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("AB button (blood type)", "ab-button-blood-type"),
        ("person: beard", "person-beard"),
        ("woman’s hat", "womans-hat"),
        ("piñata", "pinata"),
        ("UP! button", "up-button"),
        ("Tom & Jerry", "tom-and-jerry"),
    ],
)
def test_slug(label: str, expected: str) -> None:
    assert join.slug(label) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1f468-200d-1f692", "1f469-200d-1f692"),  # man, woman firefighter
        ("1f3c3-200d-2640", "1f3c3"),  # woman running, person running
        ("1f3c3-200d-2642-200d-27a1", "1f3c3-200d-27a1"),  # ... facing right
        ("1f468", "1f9d1"),
    ],
)
def test_forms_that_differ_in_gender_or_direction(one: str, other: str) -> None:
    assert plain_form(one) == plain_form(other)


def test_other_sequences_keep_their_form() -> None:
    codes = ["2640", "27a1", "1f692", "1f468-200d-1f466", "1f3f4-200d-2620", "2764"]
    assert len({plain_form(code) for code in codes}) == len(codes)
    assert plain_form("2640") == "2640"


def test_normal_code() -> None:
    assert normal_code("2764-FE0F") == "2764"
    assert normal_code("1F468 200D 2764 FE0F") == "1f468-200d-2764"


def test_surest_name_wins() -> None:
    concepts = {"a": _concept("a", "pistol"), "b": _concept("b", "water gun")}
    first = (
        {"icons": {"gun": {}}, "aliases": {"pistol": {"parent": "gun"}, "toy": {"parent": "gun"}}},
        {"b": "gun"},
    )
    second = ({"icons": {"toy": {}}, "aliases": {"nug": {"parent": "toy", "hFlip": True}}}, {"a": "toy"})
    index = join.name_index(concepts, [first, second])
    # Unicode's name before a set's, a set's name before an alias, a mirrored alias not at all.
    assert index == {"pistol": "a", "water-gun": "b", "gun": "b", "toy": "a"}


# --- pictures ------------------------------------------------------------------------------------------

SQUARE = '<rect x="0" y="0" width="8" height="4" fill="currentColor"/>'


def _draw(entry: dict[str, object], **of_set: object) -> np.ndarray:
    icons = {
        "icons": {"a": entry},
        "aliases": {"b": {"parent": "a", "rotate": 1}},
        "width": 8,
        "height": 8,
        **of_set,
    }
    return np.asarray(raster.render(icons, "a"))


def test_current_colour_is_black_and_the_rest_clear() -> None:
    pixels = _draw({"body": SQUARE})
    assert pixels.shape == (64, 64, 4)
    assert (pixels[:32] == [0, 0, 0, 255]).all()
    assert (pixels[32:] == 0).all()


def test_current_colour_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "INK", "#ff0000")
    assert (_draw({"body": SQUARE})[:32] == [255, 0, 0, 255]).all()


def test_oblong_icon_is_centred_and_clipped() -> None:
    pixels = _draw({"body": '<rect x="-9" y="-9" width="99" height="99" fill="red"/>', "height": 4})
    assert (pixels[16:48, :, 3] == 255).all()
    assert (pixels[:16] == 0).all()
    assert (pixels[48:] == 0).all()


def test_own_origin() -> None:
    pixels = _draw({"body": SQUARE, "left": 0, "top": -4})
    assert (pixels[:32] == 0).all()
    assert (pixels[32:, :, 3] == 255).all()


def test_aliases_turn_and_mirror() -> None:
    icons = {
        "icons": {"a": {"body": '<rect width="2" height="4" fill="blue"/>'}},
        "aliases": {
            "turned": {"parent": "a", "rotate": 1},
            "mirrored": {"parent": "turned", "hFlip": True, "rotate": 3},
            "fallen": {"parent": "a", "vFlip": True},
            "same": {"parent": "a"},
            "loop": {"parent": "loop"},
        },
        "width": 8,
        "height": 8,
    }
    plain, turned, mirrored, fallen, same = (
        np.asarray(raster.render(icons, name)) for name in ("a", "turned", "mirrored", "fallen", "same")
    )
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    np.testing.assert_array_equal(fallen, plain[::-1])
    np.testing.assert_array_equal(same, plain)
    with pytest.raises(ValueError, match="alias of itself"):
        raster.render(icons, "loop")


@settings(max_examples=30)
@given(st.binary(min_size=144, max_size=144))
def test_encoding_keeps_every_value(data: bytes) -> None:
    image = Image.frombytes("RGBA", (6, 6), data)
    packed = raster.encode(image)
    assert packed == raster.encode(image)
    assert Image.open(io.BytesIO(packed)).convert("RGBA").tobytes() == data


def test_margins() -> None:
    image = Image.new("RGBA", (64, 64))
    assert raster.margins(image) is None
    image.paste((255, 255, 255, 255), (3, 5, 60, 64))
    assert raster.margins(image) == (3, 5, 4, 0)


def test_margins_by_set() -> None:
    from emoji_pairs.build import Drawing
    from emoji_pairs.sets import SETS

    pixels = np.zeros((2, 64, 64, 4), np.uint8)
    pixels[0, :, :] = 255
    pixels[1, 8:32, 4:60] = 255
    drawn = [Drawing(SETS[0], _concept("a"), "a", "name", p) for p in pixels]
    (row,) = margins_by_set(drawn)
    assert (row.set, row.touching, row.margin, row.side) == ("noto", 0.5, 2.0, 60.0)


# --- groups --------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(seed=st.integers(0, 999), noise=st.integers(0, 12), limit=st.sampled_from([0.0, 0.01, 0.02, 0.05]))
def test_near_pairs_are_those_of_the_plain_definition(seed: int, noise: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (1, 8, 8, 4)) + rng.integers(-noise, noise + 1, (9, 8, 8, 4))
    pictures = pictures.clip(0, 255).astype(np.uint8)
    pictures[4] = pictures[2]
    concepts = [str(c) for c in rng.integers(0, 5, 9)]

    def distance(i: int, j: int) -> float:
        one, other = (pictures[k].astype(np.float64) / 255 for k in (i, j))
        white = [p[..., :3] * p[..., 3:] + 1 - p[..., 3:] for p in (one, other)]
        colour = np.sqrt(np.mean((white[0] - white[1]) ** 2))
        return max(colour, np.sqrt(np.mean((one[..., 3] - other[..., 3]) ** 2)))

    expected = {
        (i, j)
        for i in range(9)
        for j in range(i + 1, 9)
        if concepts[i] != concepts[j] and distance(i, j) <= limit + 1e-12
    }
    found = groups.near_pairs(pictures, concepts, limit)
    assert {(p.first, p.second) for p in found} == expected
    for pair in found:
        assert pair.distance == pytest.approx(distance(pair.first, pair.second), abs=1e-9)
    assert [p.distance for p in found] == sorted(p.distance for p in found)


def test_white_on_white_is_not_alike() -> None:
    pictures = np.zeros((2, 4, 4, 4), np.uint8)
    pictures[0, :2] = pictures[1, 2:] = 255
    assert groups.rmse(*pictures) == 1.0


CODES = [f"{k:04x}" for k in range(0x3000, 0x3000 + 40)]
PAIRS = st.lists(st.tuples(st.sampled_from(CODES), st.sampled_from(CODES)), max_size=30)


@given(pairs=PAIRS, order=st.randoms())
def test_groups_are_the_linked_concepts(pairs: list[tuple[str, str]], order: object) -> None:
    found = groups.split_groups(CODES, pairs)
    assert set(found) == set(CODES)
    assert all(found[one] == found[other] for one, other in pairs)
    assert all(name == min(c for c in CODES if found[c] == name) for name in found.values())
    assert len(set(found.values())) >= len(CODES) - len({tuple(sorted(p)) for p in pairs if p[0] != p[1]})
    turned = pairs[::-1]
    assert groups.split_groups(CODES[::-1], turned) == found


@given(pairs=PAIRS, seed=st.integers(0, 5), kinds=st.integers(1, 6))
def test_splits_have_their_share(pairs: list[tuple[str, str]], seed: int, kinds: int) -> None:
    concepts = {code: _concept(code, subgroup=f"s{k % kinds}") for k, code in enumerate(CODES)}
    group = groups.split_groups(CODES, pairs)
    split = groups.assign(group, concepts, seed)
    assert set(split) == set(group.values())
    assert split == groups.assign(dict(reversed(group.items())), concepts, seed)
    count = Counter(split[name] for name in group.values())
    largest = max(Counter(group.values()).values())
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(count[name] - share * len(CODES)) <= 2 * largest + 1


def test_every_subgroup_can_be_learnt() -> None:
    concepts = {code: _concept(code, subgroup=f"s{k // 2}") for k, code in enumerate(CODES)}
    split = groups.assign({code: code for code in CODES}, concepts)
    assert {concepts[c].subgroup for c in CODES} == {
        concepts[c].subgroup for c in CODES if split[c] == "train"
    }
