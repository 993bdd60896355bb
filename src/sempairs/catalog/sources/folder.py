"""`folder:PATH`: images in nested class folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sempairs.catalog.images import SUFFIXES
from sempairs.catalog.names import category_path, escape_name
from sempairs.catalog.sources.base import Problem, existing_path, source_kind
from sempairs.catalog.sources.files import FilesSource, Found
from sempairs.catalog.sources.reading import SPLIT_NAMES, Member


@source_kind("folder", summary="images in nested class folders", example="folder:photos")
class FolderSource(FilesSource):
    """Every image file under a folder; the folders on the way to it are its category, `animal/cat`.

    Images directly in the folder have no category. Where the outermost folders are all called after splits
    (train, val, test, ...) and there are at least two, they give the split and are no part of the category.
    Hidden files and folders and files without an image's ending are passed over. Links to folders, and links
    to files outside, are not followed.
    """

    def __init__(self, rest: str) -> None:
        self.root = existing_path("folder", rest, folder=True)
        self.spec = f"folder:{self.root}"

    def find(self) -> Found:
        found = walk(self.root)
        members = _members(escape_name(self.root.name) or "folder", found.files)
        return Found(members, found.problems, found.ignored)


@dataclass
class Walk:
    """Image files under a root (relative, as the system names them), and what else was met."""

    files: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0


def walk(root: Path) -> Walk:
    """All image files under `root`, in no particular order. No link can make it loop or leave the root."""
    found = Walk()
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    _visit(entry, root, os.path.join(folder, entry.name), folders, found)
        except OSError as error:
            found.problems.append(Problem(escape_name(folder) or ".", error.strerror or str(error)))
    return found


def _visit(entry: os.DirEntry[str], root: Path, name: str, folders: list[str], found: Walk) -> None:
    is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
    if entry.name.startswith("."):
        found.ignored += 1
    elif entry.is_symlink():
        refused = _why_not_followed(entry.path, root)
        if refused and (is_image or os.path.isdir(entry.path)):
            found.problems.append(Problem(escape_name(name), refused))
        elif is_image:
            found.files.append(name)
        else:
            found.ignored += 1
    elif entry.is_dir(follow_symlinks=False):
        folders.append(name)
    elif not is_image:
        found.ignored += 1
    elif entry.is_file(follow_symlinks=False):
        found.files.append(name)
    else:
        found.problems.append(Problem(escape_name(name), "not a regular file"))


def _why_not_followed(link: str, root: Path) -> str:
    """The reason, or "" for a link to a file inside the root."""
    if not os.path.exists(link):
        return "a link that is broken or circular"
    if os.path.isdir(link):
        return "a link to a folder, which is not followed"
    inside = Path(os.path.realpath(link)).is_relative_to(root)
    return "" if inside else "a link that leaves the folder, which is not followed"


def _members(source: str, files: list[str]) -> list[Member]:
    outermost = {name.split("/", 1)[0] if "/" in name else "" for name in files}
    has_splits = len(outermost) >= 2 and all(name.lower() in SPLIT_NAMES for name in outermost)
    members = []
    for name in files:
        *folders, _ = name.split("/")
        split = SPLIT_NAMES[folders.pop(0).lower()] if has_splits else None
        uri = escape_name(name)
        columns = {"category": category_path(*folders), "split": split}
        members.append(Member(uri, f"{source}/{uri}", columns))
    return members
