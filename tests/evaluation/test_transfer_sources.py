"""The sources `dataset:NAME:PATH` on tiny sets in the format of the originals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.cifar import LAYOUTS
from sempairs.errors import UserError
from sempairs.evaluation.tasks import TASKS


@pytest.fixture(scope="module")
def sets(published: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cifar")
    published.cifar10(root)
    published.cifar100(root)
    return root


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_cifar_is_what_torchvision_reads(name: str, sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import cifar

    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())
    source = open_source(f"dataset:{name}:{sets}")
    catalog = source.scan(decode=True).catalog
    for train, split in ((True, "train"), (False, "test")):
        theirs = getattr(torchvision.datasets, name.upper())(str(sets), train=train)
        rows = np.flatnonzero(catalog.column("split") == split)
        assert len(rows) == len(theirs)
        for row, (image, label) in zip(rows, theirs, strict=True):
            assert source.open_image(catalog.column("uri")[row]).tobytes() == image.tobytes()
            assert catalog.column("category")[row].split("/")[-1] == theirs.classes[label]
    other = open_source(f"torchvision:{name.upper()}:{sets}").scan().catalog
    assert sorted(other.column("file_hash")) == sorted(catalog.column("file_hash"))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar_written_again_by_python_3_is_read_too(protocol: int, sets: Path, tmp_path: Path) -> None:
    for file in (sets / "cifar-100-python").iterdir():
        content = pickle.loads(file.read_bytes(), encoding="latin1")
        place = tmp_path / "cifar-100-python" / file.name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(pickle.dumps(content, protocol=protocol))
    ours, theirs = (open_source(f"dataset:cifar100:{root}").scan().catalog for root in (tmp_path, sets))
    for column in ("image_id", "file_hash", "category", "split"):
        assert ours.column(column).tolist() == theirs.column(column).tolist()


class Touch:
    """What a hostile file might hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("deep", [False, True])
def test_a_batch_runs_nothing(published: Any, tmp_path: Path, deep: bool) -> None:
    published.cifar10(tmp_path)
    bait = tmp_path / "executed"
    bad: Any = Touch(bait)
    content = {"data": np.zeros((1, 3072), np.uint8), "labels": [0], "x": bad} if deep else bad
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match=r"data_batch_3 is not a CIFAR batch \(UnpicklingError: it asks for "):
        open_source(f"dataset:cifar10:{tmp_path}").scan()
    assert not bait.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"labels": [0]}, "must hold data"),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [0]}, "must hold data of bytes"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [0]}, "must hold data of bytes"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "for each of 2 images, got 1"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [7]}, "a list of more than 7 names"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": "abc"}, "a list of numbers"),
        ([1], "must be a pickled dictionary"),
    ],
)
def test_batches_that_hold_something_else(published: Any, tmp_path: Path, content: Any, says: str) -> None:
    published.cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match=says):
        open_source(f"dataset:cifar10:{tmp_path}").scan()


def test_lists_do_not_lead_out_of_the_set(published: Any, tmp_path: Path) -> None:
    published.sun397(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.jpg")
    with open(tmp_path / "SUN397" / "Partitions" / "Testing_01.txt", "a") as handle:
        handle.write("/a/../../../secret.jpg\n")
    scan = open_source(f"dataset:sun397:{tmp_path}").scan()
    assert len(scan.catalog) == 30
    assert [problem.where for problem in scan.problems] == ["a/../../../secret.jpg"]


@pytest.mark.parametrize(
    ("make", "spoil", "says"),
    [
        ("flowers", "flowers-102/setid.mat", "setid.mat does not exist"),
        ("flowers", "flowers-102/imagelabels.mat", "imagelabels.mat does not exist"),
        ("sun397", "SUN397/Partitions/Testing_01.txt", "must hold Testing_01.txt, or Partitions"),
        ("birdsnap", "birdsnap/test_images.txt", "test_images.txt cannot be read"),
        ("cifar10", "cifar-10-batches-py/batches.meta", "batches.meta cannot be read"),
    ],
)
def test_what_a_set_lacks_is_named(published: Any, tmp_path: Path, make: str, spoil: str, says: str) -> None:
    getattr(published, make)(tmp_path)
    (tmp_path / spoil).unlink()
    source = open_source(TASKS.get(f"transfer-{make}:{tmp_path}").source)
    with pytest.raises(UserError, match=says):
        source.scan()


def test_numbers_that_lists_cannot_have(published: Any, tmp_path: Path) -> None:
    import scipy.io

    published.flowers(tmp_path)
    ids = {"trnid": [[1, 2]], "valid": [[2]], "tstid": [[3]]}
    scipy.io.savemat(tmp_path / "flowers-102" / "setid.mat", ids)
    with pytest.raises(UserError, match="must not have an image in two splits, got 2"):
        open_source(f"dataset:flowers102:{tmp_path}").scan()
    scipy.io.savemat(tmp_path / "flowers-102" / "setid.mat", {**ids, "valid": [[99]]})
    with pytest.raises(UserError, match="must name images from 1 to 30"):
        open_source(f"dataset:flowers102:{tmp_path}").scan()
    (tmp_path / "flowers-102" / "setid.mat").write_bytes(b"no matrix")
    with pytest.raises(UserError, match="must hold the numbers trnid"):
        open_source(f"dataset:flowers102:{tmp_path}").scan()
    with pytest.raises(UserError, match="did you mean 'flowers102'"):
        open_source(f"dataset:flowers101:{tmp_path}")
    with pytest.raises(UserError, match="must hold the folder SUN397"):
        open_source(f"dataset:sun397:{tmp_path}")
