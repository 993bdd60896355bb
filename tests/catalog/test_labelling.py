"""Levels of folders, split lists and the choice of classes, as a recipe's data section asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.catalog import Catalog
from sempairs.catalog.labelling import Labelling, choose_classes, label
from sempairs.catalog.levels import apply_levels
from sempairs.catalog.selection import DataSection
from sempairs.catalog.sources import open_source
from sempairs.catalog.splits import assign_splits
from sempairs.config import validate
from sempairs.errors import UserError

WritePng = Callable[..., Path]


def catalog_of(categories: Sequence[str | None], **more: Any) -> Catalog:
    n = len(categories)
    columns = {
        "image_id": [f"{i:03d}" for i in range(n)],
        "file_hash": [f"{i:064x}" for i in range(n)],
        "uri": [f"{i}.png" for i in range(n)],
        "width": [4] * n,
        "height": [4] * n,
        "source": ["folder:/absent"] * n,
        "category": categories,
    }
    return Catalog.from_columns(columns | more)


def rows(catalog: Catalog, *names: str) -> list[tuple[str | None, ...]]:
    return list(zip(*(catalog.column(name).tolist() for name in names), strict=True))


class TestLevels:
    def test_domain_and_class_in_either_order(self) -> None:
        found = apply_levels(catalog_of(["clipart/dog", "real/cat", None]), ("domain", "category"))
        assert rows(found, "domain", "category") == [("clipart", "dog"), ("real", "cat"), (None, None)]
        turned = apply_levels(catalog_of(["dog/clipart", "cat/real", None]), ("category", "domain"))
        assert turned.with_column("category", found.column("category")) == turned
        assert rows(turned, "domain", "category") == rows(found, "domain", "category")

    def test_all_kinds_of_level(self) -> None:
        paths = ["train/lab/shoe/17/left/extra", "VAL/lab/hat/17/right", "test/lab/hat"]
        found = apply_levels(catalog_of(paths), ("split", "-", "category", "concept", "viewpoint"))
        assert rows(found, "split", "category", "concept", "viewpoint") == [
            ("train", "shoe/extra", "shoe/extra/17", "left"),
            ("validation", "hat", "hat/17", "right"),
            ("test", "hat", None, None),
        ]
        assert found.extra == ("viewpoint",)

    def test_two_levels_of_category(self) -> None:
        found = apply_levels(catalog_of(["animal/photo/dog"]), ("category", "domain", "category"))
        assert rows(found, "category", "domain") == [("animal/dog", "photo")]

    def test_too_flat(self) -> None:
        with pytest.raises(UserError, match="names 2 levels, and the images' folders are at most 1 deep"):
            apply_levels(catalog_of(["dog", None]), ("domain", "category"))

    def test_an_unknown_split(self) -> None:
        with pytest.raises(UserError, match="did you mean 'train'"):
            apply_levels(catalog_of(["trian/dog"]), ("split", "category"))

    @pytest.mark.parametrize(
        ("levels", "message"),
        [
            ([], "data.levels must not be empty"),
            (["domain", "domain"], "must not hold 'domain' twice"),
            (["domain", "uri"], "has 'uri'"),
            (["Domain"], "has 'Domain'"),
            (["a b"], "has 'a b'"),
        ],
    )
    def test_mistakes(self, levels: list[str], message: str) -> None:
        with pytest.raises(UserError, match=message):
            validate(DataSection, {"data": {"source": "digits", "levels": levels}})


class TestSplitLists:
    def tree(self, tmp_path: Path, write_png: WritePng) -> Path:
        for seed, name in enumerate(
            ["clipart/dog/1.png", "clipart/dog/2.png", "real/a cat/1.png", "real/a cat/2.png"]
        ):
            write_png(tmp_path / name, seed)
        (tmp_path / "clipart_train.txt").write_text("clipart/dog/1.png 0\nclipart/dog/gone.png 0\n\n")
        (tmp_path / "real_train.txt").write_text("real/a cat/1.png 1\n")
        (tmp_path / "clipart_test.txt").write_text("clipart/dog/2.png\n")
        return tmp_path

    def label(self, root: Path, **lists: str) -> Catalog:
        labelling = Labelling(levels=("domain", "category"), split_lists=lists)
        return label(open_source(f"folder:{root}").scan().catalog, labelling)

    def test_domainnet(self, tmp_path: Path, write_png: WritePng) -> None:
        found = self.label(self.tree(tmp_path, write_png), train="*_train.txt", test="*_test.txt")
        assert rows(found, "domain", "category", "split") == [
            ("clipart", "dog", "train"),
            ("clipart", "dog", "test"),
            ("real", "a cat", "train"),
            ("real", "a cat", None),
        ]
        assert self.label(tmp_path, train=str(tmp_path / "real_train.txt")).column("split").tolist() == [
            None, None, "train", None,
        ]  # fmt: skip

    def test_mistakes(self, tmp_path: Path, write_png: WritePng) -> None:
        root = self.tree(tmp_path, write_png)
        with pytest.raises(UserError, match=r"data.split_lists.train must name a list in .*, got 'none\*'"):
            self.label(root, train="none*")
        (root / "twice.txt").write_text("\nclipart/dog/1.png 0")
        with pytest.raises(UserError, match=r"twice.txt line 2 names an image of the split train"):
            self.label(root, train="*_train.txt", test="twice.txt")
        (root / "other.txt").write_text("a.png 0\n")
        with pytest.raises(UserError, match="must list images of the source, and names none"):
            self.label(root, train="other.txt")
        with pytest.raises(UserError, match=r"cannot be read \(No such file"):
            self.label(root, train="/absent/list.txt")
        with pytest.raises(UserError, match="needs images of one folder"):
            label(catalog_of(["a"]), Labelling(split_lists={"train": "x"}))
        with pytest.raises(UserError, match=r"data.split_lists must be lists for train, validation, test"):
            validate(DataSection, {"data": {"source": "digits", "split_lists": {"trian": "x"}}})

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    @pytest.mark.parametrize(
        "line",
        [
            "clipart/dog/1.png",
            "clipart/dog/1.png 0",
            "clipart/dog/1.png\t0",
            "clipart/dog/1.png,0",
            "clipart/dog/1.png dog",
            "clipart\\dog\\1.png 0",
            "./clipart/dog/1.png",
            '"clipart/dog/1.png",0',
            "ROOT/clipart/dog/1.png",
        ],
    )
    def test_ways_to_write_a_line(
        self, tmp_path: Path, write_png: WritePng, line: str, encoding: str
    ) -> None:
        root = self.tree(tmp_path, write_png)
        (root / "list.txt").write_text(f"{line.replace('ROOT', str(root))}\n", encoding=encoding)
        assert self.label(root, train="list.txt").column("split").tolist() == ["train", None, None, None]

    def test_names_with_blanks_and_other_unicode_forms(self, tmp_path: Path, write_png: WritePng) -> None:
        for seed, name in enumerate(["a cat/1 2.png", "cafe\u0301/3.png", "b 7/4.png"]):
            write_png(tmp_path / "photos" / name, seed)
        (tmp_path / "photos" / "list.txt").write_text("a cat/1 2.png\ncaf\u00e9/3.png 12\n# b 7/4.png\n")
        source = open_source(f"folder:{tmp_path / 'photos'}").scan().catalog
        found = label(source, Labelling(split_lists={"train": "list.txt"}))
        assert rows(found, "uri", "split") == [
            ("a cat/1 2.png", "train"),
            ("b 7/4.png", None),
            ("cafe\u0301/3.png", "train"),
        ]

    def test_lines_and_images_that_match_nothing_are_told(
        self, tmp_path: Path, write_png: WritePng, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = self.tree(tmp_path, write_png)
        (root / "list.txt").write_text("clipart/dog/1.png 0\nclipart/dog/12.png 0\nabsent.png\n")
        self.label(root, train="list.txt")
        told = capsys.readouterr().err
        assert "2 of 3 lines name no image of the source: clipart/dog/12.png 0, absent.png" in told
        assert "3 of 4 images are in no list of data.split_lists and have no split" in told
        (root / "other.txt").write_text("clipart/dog/1.jpg 0\n")
        with pytest.raises(UserError, match=r"names none; write paths as in .*/clipart/dog/1.png, not clip"):
            self.label(root, train="other.txt")


def test_drawn_splits_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = catalog_of(["a"] * 20, source=[f"folder:{tmp_path}"] * 20)
    label(catalog, Labelling(split_seed=3))
    told = capsys.readouterr().err
    assert f"no image of folder:{tmp_path} has a split of its own; drawn by key, seed 3: train 14," in told
    assert set(label(catalog, Labelling(), draw=False).column("split")) == {None}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_classes_in_another_unicode_form(tmp_path: Path, encoding: str) -> None:
    catalog = catalog_of(["caf\u00e9", "polar bear", "tea"])
    (tmp_path / "classes.txt").write_text("cafe\u0301\npolar\u00a0bear\n", encoding=encoding)
    for asked in (str(tmp_path / "classes.txt"), ["cafe\u0301", "polar bear"]):
        found = choose_classes(catalog, asked)
        assert found.column("category").tolist() == ["caf\u00e9", "polar bear"]


def test_images_that_lie_less_deep_than_the_levels_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    apply_levels(catalog_of(["real/cat", "lost and found", None]), ("domain", "category"))
    told = capsys.readouterr().err
    assert (
        "2 images lie less deep than the 2 folders that data.levels names, some of them in lost and" in told
    )


NAMES = [f"n{i:08d}" for i in range(40)]


class TestClasses:
    def test_a_number_draws_by_key(self) -> None:
        catalog = catalog_of([*NAMES, *NAMES, None])
        found = choose_classes(catalog, 7)
        chosen = set(found.column("category"))
        assert len(chosen) == 7
        assert len(found) == 14
        # Whatever the order of rows; a smaller number a part; another seed, others.
        assert choose_classes(catalog.select(range(len(catalog))[::-1]), 7).in_order() == found.in_order()
        assert set(choose_classes(catalog, 3).column("category")) < chosen
        assert set(choose_classes(catalog, 7, seed=1).column("category")) != chosen
        assert len(choose_classes(catalog, 40)) == 80

    def test_names_and_files_of_them(self, tmp_path: Path) -> None:
        catalog = catalog_of(["n02085620-Chihuahua", "n00000001", "golden retriever", "n00000002"])
        for asked in (["n02085620", "golden retriever"], ["n02085620-Chihuahua", "golden retriever"]):
            found = choose_classes(catalog, asked).column("category").tolist()
            assert found == ["n02085620-Chihuahua", "golden retriever"]
        (tmp_path / "list.txt").write_text("# mine\n\nn02085620 Chihuahua\ngolden retriever\n")
        found = choose_classes(catalog, str(tmp_path / "list.txt")).column("category").tolist()
        assert found == ["n02085620-Chihuahua", "golden retriever"]

    def test_mistakes(self, tmp_path: Path) -> None:
        catalog = catalog_of(["cat", "dog"])
        (tmp_path / "twice.txt").write_text("cat\ncat\n")
        (tmp_path / "typo.txt").write_text("cat\n\ndgo\n")
        (tmp_path / "empty.txt").write_text("\n")
        (tmp_path / "bytes.txt").write_bytes(b"\xff")
        for classes, message in (
            (3, "data.classes must be at most the 2 classes there are, got 3"),
            (["dgo"], "did you mean 'dog'"),
            (["cat", "cat"], "must not name a class twice"),
            ([], "must name a class"),
            (str(tmp_path / "twice.txt"), "twice.txt line 2 must not name a class twice"),
            (str(tmp_path / "typo.txt"), "typo.txt line 3 is unknown, got 'dgo'; did you mean 'dog'"),
            (str(tmp_path / "empty.txt"), "must name a class"),
            (str(tmp_path / "bytes.txt"), "no text in UTF-8"),
            ("absent.txt", r"No such file or directory\), got 'absent.txt'; give a number"),
        ):
            with pytest.raises(UserError, match=message) as caught:
                choose_classes(catalog, classes)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("classes", [0, -1, True, 1.5])
    def test_numbers_that_are_none(self, classes: object) -> None:
        with pytest.raises(UserError, match=r"data.classes"):
            validate(DataSection, {"data": {"source": "digits", "classes": classes}})


def test_unknown_keys_are_named() -> None:
    with pytest.raises(UserError, match=r"data.clases is not a known key; did you mean 'classes'"):
        validate(DataSection, {"data": {"source": "digits", "clases": 3}})


def test_the_defaults_change_nothing_but_missing_splits() -> None:
    catalog = catalog_of([*NAMES, *NAMES])
    assert label(catalog, Labelling(split_seed=3)) == assign_splits(catalog, seed=3)
    given = assign_splits(catalog, seed=1)
    assert label(given, Labelling()) == given


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(NAMES[:9]), min_size=9, max_size=60), st.integers(1, 3), st.integers(0, 5))
def test_an_image_has_one_split_whatever_the_classes(names: list[str], classes: int, seed: int) -> None:
    catalog = catalog_of([*names, *NAMES[:3]])
    every = label(catalog, Labelling(split_seed=seed))
    some = label(catalog, Labelling(split_seed=seed, classes=classes))
    split = dict(rows(every, "image_id", "split"))
    assert all(split[image] == given for image, given in rows(some, "image_id", "split"))
