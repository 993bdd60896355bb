"""WordNet's noun file, on a small one in its format and, where it is installed, on the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sempairs.catalog.wordnet import WordNet, wnid_of
from sempairs.errors import UserError

WriteWordnet = Callable[..., dict[str, str]]
ABOVE_DOGS = ["entity", "animal", "vertebrate", "carnivore", "canine"]
DEBIAN = Path("/usr/share/wordnet")


def words(path: str) -> list[str]:
    """The segments without their ids, which must be eight digits each."""
    parts = [part.rpartition(".n") for part in path.split("/")]
    assert all(len(number) == 8 and number.isdigit() for _, _, number in parts)
    return [word for word, _, _ in parts]


def test_paths_go_by_the_hypernym_listed_first(tmp_path: Path, write_wordnet: WriteWordnet) -> None:
    ids = write_wordnet(tmp_path)
    with WordNet(tmp_path) as wordnet:
        path = wordnet.path_of(ids["Chihuahua"])
        assert words(path) == [*ABOVE_DOGS, "dog", "toy_dog", "Chihuahua"]
        assert path.split("/")[5] == f"dog.{ids['dog']}"
        assert words(wordnet.path_of(ids["pug"]))[-2:] == ["toy_dog", "pug"]  # an instance hypernym
        assert wordnet.path_of(ids["entity"]) == f"entity.{ids['entity']}"
        assert words(wordnet.path_of(ids["input/output_device"])) == [
            "entity",
            "artifact",
            "input-output_device",
        ]


@pytest.mark.parametrize("inside", ["", "dict", "dict/data.noun"])
def test_where_the_files_may_lie(tmp_path: Path, write_wordnet: WriteWordnet, inside: str) -> None:
    ids = write_wordnet(tmp_path / ("dict" if inside else ""))
    with WordNet(tmp_path / inside if inside == "dict/data.noun" else tmp_path) as wordnet:
        assert words(wordnet.path_of(ids["fish"]))[-1] == "fish"


def test_the_environment_names_a_place(
    tmp_path: Path, write_wordnet: WriteWordnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wordnet(tmp_path / "dict")
    monkeypatch.setenv("WNHOME", str(tmp_path))
    with WordNet() as wordnet:
        assert wordnet.path == tmp_path / "dict" / "data.noun"
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "dict"))
    monkeypatch.setenv("WNHOME", "/nowhere")
    with WordNet() as wordnet:
        assert wordnet.path == tmp_path / "dict" / "data.noun"


def test_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sempairs.catalog.wordnet._PLACES", ("/nowhere/a", "/nowhere/b"))
    monkeypatch.delenv("WNHOME", raising=False)
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    with pytest.raises(UserError, match=r"no data.noun in /nowhere/a, /nowhere/b; install it"):
        WordNet()


def test_only_release_3_0(tmp_path: Path, write_wordnet: WriteWordnet) -> None:
    write_wordnet(tmp_path, release="3.1")
    with pytest.raises(UserError, match=r"must be of WordNet 3.0, .* got '3.1'"):
        WordNet(tmp_path)
    (tmp_path / "data.noun").write_bytes(b"\xff\x00 nothing")
    with pytest.raises(UserError, match="a file that does not say"):
        WordNet(tmp_path)
    (tmp_path / "data.noun").unlink()
    with pytest.raises(UserError, match=r"must be a WordNet 3.0 folder with data.noun"):
        WordNet(tmp_path)


@pytest.mark.parametrize("shift", [1, -1, 7, 99_000_000, -(10**9)])
def test_an_unknown_synset_is_one_line(tmp_path: Path, write_wordnet: WriteWordnet, shift: int) -> None:
    ids = write_wordnet(tmp_path)
    number = max(0, int(ids["dog"][1:]) + shift)
    with (
        WordNet(tmp_path) as wordnet,
        pytest.raises(UserError, match=r"is not in .*data.noun, got 'n") as caught,
    ):
        wordnet.path_of(f"n{number:08d}")
    assert "\n" not in str(caught.value)


def test_a_damaged_file(tmp_path: Path, write_wordnet: WriteWordnet) -> None:
    loop = {"entity": ["animal"], "animal": ["entity"]}
    ids = write_wordnet(tmp_path, nouns=loop)
    with WordNet(tmp_path) as wordnet, pytest.raises(UserError, match="a synset lies above itself"):
        wordnet.path_of(ids["animal"])
    ids = write_wordnet(tmp_path)
    data = (tmp_path / "data.noun").read_bytes()
    (tmp_path / "data.noun").write_bytes(data[: int(ids["dog"][1:]) + 40])
    with WordNet(tmp_path) as wordnet, pytest.raises(UserError, match="is not in"):
        wordnet.path_of(ids["dog"])


@pytest.mark.parametrize("wnid", ["02084071", "v02084071", "n2084071", "n0208407x", "", "n020840711"])
def test_ids_have_a_form(tmp_path: Path, write_wordnet: WriteWordnet, wnid: str) -> None:
    write_wordnet(tmp_path)
    with WordNet(tmp_path) as wordnet, pytest.raises(UserError, match="must be n and eight digits"):
        wordnet.path_of(wnid)


@pytest.mark.parametrize(
    ("category", "wnid"),
    [
        ("n02084071", "n02084071"),
        ("n02085620-Chihuahua", "n02085620"),
        ("n02085620 Chihuahua", "n02085620"),
        ("dogs/n02085620", "n02085620"),
        ("entity.n00001740/toy_dog.n02085374", "n02085374"),
        ("n02085620/dogs", None),
        ("n020856201", None),
        ("dog", None),
        ("man02085620", None),
    ],
)
def test_synsets_in_names(category: str, wnid: str | None) -> None:
    assert wnid_of(category) == wnid


@pytest.mark.skipif(not (DEBIAN / "data.noun").is_file(), reason="wordnet-base is not installed")
def test_the_real_one() -> None:
    with WordNet(DEBIAN) as wordnet:
        assert words(wordnet.path_of("n02085620"))[-5:] == [
            "carnivore",
            "canine",
            "dog",
            "toy_dog",
            "Chihuahua",
        ]
        assert words(wordnet.path_of("n02123045"))[-4:] == ["feline", "cat", "domestic_cat", "tabby"]
        assert words(wordnet.path_of("n02958343"))[-2:] == ["motor_vehicle", "car"]
        assert words(wordnet.path_of("n00001740")) == ["entity"]
