"""Lists of images: columns, bad lines, and paths that must not leave the list's folder."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources import Scan, open_source
from sempairs.errors import UserError

WritePng = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, write_png: WritePng) -> Path:
    for seed, name in enumerate(["a/1.png", "a/2.png", "b/3.png"]):
        write_png(tmp_path / "data" / name, seed)
    return tmp_path / "data"


def scan(folder: Path, text: str | bytes) -> Scan:
    path = folder / "list.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return open_source(f"csv:{path}").scan()


def lines(found: Scan) -> dict[str, str]:
    return {problem.where: problem.reason for problem in found.problems}


def test_all_columns(folder: Path) -> None:
    found = scan(
        folder,
        "path,image_id,category,concept,domain,split,split_group,licence,attribution,patient\n"
        'b/3.png,x,animal/cat,c1,sketch,val,g1,CC-BY-4.0,"Doe, J.",p1\n'
        "a/1.png,,,,,,,,,\n",
    )
    assert not found.problems
    rows = found.catalog.table.to_pylist()
    assert [row["image_id"] for row in rows] == ["list/a/1.png", "x"]
    assert (
        rows[1]
        | {
            "uri": "b/3.png",
            "category": "animal/cat",
            "concept": "c1",
            "domain": "sketch",
            "split": "validation",
            "split_group": "g1",
            "licence": "CC-BY-4.0",
            "attribution": "Doe, J.",
            "patient": "p1",
        }
        == rows[1]
    )
    optional = ["category", "concept", "domain", "split", "split_group", "licence", "attribution", "patient"]
    assert [rows[0][name] for name in optional] == [None] * 8


def test_ids_serve_as_paths_where_there_are_none(folder: Path) -> None:
    catalog = scan(folder, "image_id,category\na/1.png,cat\n").catalog
    assert catalog.column("image_id").tolist() == ["list/a/1.png"]
    assert catalog.column("uri").tolist() == ["a/1.png"]


def test_byte_order_mark_blank_lines_and_windows_ends(folder: Path) -> None:
    found = scan(folder, b"\xef\xbb\xbfpath,category\r\na/1.png,cat\r\n\r\na/2.png,dog\r\n")
    assert len(found.catalog) == 2
    assert not found.problems


def test_bad_lines_are_reported_with_their_numbers(folder: Path) -> None:
    found = scan(
        folder,
        "path,image_id,category,split\n"
        "a/1.png,one,cat,train\n"
        "a/1.png,cat\n"
        '"a/2.png","two","a\nb",train\n'
        "a/2.png,two,cat,trian\n"
        ",five,cat,train\n"
        "b/3.png,one,cat,train\n"
        "b/3.png,six,cat,test,more\n"
        "absent.png,seven,cat,test\n",
    )
    assert found.catalog.column("image_id").tolist() == ["one"]
    why = lines(found)
    assert sorted(why) == ["absent.png", "line 3", "line 4", "line 6", "line 7", "line 8", "line 9"]
    assert "number of fields" in why["line 3"]
    assert "control characters" in why["line 4"]
    assert "did you mean 'train'" in why["line 6"]
    assert "path is empty" in why["line 7"]
    assert "'one' was given before" in why["line 8"]
    assert "number of fields" in why["line 9"]
    assert why["absent.png"] == "no such file"


def test_nothing_outside_the_lists_folder_is_read(folder: Path, write_png: WritePng) -> None:
    secret = write_png(folder.parent / "secret.png", 9)
    (folder / "link.png").symlink_to(secret)
    (folder / "outside").symlink_to(folder.parent)
    (folder / "loop").symlink_to("loop")
    bad = [
        "../secret.png",
        str(secret),
        "a/../../secret.png",
        "link.png",
        "outside/secret.png",
        "loop/x.png",
        "/etc/hostname",
        "a",
        "~/x.png",
        "file:///etc/hostname",
    ]
    found = scan(folder, "path\na/1.png\n" + "\n".join(bad) + "\n")
    assert found.catalog.column("uri").tolist() == ["a/1.png"]
    why = lines(found)
    assert sorted(why) == sorted(bad)
    for name in bad[:5]:
        assert "must stay inside the list's own folder" in why[name]
    source = open_source(f"csv:{folder / 'list.csv'}")
    for uri in bad:
        with pytest.raises(UnreadableImage):
            source.open_image(uri)


def test_a_name_that_is_no_utf8(folder: Path) -> None:
    (folder / "a" / "1.png").rename(folder / os.fsdecode(b"\xff.png"))
    found = scan(folder, b"path,category\n\xff.png,cat\na/2.png,\xff\n")
    assert found.catalog.column("uri").tolist() == [r"\xff.png"]
    assert open_source(f"csv:{folder / 'list.csv'}").open_image(r"\xff.png").size == (6, 4)
    assert "no UTF-8" in lines(found)["line 3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must start with a line of column names"),
        ("name,category\na/1.png,cat\n", "must start with a line of column names"),
        ("path,path\na/1.png,a/1.png\n", "must not name a column twice"),
        ("path,width\na/1.png,3\n", "measured from the images, got 'width'"),
        ("path,\na/1.png,x\n", "printable name"),
        ("path\n", "must hold images"),
        ('path\n"a/1.png\n', r"must be CSV, and is not at line 2"),
        ("path\n" + "x" * 200_000 + "\n", "field larger"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "column names"),
        ("path,category\na/1.png,cat\n".encode("utf-16-le"), "must start with a line of column names"),
        ("path,category\na/1.png,cat\n".encode("utf-16")[:-1], "must be text in UTF-8"),
    ],
)
def test_files_that_are_no_lists(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        scan(folder, text)
    assert "\n" not in str(caught.value)


def test_a_missing_list_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="existing path"):
        open_source(f"csv:{tmp_path / 'absent.csv'}")
    with pytest.raises(UserError, match="must be a file"):
        open_source(f"csv:{tmp_path}")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(6)), st.randoms(use_true_random=False))
def test_the_catalogue_is_independent_of_the_order_of_lines(
    tmp_path: Path, write_png: WritePng, order: list[int], chance: random.Random
) -> None:
    for seed in range(6):
        if not (tmp_path / f"{seed}.png").exists():
            write_png(tmp_path / f"{seed}.png", seed)
    rows = [[f"{seed}.png", f"c{seed % 2}", ["train", "", "test"][seed % 3]] for seed in range(6)]
    found = []
    for arranged in (rows, [rows[i] for i in order]):
        with open(tmp_path / "list.csv", "w", newline="") as handle:
            csv.writer(handle).writerows([["path", "category", "split"], *arranged])
        found.append(open_source(f"csv:{tmp_path / 'list.csv'}").scan(workers=chance.randint(1, 3)))
    assert found[0].catalog == found[1].catalog


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=30), max_size=6))
def test_hostile_lists_are_problems_or_mistakes(tmp_path: Path, rows: list[bytes]) -> None:
    (tmp_path / "list.csv").write_bytes(b"path,category\n" + b"\n".join(rows) + b"\n")
    try:
        found = open_source(f"csv:{tmp_path / 'list.csv'}").scan()
    except UserError:
        return
    assert len(found.catalog) == 0
    assert all(problem.where.isprintable() and problem.reason.isprintable() for problem in found.problems)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("divider", [",", ";", "\t"])
def test_encodings_and_dividers(folder: Path, encoding: str, divider: str) -> None:
    rows = [["path", "category", "split"], ["a/1.png", "café", "train"], ["b/3.png", "tea", "test"]]
    found = scan(folder, "\r\n".join(divider.join(row) for row in rows).encode(encoding))
    assert found.catalog.column("uri").tolist() == ["a/1.png", "b/3.png"]
    assert found.catalog.column("category").tolist() == ["café", "tea"]
    assert not found.problems
    assert not found.notes


def test_excels_own_word_on_the_divider(folder: Path) -> None:
    found = scan(folder, "sep=;\r\npath;category\r\na/1.png;a, b\r\nabsent.png;x\r\n;x\r\n")
    assert found.catalog.column("category").tolist() == ["a, b"]
    assert sorted(lines(found)) == ["absent.png", "line 5"]


def test_a_mark_where_lists_were_joined(folder: Path) -> None:
    found = scan(folder, b"\xef\xbb\xbfpath\na/1.png\n\xef\xbb\xbfa/2.png\n")
    assert found.catalog.column("uri").tolist() == ["a/1.png", "a/2.png"]


@pytest.mark.parametrize(
    ("header", "note"),
    [
        (
            "file_name,label,license",
            "columns taken: file_name for path, label for category, license for licence",
        ),
        ("Image,Class,License", "columns taken: Image for path, Class for category, License for licence"),
    ],
)
def test_usual_names_of_columns(folder: Path, header: str, note: str) -> None:
    found = scan(folder, f"{header},text\na/1.png,cat,CC-BY-NC-4.0,a sleeping cat\n")
    row = found.catalog.table.to_pylist()[0]
    assert (row["uri"], row["category"], row["licence"]) == ("a/1.png", "cat", "CC-BY-NC-4.0")
    assert row["text"] == "a sleeping cat"
    assert found.notes == (note,)


@pytest.mark.parametrize("path", ["a\\1.png", ".\\a\\1.png", "./a/1.png", "data/a/1.png", " a/1.png"])
def test_ways_to_write_a_path(folder: Path, path: str) -> None:
    found = scan(folder, f"path,category\n{path},cat\n")
    assert not found.problems
    assert open_source(f"csv:{folder / 'list.csv'}").open_image(found.catalog.column("uri")[0]).size == (6, 4)
    assert len(scan(folder, f"path\n{folder}/a/1.png\na/1.png\n").catalog) == 1


def test_a_name_in_another_unicode_form(folder: Path, write_png: WritePng) -> None:
    write_png(folder / "cafe\u0301" / "1.png")
    found = scan(folder, "path,category\ncaf\u00e9/1.png,caf\u00e9\na/1.png,cafe\u0301\n")
    assert not found.problems
    assert set(found.catalog.column("category")) == {"caf\u00e9"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("A/1.PNG", "no such file; did you mean 'a/1.png'?"),
        ("a/1.jpg", "no such file; did you mean 'a/1.png'?"),
        ("C:\\pictures\\a\\1.png", "no such file; a path of a Windows machine must be written relative"),
    ],
)
def test_a_path_that_is_nearly_right(folder: Path, path: str, reason: str) -> None:
    found = scan(folder, f"path\na/2.png\n{path}\n")
    assert [why[: len(reason)] for why in lines(found).values()] == [reason]


def test_labels_that_were_numbers(folder: Path) -> None:
    text = "path,label\na/1.png,0.0\na/2.png,nan\nb/3.png,1.0\n"
    assert scan(folder, text).catalog.column("category").tolist() == ["0", None, "1"]
    several = scan(folder, 'path,label\na/1.png,"[0, 1]"\na/2.png,[]\nb/3.png,[1]\n')
    assert several.catalog.column("category").tolist() == [None, None, "1"]
    assert any("1 images have several labels" in note for note in several.notes)
