"""ImageNet in its true layouts, written small; and the pairs that the recipe makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempairs.catalog.labelling import Labelling, label
from sempairs.catalog.sources import Scan, open_source
from sempairs.cli.main import run
from sempairs.errors import UserError
from sempairs.pairs.table import PairSet
from sempairs.recipes import FOLDER as RECIPES

WNIDS = ("n01440764", "n01443537", "n02085620", "n02123045")
# ILSVRC2012_ID of each, in another order than the ids have.
NUMBERS = {"n01440764": 3, "n01443537": 1, "n02085620": 4, "n02123045": 2}
CLASS_OF_VAL = [WNIDS[i % 4] for i in (2, 0, 1, 3, 0)]
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
NoiseImage = Callable[..., Image.Image]


def write(path: Path, image: Image.Image, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, kind)


def write_train(root: Path, noise: NoiseImage, per_class: int = 6) -> None:
    for number, wnid in enumerate(WNIDS):
        for i in range(per_class):
            seed = 100 * number + i
            write(root / "train" / wnid / f"{wnid}_{i * 7}.JPEG", noise(seed, (9, 8)))


def write_flat(root: Path, noise: NoiseImage) -> None:
    for i, _ in enumerate(CLASS_OF_VAL, start=1):
        write(root / "val" / f"ILSVRC2012_val_{i:08d}.JPEG", noise(1000 + i, (8, 7)))


def write_sorted(root: Path, noise: NoiseImage) -> None:
    for i, wnid in enumerate(CLASS_OF_VAL, start=1):
        write(root / "val" / wnid / f"ILSVRC2012_val_{i:08d}.JPEG", noise(1000 + i, (8, 7)))


def write_kaggle(root: Path, noise: NoiseImage) -> None:
    write_train(root / "ILSVRC/Data/CLS-LOC", noise)
    write_flat(root / "ILSVRC/Data/CLS-LOC", noise)
    write(root / "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG", noise(5))
    lines = [f"ILSVRC2012_val_{i:08d},{w} 1 2 3 4 {w} 5 6 7 8 " for i, w in enumerate(CLASS_OF_VAL, start=1)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(lines), ""]))
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} a, b\n" for wnid in WNIDS))


def write_devkit(root: Path, noise: NoiseImage) -> None:
    from scipy.io import savemat

    write_train(root, noise)
    write_flat(root, noise)
    kit = root / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    # Classes and, as in the true file, an inner synset after them.
    entries = [*sorted((n, w) for w, n in NUMBERS.items()), (5, "n00001740")]
    synsets = np.array([[(n, w, "words", int(n == 5))] for n, w in entries], dtype=fields)
    savemat(kit / "meta.mat", {"synsets": synsets})
    truth = "".join(f"{NUMBERS[wnid]}\n" for wnid in CLASS_OF_VAL)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def write_by_class(root: Path, noise: NoiseImage) -> None:
    write_train(root, noise)
    write_sorted(root, noise)


LAYOUTS = {"kaggle": write_kaggle, "devkit": write_devkit, "sorted": write_by_class}


def scan(root: Path) -> Scan:
    return open_source(f"imagenet:{root}").scan()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_says_the_same(tmp_path: Path, noise: NoiseImage, layout: str) -> None:
    LAYOUTS[layout](tmp_path, noise)
    found = scan(tmp_path)
    assert not found.problems
    catalog = found.catalog
    expected = {
        f"imagenet/train/{wnid}/{wnid}_{i * 7}.JPEG": (wnid, "train") for wnid in WNIDS for i in range(6)
    } | {
        f"imagenet/val/ILSVRC2012_val_{i:08d}.JPEG": (wnid, "test")
        for i, wnid in enumerate(CLASS_OF_VAL, start=1)
    }
    labels = zip(catalog.column("category"), catalog.column("split"), strict=True)
    assert dict(zip(catalog.column("image_id"), labels, strict=True)) == expected
    source = open_source(f"imagenet:{tmp_path}")
    assert {source.open_image(uri).size for uri in catalog.column("uri")} == {(9, 8), (8, 7)}


def test_the_odd_files_of_the_real_one(tmp_path: Path, noise: NoiseImage) -> None:
    """One PNG is named JPEG there, and some JPEGs are CMYK."""
    write_train(tmp_path, noise, per_class=1)
    write(tmp_path / "train/n02085620/n02085620_1.JPEG", noise(1), "PNG")
    write(tmp_path / "train/n02085620/n02085620_2.JPEG", noise(2, mode="CMYK"))
    found = open_source(f"imagenet:{tmp_path}").scan(decode=True)
    assert len(found.catalog) == 6
    assert not found.problems


def test_parts_may_be_absent(tmp_path: Path, noise: NoiseImage) -> None:
    write_train(tmp_path / "a", noise, per_class=1)
    assert set(scan(tmp_path / "a").catalog.column("split")) == {"train"}
    write_sorted(tmp_path / "b", noise)
    assert set(scan(tmp_path / "b").catalog.column("split")) == {"test"}


def test_what_is_not_a_class_is_reported_once(tmp_path: Path, noise: NoiseImage) -> None:
    write_train(tmp_path, noise, per_class=1)
    for name in ("cats/1.JPEG", "cats/2.JPEG", "loose.JPEG", "n01440764/more/3.JPEG"):
        write(tmp_path / "train" / name, noise(1))
    found = scan(tmp_path)
    assert len(found.catalog) == 4
    assert [problem.where for problem in found.problems] == [
        "train/cats", "train/loose.JPEG", "train/n01440764/more",
    ]  # fmt: skip
    assert {problem.reason for problem in found.problems} == {
        "not in a folder named after a synset, such as n02084071"
    }


def test_an_image_that_the_labels_lack(tmp_path: Path, noise: NoiseImage) -> None:
    write_kaggle(tmp_path, noise)
    write(tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000099.JPEG", noise(7))
    (problem,) = scan(tmp_path).problems
    assert problem.where.endswith("val/ILSVRC2012_val_00000099.JPEG")
    assert problem.reason == "the list of labels does not have it"


class TestMistakes:
    def refused(self, root: Path) -> str:
        with pytest.raises(UserError) as caught:
            scan(root)
        line = str(caught.value)
        assert "\n" not in line
        return line

    def test_neither_part(self, tmp_path: Path) -> None:
        line = self.refused(tmp_path)
        assert "must hold train/<wnid>/ or val/, and has neither (nor have ILSVRC/Data/CLS-LOC, " in line

    def test_no_labels(self, tmp_path: Path, noise: NoiseImage) -> None:
        write_flat(tmp_path, noise)
        line = self.refused(tmp_path)
        assert "no labels for it: neither LOC_val_solution.csv nor ILSVRC2012_validation_ground_truth" in line

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b\n", "must start with ImageId,PredictionString"),
            ("ImageId,PredictionString\nx,n0144 1 2\n", "line 2 must be an image and its synset"),
            ("ImageId,PredictionString\nx\n", "line 2 must be an image and its synset"),
            ('ImageId,PredictionString\n"x', "cannot be read"),
        ],
    )
    def test_solutions(self, tmp_path: Path, noise: NoiseImage, text: str, message: str) -> None:
        write_kaggle(tmp_path, noise)
        (tmp_path / "LOC_val_solution.csv").write_text(text)
        assert message in self.refused(tmp_path)

    def test_the_devkit(self, tmp_path: Path, noise: NoiseImage) -> None:
        write_devkit(tmp_path, noise)
        kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
        (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n77\n")
        assert "must hold the numbers of classes in meta.mat (77)" in self.refused(tmp_path)
        (kit / "meta.mat").write_bytes(b"nonsense")
        assert "is not the devkit's meta.mat" in self.refused(tmp_path)
        (kit / "meta.mat").unlink()
        assert "meta.mat does not exist" in self.refused(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r\n\r\n"])
def test_lists_that_windows_saved(tmp_path: Path, noise: NoiseImage, encoding: str, ends: str) -> None:
    for write_layout, name in ((write_kaggle, "LOC_val_solution.csv"), (write_devkit, GROUND_TRUTH)):
        root = tmp_path / name
        write_layout(root, noise)
        before = open_source(f"imagenet:{root}").scan()
        (file,) = root.rglob(name)
        file.write_bytes(file.read_text().replace("\n", ends).encode(encoding))
        scan = open_source(f"imagenet:{root}").scan()
        assert scan.catalog == before.catalog and scan.problems == before.problems
        assert {"test"} <= set(scan.catalog.column("split"))


def test_a_solution_may_name_files_with_their_ending(tmp_path: Path, noise: NoiseImage) -> None:
    write_kaggle(tmp_path, noise)
    before = open_source(f"imagenet:{tmp_path}").scan().catalog
    file = tmp_path / "LOC_val_solution.csv"
    file.write_text(file.read_text().replace(",n", ".JPEG,n").replace("ImageId", "imageid"))
    assert open_source(f"imagenet:{tmp_path}").scan().catalog == before


class TestRecipe:
    """`recipes/imagenet-pairs.yaml`: both matched subsets, for any number of classes and pairs."""

    def build(self, root: Path, out: Path, *options: str) -> tuple[PairSet, PairSet, PairSet]:
        given = [f"--set=data.source={root}", *options]
        assert run(["pairs", "build", str(RECIPES / "imagenet-pairs.yaml"), "--out", str(out), *given]) == 0
        return PairSet.open(out), PairSet.open(out / "augmented"), PairSet.open(out / "image_matched")

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_both_arms_match(self, tmp_path: Path, noise: NoiseImage, layout: str) -> None:
        LAYOUTS[layout](tmp_path / "in", noise)
        options = ("--set=data.classes=3", "--set=pairs.per_class=2")
        sets = self.build(f"imagenet:{tmp_path / 'in'}", tmp_path / "out", *options)
        semantic, augmented, matched = sets
        for pairs in sets:
            classes = Counter(pairs.category.texts())
            # The image-matched baseline lists both images of a pair; an epoch shows one of them.
            assert sorted(classes.values()) == ([4, 4, 4] if pairs is matched else [2, 2, 2])
            assert pairs.pairs_per_epoch == 6
            assert set(classes) == set(semantic.category.texts())
            assert set(pairs.catalog.column("split")) == {"train"}
        label = dict(
            zip(semantic.catalog.column("image_id"), semantic.catalog.column("category"), strict=True)
        )
        anchors, partners = (semantic.table[side].to_pylist() for side in ("anchor", "partner"))
        assert all(label[a] == label[b] and a != b for a, b in zip(anchors, partners, strict=True))
        assert len({*anchors, *partners}) == 12
        assert sorted(augmented.table["anchor"].to_pylist()) == sorted(anchors)
        assert augmented.table["partner"].to_pylist() == augmented.table["anchor"].to_pylist()
        assert set(matched.table["anchor"].to_pylist()) <= {*anchors, *partners}

    def test_the_layout_makes_no_difference_and_fewer_classes_are_a_part(
        self, tmp_path: Path, noise: NoiseImage
    ) -> None:
        hashes = []
        for layout, make in LAYOUTS.items():
            make(tmp_path / layout, noise)
            options = ("--set=data.classes=2", "--set=pairs.per_class=3")
            semantic, *_ = self.build(f"imagenet:{tmp_path / layout}", tmp_path / f"{layout}-out", *options)
            hashes.append(semantic.manifest_hash)
        assert len(set(hashes)) == 1
        one, *_ = self.build(
            f"imagenet:{tmp_path / 'sorted'}",
            tmp_path / "one",
            "--set=data.classes=1",
            "--set=pairs.per_class=3",
        )
        assert set(one.category.texts()) < set(semantic.category.texts())

    def test_a_list_of_classes_and_a_saved_catalogue(self, tmp_path: Path, noise: NoiseImage) -> None:
        write_kaggle(tmp_path / "in", noise)
        (tmp_path / "two.txt").write_text("n02123045\nn01440764\n")
        saved = tmp_path / "in.arrow"
        assert run(["data", "scan", f"imagenet:{tmp_path / 'in'}", "--out", str(saved)]) == 0
        chosen = f"--set=data.classes={tmp_path / 'two.txt'}"
        semantic, *_ = self.build(f"catalog:{saved}", tmp_path / "out", chosen)
        assert set(semantic.category.texts()) == {"n02123045", "n01440764"}
        assert len(semantic) == 6

    def test_subclasses_of_one_hypernym(
        self, tmp_path: Path, noise: NoiseImage, write_wordnet: Callable[..., dict[str, str]]
    ) -> None:
        ids = write_wordnet(tmp_path / "dict")
        for number, word in enumerate(("pug", "Chihuahua", "tench")):
            for i in range(5):
                write(tmp_path / "in/train" / ids[word] / f"{i}.JPEG", noise(100 * number + i))
        options = (
            "--set=pairs.relation=sibling",
            f"--tree=wordnet:{tmp_path / 'dict'}",
            "--set=data.classes=null",
        )
        semantic, *_ = self.build(f"imagenet:{tmp_path / 'in'}", tmp_path / "out", *options)
        assert len(semantic) == 5
        assert {text.split("/")[-1] for text in semantic.category.texts() if text} == {
            f"toy_dog.{ids['toy_dog']}"
        }
        leaves = dict(
            zip(semantic.catalog.column("image_id"), semantic.catalog.column("category"), strict=True)
        )
        for row in semantic.table.to_pylist():
            assert {leaves[row["anchor"]], leaves[row["partner"]]} == {
                f"{semantic.category.texts()[0]}/{word}.{ids[word]}" for word in ("pug", "Chihuahua")
            }

    def test_more_classes_than_there_are(
        self, tmp_path: Path, noise: NoiseImage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_train(tmp_path / "in", noise)
        recipe, out = str(RECIPES / "imagenet-pairs.yaml"), str(tmp_path / "out")
        assert (
            run(["pairs", "build", recipe, "--out", out, f"--set=data.source=imagenet:{tmp_path / 'in'}"])
            == 2
        )
        assert "data.classes must be at most the 4 classes there are, got 100" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["domainnet", "pacs", "office-home"])
def test_recipes_of_domains(tmp_path: Path, noise: NoiseImage, name: str) -> None:
    lists: dict[str, list[str]] = {}
    for i, domain in enumerate(("clipart", "real", "Real World")):
        for j, word in enumerate(("dog", "cat")):
            for k in range(8):
                file = f"{domain}/{word}/{k}.jpg"
                write(tmp_path / "in" / file, noise(100 * i + 10 * j + k))
                lists.setdefault(f"{domain}_{'train' if k < 6 else 'test'}.txt", []).append(f"{file} {j}\n")
    for file, lines in lists.items():
        (tmp_path / "in" / file).write_text("".join(lines))
    given = ["--out", str(tmp_path / "out"), f"--set=data.source=folder:{tmp_path / 'in'}"]
    assert run(["pairs", "build", str(RECIPES / f"{name}-pairs.yaml"), *given]) == 0
    pairs = PairSet.open(tmp_path / "out")
    catalog = pairs.catalog
    domain = dict(zip(catalog.column("image_id"), catalog.column("domain"), strict=True))
    word = dict(zip(catalog.column("image_id"), catalog.column("category"), strict=True))
    assert set(word.values()) == {"dog", "cat"}
    assert set(domain.values()) == {"clipart", "real", "Real World"}
    for row in pairs.table.to_pylist():
        assert word[row["anchor"]] == word[row["partner"]]
        assert domain[row["anchor"]] != domain[row["partner"]]
    if name == "domainnet":
        assert len(pairs) == 18  # all images of the train lists
        assert all(int(Path(image).stem) < 6 for image in word)


def test_pretraining_labels_as_pairs_build_does(tmp_path: Path, noise: NoiseImage) -> None:
    from sempairs.config import load_config
    from sempairs.training.data import select_rows
    from sempairs.training.recipe import PretrainRecipe

    write_by_class(tmp_path, noise)
    tree = tmp_path / "tree.csv"
    tree.write_text("category,path\n" + "".join(f"{wnid},fish/{wnid}\n" for wnid in WNIDS))
    options = [f"data.source=imagenet:{tmp_path}", f"data.tree={tree}", "data.classes=2", "data.where={}"]
    recipe = load_config(PretrainRecipe, RECIPES / "pretrain-debug.yaml", options)
    assert recipe.model_dump(mode="json")["data"]["tree"] == str(tree)
    scanned = scan(tmp_path).catalog
    used, train = select_rows(recipe, scanned)
    expected = label(scanned, Labelling(tree=str(tree), classes=2))
    assert used == expected.select(expected.column("split") == "train")
    assert train == len(used) == 12
    assert {path.split("/")[0] for path in used.column("category")} == {"fish"}
