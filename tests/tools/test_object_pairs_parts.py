"""The parts of the builder of object-pairs: reading, rendering, names, groups, splits."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from object_pairs import furniture as source
from object_pairs import groups, mesh, render
from object_pairs.groups import Named
from sempairs.errors import UserError

from .conftest import cube, deb

vtk = pytest.importorskip("vtkmodules")


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "thing.obj"


# Reading the package -------------------------------------------------------------------------------


def test_models_licences_and_makers(furniture: Path) -> None:
    found = source.read_furniture(furniture)
    assert [m.key for m in found.models] == sorted(m.key for m in found.models)
    by_key = {m.key: m for m in found.models}
    assert {key: m.licence for key, m in by_key.items()} == {
        "scopia/chair1": "CC-BY-3.0",
        "scopia/chair2": "CC-BY-3.0",
        "scopia/car": "CC-BY-3.0",
        "scopia/panel": "CC-BY-3.0",
        "katorlegaz/seat": "CC-BY-3.0-US",
        "katorlegaz/post": "CC-BY-3.0-US",
        "blendswap-cc-0/vase": "CC0-1.0",
        "blendswap-cc-0/nc": None,  # its own file says no commercial use
        "unclear/thing": None,  # catalogue and Debian differ
        "copyleft/gnu": None,
    }
    assert by_key["scopia/chair2"].maker == "Scopia"
    vase = by_key["blendswap-cc-0/vase"].attribution
    assert vase.startswith("MattMump, http://www.blendswap.com/blends/view/7, ")
    assert "Andrew Kator & Jennifer Legaz" in by_key["katorlegaz/seat"].attribution
    assert found.licences == {
        spdx: f"Text of {name}.\n\nThe end.\n"
        for name, spdx in (("CC0", "CC0-1.0"), ("CC-BY-3.0", "CC-BY-3.0"), ("CC-BY-3.0-USA", "CC-BY-3.0-US"))
    }


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("Released under\nCreative Commons Zero (Public Domain)\n", "CC0-1.0"),
        ("Released under\r\nCreative Commons Attribution 3.0\r\n", "CC-BY-3.0"),
        ("<a href='https://creativecommons.org/publicdomain/zero/1.0/'>", "CC0-1.0"),
        ("<a href='http://creativecommons.org/licenses/by/3.0'>", "CC-BY-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/", None),
        ("https://creativecommons.org/licenses/by-sa/3.0/", None),
        ("https://creativecommons.org/licenses/by-nc-nd/3.0/", None),
        ("Released under\nCreative Commons Attribution Share-Alike 3.0\n", None),
        ("creativecommons.org/licenses/by/3.0/ and creativecommons.org/licenses/by-nc/3.0/", None),
        ("You may ask.", None),
    ],
)
def test_what_a_licence_file_says(text: str, licence: str | None) -> None:
    assert source.own_licence({"x LICENSE.html": text.encode()})[::2] == (licence, True)
    assert source.own_licence({"x.obj": text.encode()}) == (None, None, False)


def test_properties_as_java_writes_them() -> None:
    text = b"# name=no\nlicense=Public\\ domain\nname#2=H\\u00f4tel \\\n   bed\nname#10: Caf\xe9\n"
    general, entries = source.properties(text)
    assert general == {"license": "Public domain"}
    assert entries == {2: {"name": "Hôtel bed"}, 10: {"name": "Café"}}


@pytest.mark.parametrize(
    ("creator", "maker"),
    [("SirOccor & eTeks", "SirOccor"), ("Jay-Artist, Kator Legaz & eTeks", "Jay-Artist"),
     ("BlendSwap", "Blend Swap"), ("", "Blend Swap"), ("Doug C", "Doug C")],
)  # fmt: skip
def test_makers_without_who_converted(creator: str, maker: str) -> None:
    assert source.maker_of(creator) == maker


@pytest.mark.parametrize("spoil", ["none", "cut", "other", "version"])
def test_other_packages_are_refused(spoil: str, furniture: Path, tmp_path: Path) -> None:
    control = {
        "other": "Package: gimp\nVersion: 1.8-1\n",
        "version": "Package: sweethome3d-furniture\nVersion: 2\n",
    }
    data = (
        deb(control[spoil], {})
        if spoil in control
        else furniture.read_bytes()[:500]
        if spoil == "cut"
        else b"x"
    )
    (tmp_path / "x.deb").write_bytes(data)
    expected = (
        "must be sweethome3d-furniture 1.8-1" if spoil in control else "Debian package that can be read"
    )
    with pytest.raises(UserError, match=expected):
        source.read_furniture(tmp_path / "x.deb")


# Models ----------------------------------------------------------------------------------------------


def test_parts_of_a_model(tmp_path: Path) -> None:
    text = """mtllib THING.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 1
