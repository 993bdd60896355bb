"""WordNet 3.0's nouns as a category tree, read from its `dict/` folder.

ImageNet names its classes by noun synsets of WordNet 3.0: `n02084071` is the synset at byte 2084071 of
`data.noun`. Only the lines on the way from a synset to the root are read. Format: wndb(5WN).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sempairs.catalog.names import class_name, printable
from sempairs.errors import UserError

FILE = "data.noun"
_WNID = re.compile(r"n(\d{8})")
# At the start of a folder's name, or as `Synset.segment` has it.
_IN_NAME = re.compile(r"(?:^|\.)(n\d{8})(?!\d)")
# Where WordNet's own programs look (its environment variables), then where distributions put it.
_VARIABLES = (("WNSEARCHDIR", ""), ("WNHOME", "dict"))
_PLACES = ("/usr/share/wordnet", "/usr/share/wordnet/dict", "/usr/local/WordNet-3.0/dict")
_RELEASE = re.compile(rb"WordNet (\d+(?:\.\d+)*) Copyright")
_HYPERNYM = ("@", "@i")  # of a kind, of an instance


class Synset(NamedTuple):
    """A noun synset: its first word, and the synset above it as WordNet lists it first (None at the root)."""

    offset: int
    word: str
    hypernym: int | None

    @property
    def wnid(self) -> str:
        return f"n{self.offset:08d}"

    @property
    def segment(self) -> str:
        """`dog.n02084071`: readable, and unique by the id. A slash in a word becomes a hyphen."""
        return f"{class_name(self.word)}.{self.wnid}"


def wnid_of(category: str) -> str | None:
    """The synset that a category's last segment names: `n02084071`, `n02085620-Chihuahua`, `dog.n02084071`;
    None where it names none."""
    found = _IN_NAME.search(category.rpartition("/")[2])
    return found[1] if found else None


class WordNet:
    """An opened `dict/` folder. A context manager; not for use from several threads at once."""

    def __init__(self, path: str | Path | None = None) -> None:
        """path: the `dict/` folder, or the one that holds it; without one, where WordNet is usually found.

        Raises: UserError if there is no data.noun, or it is not of WordNet 3.0.
        """
        self.path = _find(path)
        try:
            self._file = open(self.path, "rb")  # noqa: SIM115 (closed by `__exit__`)
            head = self._file.read(4096)
        except OSError as error:
            raise UserError(str(self.path), f"cannot be read ({error.strerror or error})") from None
        release = _RELEASE.search(head)
        if release is None or release[1] != b"3.0":
            self._file.close()
            got = release[1].decode() if release else "a file that does not say"
            raise UserError(
                str(self.path), "must be of WordNet 3.0, whose offsets are ImageNet's ids", got,
                "get the files of WordNet 3.0, as in Debian's wordnet-base",
            )  # fmt: skip
        self._known: dict[int, Synset] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def synset(self, offset: int) -> Synset:
        """The synset at a byte offset. Raises: UserError if none starts there."""
        if offset not in self._known:
            self._file.seek(offset)
            try:
                self._known[offset] = _parse(offset, self._file.readline().decode("ascii"))
            except (ValueError, IndexError):
                raise UserError("synset", f"is not in {self.path}", f"n{offset:08d}") from None
        return self._known[offset]

    def path_of(self, wnid: str) -> str:
        """The category path from the root to `wnid`, `entity.n00001740/…/canine.n02083346/dog.n02084071`.

        A synset with several hypernyms lies under the one that WordNet lists first: dogs under canines, not
        under domestic animals. Raises: UserError for an id that is no noun synset.
        """
        if not (match := _WNID.fullmatch(wnid)):
            raise UserError("synset", "must be n and eight digits, as in n02084071", wnid)
        way = [synset.segment for synset in self._upwards(int(match[1]))]
        return "/".join(reversed(way))

    def _upwards(self, offset: int) -> Iterator[Synset]:
        met: set[int] = set()
        place: int | None = offset
        while place is not None:
            if place in met:
                raise UserError(str(self.path), "is damaged: a synset lies above itself", f"n{place:08d}")
            met.add(place)
            yield (synset := self.synset(place))
            place = synset.hypernym


def _parse(offset: int, line: str) -> Synset:
    """Raises: ValueError or IndexError if `line` is not the line of the noun synset at `offset`.

    offset, file, "n", words (hexadecimal), word, lexical id, …, pointers, symbol, offset, "n", place, …
    """
    fields = line.partition(" | ")[0].split()
    if fields[0] != f"{offset:08d}" or fields[2] != "n":
        raise ValueError(line)
    pointers = 4 + 2 * int(fields[3], 16)
    above = None
    for start in range(pointers + 1, pointers + 1 + 4 * int(fields[pointers]), 4):
        symbol, target, kind = fields[start : start + 3]
        if symbol in _HYPERNYM and kind == "n":
            above = int(target)
            break
    return Synset(offset, printable(fields[4]), above)


def _find(path: str | Path | None) -> Path:
    if path is not None:
        given = Path(path).expanduser().resolve()
        for file in (given, given / FILE, given / "dict" / FILE):
            if file.name == FILE and file.is_file():
                return file
        raise UserError("wordnet:", f"must be a WordNet 3.0 folder with {FILE}", str(given))
    places = [Path(os.environ[name]) / inside for name, inside in _VARIABLES if os.environ.get(name)]
    places += [Path(place) for place in _PLACES]
    for place in places:
        if (place / FILE).is_file():
            return (place / FILE).resolve()
    looked = ", ".join(map(str, places))
    remedy = "install it (Debian: wordnet-base), or name the folder: wordnet:PATH"
    raise UserError("wordnet", f"is not found: no {FILE} in {looked}", remedy=remedy)
