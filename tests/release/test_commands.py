"""`sempairs release` on the command line: what it prints, and one line for every mistake."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sempairs.cli.main import run
from sempairs.files import read_json

Call = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def sempairs(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line; gives exit status, stdout and the lines of stderr."""

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return call


def _build(ready: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        "release", "build", ready / "pairs", "--out", out, "--name", "tiny", "--version", "1.0.0",
        "--licence", "CC-BY-4.0", *more,
    )  # fmt: skip


def test_from_build_to_diff(sempairs: Call, ready: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text("date: 2026-01-31\ncontact: a@b.org\nlimits: [small]\ntitle: Other\n")
    out = tmp_path / "rel"
    status, said, _ = sempairs(
        *_build(ready, out, "--title", "Tiny pairs", "--summary", "S.", "--creator", "A", "--creator", "B"),
        "--url", "https://example.org", "--facts", facts, "--set", "citation=me", "--shard-size", "4kB",
        "--images", f"folder:{ready / 'photos'}",
    )  # fmt: skip
    assert status == 0
    assert "tiny 1.0.0, 42 images, " in said
    told = read_json(out / "release.json")["facts"]
    wanted = {"title": "Tiny pairs", "summary": "S.", "creator": ["A", "B"], "date": "2026-01-31",
              "contact": "a@b.org", "limits": ["small"], "citation": "me",
              "url": "https://example.org"}  # fmt: skip
    assert {name: told[name] for name in wanted} == wanted
    assert len(list((out / "data").glob("train-*.parquet"))) > 2

    status, said, _ = sempairs("release", "verify", out, "--pixels")
    assert (status, said) == (0, f"{out}: sound\n")
    status, said, _ = sempairs("release", "info", out)
    lines = said.splitlines()
    assert lines[0] == "tiny 1.0.0"
    assert [line.split()[1] for line in lines if line.startswith("  pairs")] == [
        "semantic", "augmented", "image_matched",
    ]  # fmt: skip
    assert any("manifest hash" in line for line in lines)
    status, said, _ = sempairs("release", "diff", ready / "full", out)
    assert status == 0
    assert said.splitlines()[1] == "no difference: the same images, labels, pairs and licences"
    status, said, _ = sempairs("release", "diff", ready / "full", ready / "references", "--json")
    assert json.loads(said)["columns_added"] == ["file_size"]


def test_a_release_says_when_it_was_published_and_how_to_cite_it(
    sempairs: Call, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Today, the day that builds are told to be of, or the one that was given; the first in UTC."""
    before = datetime.now(UTC).date().isoformat()
    assert sempairs(*_build(ready, tmp_path / "today"))[0] == 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    status, said, _ = sempairs(
        *_build(ready, tmp_path / "epoch", "--creator", "A. B.", "--url", "https://x.org")
    )
    assert status == 0 and said.rstrip().endswith("published on 1970-01-02")
    assert (
        sempairs(*_build(ready, tmp_path / "given", "--set", "date=2020-02-02", "--set", "citation=me"))[0]
        == 0
    )
    told = {name: read_json(tmp_path / name / "croissant.json") for name in ("today", "epoch", "given")}
    assert before <= told["today"]["datePublished"] <= datetime.now(UTC).date().isoformat()
    assert told["epoch"]["datePublished"] == "1970-01-02"
    assert told["given"]["datePublished"] == "2020-02-02"
    assert told["today"]["citeAs"] == f"The authors of tiny ({before[:4]}): tiny, version 1.0.0."
    assert told["epoch"]["citeAs"] == "A. B. (1970): tiny, version 1.0.0. https://x.org"
    assert told["given"]["citeAs"] == "me"
    for name in told:
        assert sempairs("release", "verify", tmp_path / name)[0] == 0


def test_references_and_join(sempairs: Call, ready: Path, tmp_path: Path) -> None:
    out = tmp_path / "refs"
    assert sempairs(*_build(ready, out, "--references-only"))[0] == 0
    assert "references only: complete it" in sempairs("release", "info", out)[1]
    joined = tmp_path / "joined"
    status, said, _ = sempairs(
        "release", "join", out, "--source", f"folder:{ready / 'photos'}", "--out", joined
    )
    assert (status, said) == (0, f"{joined}: every image is there, with its hash\n")
    assert sempairs("release", "verify", joined)[0] == 0
    few = tmp_path / "few" / "cat"
    few.mkdir(parents=True)
    (few / "01.png").write_bytes((ready / "photos" / "cat" / "01.png").read_bytes())
    status, _, err = sempairs(
        "release", "join", out, "--source", f"folder:{few.parent}", "--out", tmp_path / "no"
    )
    assert status == 2
    assert sum(line.startswith("also: ") and line.endswith("is missing") for line in err) > 10
    assert err[-1].startswith(f"error: folder:{few.parent}: ") and "get the images" in err[-1]
    assert not (tmp_path / "no").exists()


def test_imagenet(sempairs: Call, tmp_path: Path, draw: Callable[..., Path]) -> None:
    """References made of ImageNet as it is unpacked are joined with a copy in Kaggle's folders."""
    for place, inside in (("made", "train"), ("used", "ILSVRC/Data/CLS-LOC/train")):
        photos = draw(tmp_path / place)
        (tmp_path / place / inside).mkdir(parents=True)
        for kind, synset in (("cat", "n02121620"), ("dog", "n02084071"), ("owl", "n01621127")):
            (photos / kind).rename(tmp_path / place / inside / synset)
    made, used = (f"imagenet:{tmp_path / place}" for place in ("made", "used"))
    pairs, rel, joined = tmp_path / "pairs", tmp_path / "rel", tmp_path / "joined"
    assert sempairs("pairs", "build", made, "--relation", "same_category", "--out", pairs)[0] == 0
    build = ("--name", "imagenet-pairs", "--version", "1.0.0", "--licence", "CC-BY-4.0", "--references-only")
    assert sempairs("release", "build", pairs, "--out", rel, *build)[0] == 0
    assert sempairs("release", "join", rel, "--source", used, "--out", joined)[0] == 0
    assert sempairs("release", "verify", joined, "--pixels")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["release", "build", "absent"], "absent is no folder of pairs"),
        (["release", "build", "{ready}/pairs/augmented"], "must hold the semantic arm of a set of pairs"),
        (
            ["release", "build", "{ready}/pairs", "--shard-size", "many"],
            "--shard-size must be a size such as 256MB",
        ),
        (["release", "build", "{ready}/pairs", "--licence", "not ok"], "licence must be an SPDX id"),
        (
            ["release", "build", "{ready}/pairs", "--licence", "EUPL-1.2"],
            "licence EUPL-1.2 has no text at hand",
        ),
        (["release", "build", "{ready}/pairs", "--licence-file", "MIT"], "--licence-file must be ID=FILE"),
        (["release", "build", "{ready}/pairs", "--url", "here"], "url must be an http or https address"),
        (["release", "build", "{ready}/pairs", "--set", "date=soon"], "date must be a date like 2026-01-31"),
        (
            ["release", "build", "{ready}/pairs", "--set", "licenze=MIT"],
            "licenze is not a known key; did you mean",
        ),
        (["release", "build", "{ready}/pairs", "--facts", "absent.yaml"], "--facts does not exist"),
        (["release", "build", "{ready}/pairs", "--images", "folder:absent"], "must be an existing path"),
        (["release", "build", "{ready}/pairs", "--version", "new"], "--version must be a version like 1.0.0"),
        (["release", "join", "{ready}/full", "--source", "digits"], "holds its images already"),
        (["release", "join", "{ready}/references", "--source", "nothing:x"], "is unknown, got 'nothing'"),
        (["release", "join", "absent", "--source", "digits"], "must be an existing path"),
        (["release", "diff", "{ready}/full", "{ready}/pairs"], "is no release"),
        (["release", "info", "{ready}/pairs"], "is no release"),
        (["release", "verify", "{ready}/pairs"], "is no release"),
    ],
)
def test_mistakes_are_one_line(
    sempairs: Call, ready: Path, tmp_path: Path, arguments: list[str], line: str
) -> None:
    given = [argument.format(ready=ready) for argument in arguments]
    if given[1] in ("build", "join"):
        given += ["--out", str(tmp_path / "out")]
    if given[1] == "build":
        needed = {"--name": "tiny", "--version": "1.0.0", "--licence": "CC-BY-4.0"}
        given += [part for name, value in needed.items() if name not in given for part in (name, value)]
    status, _, err = sempairs(*given)
    errors = [text for text in err if text.startswith("error: ")]
    assert status == 2
    assert len(errors) == 1
    assert line in errors[0]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.ENOSPC, "error: the disk is full; nothing half-written was kept"),
        (errno.EROFS, "error: the file system is read-only"),
        (errno.EACCES, "error: permission denied"),
    ],
)
def test_disks(
    sempairs: Call, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, line: str
) -> None:
    import pyarrow.parquet as pq

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    status, _, err = sempairs(*_build(ready, tmp_path / "out"))
    assert status == 2
    assert err[-1].startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_verify_lists_everything(sempairs: Call, copied: Callable[[str], Path]) -> None:
    root = copied("full")
    (root / "pairs" / "semantic.parquet").unlink()
    (root / "data" / "train-00000.parquet").unlink()
    status, _, err = sempairs("release", "verify", root)
    assert status == 2
    assert err == [
        "also: pairs/semantic.parquet is missing",
        f"error: {root}: data/train-00000.parquet is missing (and 1 more, above); get the release again from "
        "where it came",
    ]
    status, _, err = sempairs("release", "info", root)
    assert status == 2 and "must hold the 42 images" in err[-1]