vn 0 0 1
usemtl wood
f 1/1/1 2/2/1 3/1/1 4/2/1
f -4 -3 -2
l 1 2
usemtl clear glass
f 1//1 2//1 3//1
"""
    material = "newmtl wood\nKd .1 .2 .3\nKs 1 1 1\nd 0.001\nNs 400\nmap_Kd -s 1 1 1 Oak.PNG\n"
    model = laid_out(tmp_path, {"thing.obj": text.encode(), "thing.mtl": material.encode()})
    Image.new("RGB", (2, 1), (10, 20, 30)).save(tmp_path / "oak.png")
    wood, glass = mesh.read_parts(model)
    assert wood.material == mesh.Material((0.1, 0.2, 0.3), 1.0, 100.0, 0.25, "Oak.PNG")
    assert wood.sizes.tolist() == [4, 3]
    assert wood.points[wood.faces].tolist()[4:] == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert wood.uv is not None
    assert wood.uv[wood.faces].tolist() == [[0, 0], [1, 1], [0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    assert glass.uv is None
    texture = wood.material.texture(tmp_path)
    assert texture is not None
    assert texture.tolist() == [[[10, 20, 30, 255]] * 2]
    assert glass.material.opacity == 0.4  # no file describes it
    assert glass.normals is not None
    assert (glass.normals == [0, 0, 1]).all()


def test_opacity_from_an_image_of_its_own(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / "leaf.png")
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "mask.png")
    found = mesh.Material(image="leaf.png", mask="mask.png").texture(tmp_path)
    assert found is not None
    assert set(found[..., 3].ravel().tolist()) >= {0, 255}
    assert mesh.Material(image="absent.png").texture(tmp_path) is None


@pytest.mark.parametrize("face", ["f 1 2 9", "f 0 1 2", "f 1/5 2/5 3/5", "f a b c", "f -9 1 2"])
def test_a_corner_that_is_not_there(face: str, tmp_path: Path) -> None:
    (tmp_path / "thing.obj").write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\n{face}\n")
    with pytest.raises(ValueError):
        mesh.read_parts(tmp_path / "thing.obj")


# Pictures --------------------------------------------------------------------------------------------


def level(azimuth: float) -> render.View:
    """A view from the height of the object, lit from there."""
    return render.View(azimuth, 0.0, 0.0, 0.0, 0.6)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """A block from its four sides, 2 wide and deep and 4 high."""
    model = laid_out(tmp_path_factory.mktemp("cube"), cube((1, 2, 1)))
    return render.render(model, None, [level(a) for a in (0, 90, 180, 270)])


def test_each_side_has_its_colour(pictures: np.ndarray) -> None:
    centre = pictures[:, 32, 32, :3].astype(int)
    for seen, colour in zip(centre, ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)), strict=True):
        bright = seen[np.array(colour) == 1]
        assert bright.min() > 150
        # White ambient light in the file does not whiten it.
        assert seen[np.array(colour) == 0].max(initial=0) < 10


def test_it_fills_the_picture_and_lies_in_its_middle(pictures: np.ndarray) -> None:
    for picture in pictures:
        rows, columns = (np.flatnonzero((picture[..., 3] > 127).any(axis)) for axis in (1, 0))
        assert abs(len(rows) - 60) <= 1
        assert len(columns) < 40
        assert abs(rows[0] + rows[-1] - 63) <= 1
        assert abs(columns[0] + columns[-1] - 63) <= 1


def test_few_values_and_nothing_under_clear(pictures: np.ndarray) -> None:
    assert len(np.unique(pictures)) <= render.LEVELS
    assert (pictures[pictures[..., 3] == 0] == 0).all()
    assert (pictures[:, 0, 0, 3] == 0).all()
    data = render.encode(pictures[0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")), pictures[0])


def test_a_model_is_turned_as_asked(pictures: np.ndarray, tmp_path: Path) -> None:
    model = laid_out(tmp_path, cube((1, 2, 1)))
    quarter = (0, 0, -1, 0, 1, 0, 1, 0, 0)  # what showed its front shows its left
    found = render.render(model, quarter, [level(90), level(0)])
    assert found[1, 32, 32, 1] > 150  # its right side looks ahead now
    assert found[1, 32, 32, 0] < 10
    assert found[0, 32, 32, 2] > 150


def test_glass_is_seen_through_but_seen(tmp_path: Path) -> None:
    model = laid_out(tmp_path, cube(extra="d 0.01\n"))
    alpha = render.render(model, None, [level(20)])[0, 32, 32, 3]
    assert 255 * 0.25 <= alpha <= 255 * 0.75  # two panes of a quarter each


def test_a_hole_in_a_texture_is_a_hole(tmp_path: Path) -> None:
    image = np.full((64, 64, 4), 255, np.uint8)
    image[16:48, 16:48, 3] = 0
    Image.fromarray(image).save(tmp_path / "net.png")
    model = laid_out(tmp_path, cube(extra="map_Kd net.png\n"))
    seen = render.render(model, None, [level(0)])[0]
    assert seen[32, 32, 3] == 0
    assert seen[6, 32, 3] == 255


def test_one_model_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = laid_out(tmp_path, cube((1, 2, 1)))
    views = [level(0), level(90)]
    assert np.array_equal(
        render.render_apart(model, None, views, tmp_path), render.render(model, None, views)
    )
    (tmp_path / "thing.obj").write_text("v 0 0 0\nf 1 1 1\n")
    with pytest.raises(UserError, match=r"model thing cannot be rendered .*nothing to see"):
        render.render_apart(model, None, views, tmp_path)
    monkeypatch.setattr(render, "_SECONDS", 0.01)
    with pytest.raises(UserError, match="takes longer than"):
        render.render_apart(model, None, views, tmp_path)


def test_views_are_keyed() -> None:
    found = render.views_of("scopia/bed1")
    assert found == render.views_of("scopia/bed1")
    assert found != render.views_of("scopia/bed2")
    away = (np.array([v.azimuth for v in found]) - 45 * np.arange(8) + 180) % 360 - 180
    assert np.abs(away).max() <= 22.5
    assert all(8 <= v.elevation <= 45 and 0.45 <= v.light <= 0.75 for v in found)
    many = np.array([v.azimuth for k in range(200) for v in render.views_of(f"x/{k}")[:1]])
    assert abs(((many + 180) % 360 - 180).mean()) < 4


# Names, groups, splits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [("chair", "chair"), ("folding chair", "chair"), ("chair with cushion", "chair"),
     ("blue pine under snow", "pine"),
     ("plate, glass and cutlery", "plate"), ("parking slot 45°", "slot"), ("double-hung window", "window"),
     ("knife stand", "stand"), ("window blind", "blind")],
)  # fmt: skip
def test_what_a_name_is_about(name: str, said: str) -> None:
    assert groups.head(name) == said


def thing(key: str, name: str, kind: str = "Office", maker: str = "Scopia") -> Any:
    return SimpleNamespace(key=key, name=name, kind=kind, maker=maker)


def test_one_name_has_one_kind() -> None:
    models = [
        thing("a", "Chair", "Office"),
        thing("b", "chair", "Exterior"),
        thing("c", "CHAIR 2", "Exterior"),
        thing("d", "Couch"),
        thing("e", "Tool"),
    ]
    found = groups.name_models(models, {"couch": "sofa", "e": "hammer"})
    assert {named.name for named in found.values()} == {"chair", "sofa", "hammer"}
    assert {found[key].kind for key in "abc"} == {"Exterior"}
    assert found["d"] == Named("sofa", "Office")


def test_what_looks_alike_shares_a_group() -> None:
    names = {key: Named(name, "Office") for key, name in
             {"a": "oak chair", "b": "chair", "c": "table", "d": "lamp", "e": "desk lamp"}.items()
             }  # fmt: skip
    rng = np.random.default_rng(0)
    plain = {key: rng.integers(0, 256, (64, 64, 4), dtype=np.uint8) for key in names}
    plain["c"] = np.where(plain["b"] > 250, plain["b"] - 3, plain["b"])
    group, alike = groups.split_groups(names, plain)
    assert group == {"a": "chair", "b": "chair", "c": "chair", "d": "lamp", "e": "lamp"}
    assert [pair[:2] for pair in alike] == [("b", "c")]


def test_splits() -> None:
    rng = np.random.default_rng(1)
    makers = ["Scopia", "Ulanbek", *groups.HELD_OUT]
    group, names, maker = {}, {}, {}
    for k in range(600):
        key = f"m/{k:03d}"
        number = int(rng.integers(160))
        group[key] = "chair" if k < 60 else f"g{number}"
        names[key] = Named("chair" if k < 60 else f"n{number}", f"kind {number % 5}")
        maker[key] = makers[int(rng.choice(4, p=[0.6, 0.2, 0.1, 0.1]))]
    split = groups.assign(group, names, maker)
    shuffled = dict(sorted(group.items(), key=lambda item: hash(item[0])))
    assert groups.assign(shuffled, names, maker) == split
    assert set(split) == set(group.values())
    assert split["chair"] == "train"  # a tenth of all
    for name in set(group.values()):
        if all(maker[key] in groups.HELD_OUT for key, of in group.items() if of == name):
            assert split[name] == "test"
    share = {
        part: np.mean([split[of] == part for of in group.values()])
        for part in ("train", "validation", "test")
    }
    assert 0.04 < share["validation"] < 0.16
    assert 0.3 < share["test"] < 0.55
    learnt = {names[key].kind for key, of in group.items() if split[of] == "train"}
    assert {named.kind for named in names.values()} == learnt
