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


TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_known_columns_in_any_type_of_text(tmp_path: Path, shard: Callable[..., Path], kind: str) -> None:
    columns = {
        "split": ["train", "test", "train", "test"],
        "split_group": ["a", "a", "b", "b"],
        "concept": ["c", "c", "d", None],
        "domain": ["x", "y", "x", "y"],
        "license": ["MIT"] * 4,
        "attribution": ["Ann"] * 4,
        "category": ["p/q", "p/r", "p/q", "p/r"],
        "remark": ["m", "n", None, "o"],
    }
    plain = kind in ("string", "large_string", "string_view", "dictionary")
    typed = {
        name: pa.array(values).cast(TEXTS[kind]) if plain or name != "remark" else pa.array(values)
        for name, values in columns.items()
    }
    found = open_source(f"parquet:{shard(tmp_path / 'a.parquet', 4, **typed)}").scan()
    for name, values in columns.items():
        assert found.catalog.column({"license": "licence"}.get(name, name)).tolist() == values
    assert found.notes == ("columns taken: license for licence",)


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.uint8(), pa.float32(), pa.decimal128(5), pa.dictionary(pa.int8(), pa.int16())]
)
def test_known_columns_of_numbers(tmp_path: Path, shard: Callable[..., Path], kind: pa.DataType) -> None:
    typed = pa.array([7, 7, 8, None], kind)
    path = shard(tmp_path / "a.parquet", 4, split_group=typed, label=typed)
    catalog = open_source(f"parquet:{path}").scan().catalog
    assert catalog.column("split_group").tolist() == ["7", "7", "8", None]
    assert catalog.column("category").tolist() == ["7", "7", "8", None]


IMAGES = {
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "binary_view": pa.binary_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.binary()),
    "bytes in a list": pa.list_(pa.uint8()),
}


@pytest.mark.parametrize("column", ["image", "img", "jpg"])
@pytest.mark.parametrize("kind", IMAGES)
def test_images_in_any_type_of_bytes(
    tmp_path: Path, noise: Noise, to_bytes: ToBytes, kind: str, column: str
) -> None:
    data = [to_bytes(noise(seed)) for seed in range(3)]
    of_lists = pa.types.is_list(IMAGES[kind])
    values = pa.array([list(d) for d in data] if of_lists else data, IMAGES[kind])
    pq.write_table(pa.table({column: values, "class": ["x", "y", "x"]}), tmp_path / "a.parquet")
    source = open_source(f"parquet:{tmp_path / 'a.parquet'}")
    found = source.scan()
    assert not found.problems
    assert found.catalog.column("category").tolist() == ["x", "y", "x"]
    assert source.open_image("a.parquet#000000002").tobytes() == noise(2).tobytes()
    assert ("images taken from the column" in found.notes[0]) == (column != "image")


def test_images_of_one_length(tmp_path: Path, noise: Noise, to_bytes: ToBytes) -> None:
    data = to_bytes(noise())
    pq.write_table(pa.table({"image": pa.array([data], pa.binary(len(data)))}), tmp_path / "a.parquet")
    assert len(open_source(f"parquet:{tmp_path / 'a.parquet'}").scan().catalog) == 1


def test_a_split_of_another_name_is_never_trained_on(tmp_path: Path, shard: Callable[..., Path]) -> None:
    path = shard(tmp_path / "train.parquet", 4, split=["train", "holdout", None, "Test"])
    found = open_source(f"parquet:{path}").scan()
    assert found.catalog.column("split").tolist() == ["train", "train", "test"]
    assert [(p.where, "choose from" in p.reason) for p in found.problems] == [
        ("train.parquet#000000001", True)
    ]
    path = shard(tmp_path / "train.parquet", 4, split=[[1, 2]] * 4)
    assert "must hold the names of splits" in open_source(f"parquet:{path}").scan().problems[0].reason


def test_what_is_left_out_is_noted(tmp_path: Path, shard: Callable[..., Path]) -> None:
    path = shard(
        tmp_path / "a.parquet",
        4,
        objects=[[{"box": 1}]] * 4,
        width=[1, 2, 3, 4],
        licence=[["MIT", "ISC"]] * 4,
        text=["a", "b", "c", "d"],
        kept=[True, False, True, None],
    )
    found = open_source(f"parquet:{path}").scan()
    assert found.catalog.extra == ("kept", "text")
    assert found.catalog.column("kept").tolist() == ["True", "False", "True", None]
    assert set(found.notes) == {
        "columns left out: objects, width",
        "column licence is left out: it holds lists or structures",
    }


def test_several_labels_are_no_category(tmp_path: Path, shard: Callable[..., Path]) -> None:
    path = shard(tmp_path / "a.parquet", 4, label=[[0, 1], [1], [], [0]])
    found = open_source(f"parquet:{path}").scan()
    assert found.catalog.column("category").tolist() == [None, "1", None, "0"]
    assert found.notes == ("column label: 1 images have several labels of an image, and no category",)


def test_numbers_of_classes_in_any_type(tmp_path: Path, noise: Noise, to_bytes: ToBytes) -> None:
    import json

    described = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    for values in ([0.0, 1.0, float("nan")], [0, 1, -1], ["0", "1", None], ["cat", "dog", None]):
        table = pa.table({"image": [{"bytes": to_bytes(noise(i))} for i in range(3)], "label": values})
        metadata = {"huggingface": json.dumps({"info": {"features": described}})}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
        found = open_source(f"parquet:{tmp_path / 'a.parquet'}").scan()
        assert found.catalog.column("category").tolist() == ["cat", "dog", None]
        assert not found.notes


def test_shards_without_a_split_beside_others_are_noted(tmp_path: Path, shard: Callable[..., Path]) -> None:
    shard(tmp_path / "set" / "train-0.parquet", 1, 0)
    shard(tmp_path / "set" / "more.parquet", 1, 5)
    found = open_source(f"parquet:{tmp_path / 'set'}").scan()
    assert found.notes == ("the images of 1 shards have no split, among them more.parquet",)
