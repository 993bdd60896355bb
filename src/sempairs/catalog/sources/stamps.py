"""`stamps:PATH`: the stamps of Tux Paint as Debian's tuxpaint-stamps-default installs them."""

from __future__ import annotations

from pathlib import Path

from sempairs.catalog.names import category_path, escape_name
from sempairs.catalog.sources.base import existing_path, source_kind
from sempairs.catalog.sources.files import FilesSource, Found
from sempairs.catalog.sources.folder import walk
from sempairs.catalog.sources.reading import Member
from sempairs.errors import UserError

KIND = "stamps"
# `x_mirror.png` and the like show stamp x mirrored or upside down, where a mere flip would not do.
_VARIANTS = ("_mirror_flip", "_mirrorflip", "_mirror", "_flip")
_DRAWN = "cartoon"


@source_kind(KIND, summary="Tux Paint's stamps, photographs and drawings", example="stamps:tuxpaint/stamps")
class StampsSource(FilesSource):
    """About 800 PNG pictures in folders of categories. Where the innermost folder is `cartoon` it is the
    `domain`, and no part of the category. A stamp and its mirrored drawing share a `split_group`.

    The SVG stamps (clip art, letters) are passed over: they would need a renderer, and which images a task
    has must not depend on what is installed. Sounds and descriptions are passed over too.
    """

    def __init__(self, rest: str) -> None:
        self.root = existing_path(KIND, rest, folder=True)
        self.spec = f"{KIND}:{self.root}"

    def find(self) -> Found:
        found = walk(self.root)
        names = [name for name in found.files if name.lower().endswith(".png")]
        if not names:
            remedy = "give the folder that holds animals, food, town, …"
            raise UserError(f"source {self.spec}", "must hold .png stamps, and has none", remedy=remedy)
        return Found(
            [_member(name) for name in names], found.problems, found.ignored + len(found.files) - len(names)
        )


def _member(name: str) -> Member:
    *folders, file = name.split("/")
    drawn = len(folders) > 1 and folders[-1] == _DRAWN
    stem = Path(file).stem
    for ending in _VARIANTS:
        stem = stem.removesuffix(ending)
    uri = escape_name(name)
    columns = {
        "category": category_path(*(folders[:-1] if drawn else folders)),
        "domain": _DRAWN if drawn else None,
        "split_group": escape_name("/".join([*folders, stem])),
        "licence": "GPL-2.0-or-later",
        "attribution": "Tux Paint stamps, Bill Kendrick and contributors",
    }
    return Member(uri, f"{KIND}/{uri}", columns)
