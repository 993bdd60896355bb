"""What the encoder that mined pairs was shown: it comes along with the pairs."""

from __future__ import annotations

from pathlib import Path

from sempairs.catalog.exposure import EXPOSURE, Inherited, beside
from sempairs.embeddings import Embeddings
from sempairs.errors import UserError
from sempairs.files import read_json, sha256_file

ABOUT = "pairs.json"
RELEASE = "release.json"
UNTRAINED = "untrained"


def of_features(path: str | Path) -> Inherited:
    """What the encoder of a table of features was shown."""
    expected = Embeddings.about_file(path).get("exposure")
    if expected == UNTRAINED:
        return Inherited()
    if expected is None:
        return Inherited((), (f"what the encoder that mined the pairs ({Path(path).name}) was trained on",))
    return Inherited((_checked(beside(path), expected, "embeddings"),))


def of_folder(folder: str | Path) -> Inherited:
    """What the encoder that mined a folder of pairs was shown."""
    place = Path(folder)
    file = place / ABOUT if (place / ABOUT).is_file() else place / RELEASE
    about = read_json(file) if file.is_file() else {}
    if file.name == RELEASE:
        about = about.get("pairs") or {}
    if not isinstance(about, dict) or not about.get("mining"):
        return Inherited()
    mining = about["mining"]
    expected = mining.get("exposure")
    if expected == UNTRAINED:
        return Inherited()
    if expected is None or (file.name == RELEASE and not (place / EXPOSURE).is_file()):
        return Inherited((), (f"what the encoder that mined the pairs in {place.name} was trained on",))
    return Inherited((_checked(place / EXPOSURE, expected, "pairs.file"),))


def _checked(record: Path, expected: str, field: str) -> Path:
    if not record.is_file():
        remedy = "copy it from where the features or pairs were made"
        raise UserError(
            field, f"lacks {record.name}, so leakage cannot be ruled out", str(record.parent), remedy
        )
    if sha256_file(record) != expected:
        raise UserError(str(record), "is not the record that was written with it", remedy="restore it")
    return record
