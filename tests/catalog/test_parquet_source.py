"""Parquet in Hugging Face's image layout."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources import open_source
from sempairs.errors import UserError
from sempairs.files import sha256_bytes

Noise = Callable[..., Image.Image]
ToBytes = Callable[..., bytes]


@pytest.fixture
def shard(noise: Noise, to_bytes: ToBytes) -> Callable[..., Path]:
    """Writes n images as a struct of bytes and path, three rows a row group."""

    def write(path: Path, n: int = 4, seed: int = 0, **more: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        images = [{"bytes": to_bytes(noise(seed + i)), "path": f"../{i}.png"} for i in range(n)]
        pq.write_table(pa.table({"image": images, **more}), path, row_group_size=3)
        return path

    return write


def test_as_hugging_face_writes_it(tmp_path: Path, noise: Noise) -> None:
    import datasets

    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "n": datasets.Value("int64"),
            "kind": datasets.ClassLabel(names=["T-shirt/top", "coat"]),
        }
    )
    images = [noise(seed) for seed in range(3)]
    made = datasets.Dataset.from_dict(
        {"picture": images, "n": [5, 6, 7], "kind": [1, 0, -1]}, features=features
    )
    made.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    source = open_source(f"parquet:{tmp_path}")
    found = source.scan()
    assert not found.problems
    assert found.catalog.column("category").tolist() == ["coat", "T-shirt-top", None]
    assert found.catalog.column("split").tolist() == ["train"] * 3
    for uri, image in zip(found.catalog.column("uri"), images, strict=True):
        assert source.open_image(uri).tobytes() == image.tobytes()


def test_a_folder_of_shards(tmp_path: Path, shard: Callable[..., Path], noise: Noise) -> None:
    root = tmp_path / "set"
    shard(root / "train-00000-of-00002.parquet", 5, 0)
    shard(root / "train-00001-of-00002.parquet", 2, 10)
    shard(root / "validation.parquet", 1, 20)
    shard(root / "test" / "0000.parquet", 1, 30)
    shard(root / ".cache" / "train.parquet", 1, 40)
    (root / "link.parquet").symlink_to(root / "validation.parquet")
    source = open_source(f"parquet:{root}")
    found = source.scan(workers=3)
    assert not found.problems
    assert found.catalog.column("image_id")[:2].tolist() == [
        "set/test/0000.parquet#000000000",
        "set/train-00000-of-00002.parquet#000000000",
    ]
    assert found.catalog.column("split").tolist() == ["test"] + ["train"] * 7 + ["validation"]
    seeds = [30, 0, 1, 2, 3, 4, 10, 11, 20]
    for uri, seed in zip(found.catalog.column("uri"), seeds, strict=True):
        assert source.open_image(uri).tobytes() == noise(seed).tobytes()


def test_one_file_and_its_columns(tmp_path: Path, shard: Callable[..., Path]) -> None:
    path = shard(
        tmp_path / "a.parquet",
        4,
        label=["animal/cat", None, "animal/dog", "plant"],
        split=["train", "test", None, "dev"],
        domain=["x", "y", None, "x"],
        licence=pa.array(["MIT"] * 4).dictionary_encode(),
        concept=[1, 2, 3, 4],  # numbers tell images apart as texts do
    )
    catalog = open_source(f"parquet:{path}").scan().catalog
    assert catalog.column("image_id")[0] == "a.parquet#000000000"
    assert catalog.column("category").tolist() == ["animal/cat", None, "animal/dog", "plant"]
    assert catalog.column("split").tolist() == ["train", "test", None, "validation"]
    assert catalog.column("domain").tolist() == ["x", "y", None, "x"]
    assert set(catalog.column("licence")) == {"MIT"}
    assert catalog.column("concept").tolist() == ["1", "2", "3", "4"]
    assert catalog.column("file_hash")[0] == sha256_bytes(pq.read_table(path)["image"][0]["bytes"].as_py())


def test_binary_images_and_numbered_labels(tmp_path: Path, noise: Noise, to_bytes: ToBytes) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [to_bytes(noise())], "label": [7]}), path)
    catalog = open_source(f"parquet:{path}").scan(decode=True).catalog
    assert catalog.column("category").tolist() == ["7"]
    assert catalog.column("pixel_hash")[0] is not None


def test_bad_rows_and_bad_shards_are_problems(tmp_path: Path, noise: Noise, to_bytes: ToBytes) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(to_bytes(noise()))
    root = tmp_path / "set"
    root.mkdir()
    images = [
        {"bytes": to_bytes(noise()), "path": None},
        {"bytes": None, "path": str(secret)},  # only a name: never followed
        {"bytes": b"", "path": "a.png"},
        {"bytes": to_bytes(noise())[:50], "path": "a.png"},
        None,
    ]
    pq.write_table(pa.table({"image": images}), root / "a.parquet")
    (root / "b.parquet").write_bytes(b"PAR1 but not really PAR1")
    pq.write_table(pa.table({"text": ["a"]}), root / "c.parquet")
    whole = (root / "a.parquet").read_bytes()
    (root / "d.parquet").write_bytes(whole[: len(whole) // 2])
    found = open_source(f"parquet:{root}").scan()
    assert found.catalog.column("uri").tolist() == ["a.parquet#000000000"]
    why = {problem.where: problem.reason for problem in found.problems}
    assert sorted(why) == [
        *(f"a.parquet#00000000{i}" for i in range(1, 5)),
        "b.parquet",
        "c.parquet",
        "d.parquet",
    ]
    assert "no image bytes" in why["a.parquet#000000001"]
    assert "empty" in why["a.parquet#000000002"]
    assert "truncated" in why["a.parquet#000000003"]
    assert "no Parquet file" in why["b.parquet"]
    assert "no column holds images" in why["c.parquet"]


def test_damaged_metadata_of_hugging_face_is_passed_over(tmp_path: Path, shard: Callable[..., Path]) -> None:
    path = shard(tmp_path / "a.parquet", 1, label=[0])
    table = pq.read_table(path)
    for text in (b"{", b"[]", b'{"info": {"features": {"label": 3, "gone": {"_type": "Image"}}}}'):
        pq.write_table(table.replace_schema_metadata({b"huggingface": text}), path)
        assert open_source(f"parquet:{path}").scan().catalog.column("category").tolist() == ["0"]


def test_images_that_are_not_there(tmp_path: Path, shard: Callable[..., Path]) -> None:
    source = open_source(f"parquet:{shard(tmp_path / 'a.parquet', 2)}")
    for uri in ("a.parquet#2", "a.parquet#-1", "a.parquet#x", "b.parquet#0", "a.parquet", "../a.parquet#0"):
        with pytest.raises(UnreadableImage):
            source.open_image(uri)


def test_many_threads_read_one_file(tmp_path: Path, shard: Callable[..., Path], noise: Noise) -> None:
    source = open_source(f"parquet:{shard(tmp_path / 'a.parquet', 30)}")  # ten row groups, four of them kept
    expected = [noise(seed).tobytes() for seed in range(30)]
    wrong: list[int] = []

    def read(start: int) -> None:
        for step in range(60):
            row = (start * 7 + step * 11) % 30
            if source.open_image(f"a.parquet#{row:09d}").tobytes() != expected[row]:
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must hold \.parquet files"):
        open_source(f"parquet:{tmp_path}")
    with pytest.raises(UserError, match="existing path"):
        open_source(f"parquet:{tmp_path / 'absent'}")
