"""`folder:PATH`: images in nested class folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sempairs.catalog.images import SUFFIXES
from sempairs.catalog.names import category_path, escape_name, printable
from sempairs.catalog.sources.base import Problem, existing_path, source_kind
from sempairs.catalog.sources.files import FilesSource, Found
from sempairs.catalog.sources.reading import SPLIT_NAMES, Member

# Folders that no user made: archives' and file servers' own, with pictures of pictures in them.
_OF_SYSTEMS = frozenset(
    ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
)
# Lists of the images as Hugging Face lays them beside the pictures.
_LISTS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# Pictures, and archives of them, that a user may take for read.
_UNREAD = (
    ".heic", ".heif", ".jxl", ".svg", ".psd", ".ico", ".tga", ".exr", ".dds", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".orf", ".raf", ".dcm", ".nii", ".npy", ".npz", ".mat", ".pdf", ".mp4", ".zip", ".tar", ".tgz",
    ".gz", ".7z", ".rar", ".parquet", ".arrow", ".tfrecord", ".h5",
)  # fmt: skip
_SHOWN = 5


@source_kind("folder", summary="images in nested class folders", example="folder:photos")
class FolderSource(FilesSource):
    """Every image file under a folder; the folders on the way to it are its category, `animal/cat`.

    Images directly in the folder have no category. Where at least two of the outermost folders are called
    after different splits (train, val, test, ...), they give the split and are no part of the category.
    Whatever lies beside them, images or folders, has no split then, and a note says so.
    Hidden files and folders, those that systems leave (`__MACOSX`, `@eaDir`, ...) and files without an
    image's ending are passed over. Links to folders, and links to files outside, are not followed.
    """

    def __init__(self, rest: str) -> None:
        self.root = existing_path("folder", rest, folder=True)
        self.spec = f"folder:{self.root}"

    def find(self) -> Found:
        found = walk(self.root)
        splits = _split_folders(found.files)
        members = _members(escape_name(self.root.name) or "folder", found.files, splits)
        notes = [*_on_splits(self.root, found.files, splits), *found.notes]
        loose = sorted(escape_name(name) for name in found.files if "/" not in name)
        if 0 < len(loose) < len(found.files) and not splits:
            notes.append(f"{len(loose):,} images lie in no folder and have no category: {_listed(loose)}")
        return Found(members, found.problems, found.ignored, notes)


@dataclass
class Walk:
    """Image files under a root (relative, as the system names them), and what else was met."""

    files: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    """How many files and folders were passed over, by what they are."""

    @property
    def ignored(self) -> int:
        return self.passed.total()

    @property
    def notes(self) -> list[str]:
        """What was passed over and holds pictures or says something of them."""
        pictures = [f"{self.passed[kind]:,} {kind}" for kind in _UNREAD if self.passed[kind]]
        lists = [name for name in _LISTS if self.passed[name]]
        return [
            *([f"pictures of kinds that are not read: {', '.join(pictures)}"] if pictures else []),
            *(f"{name} lies there and is not read; csv:PATH reads such a list" for name in lists),
        ]


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
    ending = os.path.splitext(entry.name)[1].lower()
    is_image = ending in SUFFIXES
    if entry.name.startswith("."):
        found.passed["hidden"] += 1
    elif entry.name in _OF_SYSTEMS:
        found.passed[entry.name] += 1
    elif entry.is_symlink():
        refused = _why_not_followed(entry.path, root)
        if refused and (is_image or os.path.isdir(entry.path)):
            found.problems.append(Problem(escape_name(name), refused))
        elif is_image:
            found.files.append(name)
        else:
            found.passed[_kind(entry.name, ending)] += 1
    elif entry.is_dir(follow_symlinks=False):
        folders.append(name)
    elif not is_image:
        found.passed[_kind(entry.name, ending)] += 1
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


def _kind(name: str, ending: str) -> str:
    """What a file that is no image is called in a note."""
    if name.lower() in _LISTS:
        return name.lower()
    return escape_name(ending) if 1 < len(ending) <= 12 else "without an ending"


def _split_folders(files: Iterable[str]) -> dict[str, str]:
    """The outermost folders that give a split, and the split; none if there are not two different ones: a
    single folder `train` may be a class, and two such classes are hardly met with."""
    outermost = {name.partition("/")[0] for name in files if "/" in name}
    found = {outer: SPLIT_NAMES[outer.lower()] for outer in outermost if outer.lower() in SPLIT_NAMES}
    return found if len(set(found.values())) > 1 else {}


def _members(source: str, files: list[str], splits: Mapping[str, str]) -> list[Member]:
    members = []
    for name in files:
        *folders, _ = name.split("/")
        split = splits.get(folders[0]) if folders else None
        uri = escape_name(name)
        columns = {"category": category_path(*folders[split is not None :]), "split": split}
        members.append(Member(uri, f"{source}/{uri}", columns))
    return members


def _on_splits(root: Path, files: Sequence[str], splits: Mapping[str, str]) -> list[str]:
    """What was taken for granted about folders that are, or may be meant as, splits."""
    if splits:
        called = _listed(f"{escape_name(outer)} ({split})" for outer, split in sorted(splits.items()))
        notes = [f"the folders {called} give the split"]
        beside = sorted(name for name in files if name.partition("/")[0] not in splits)
        if beside:
            first = _listed(map(escape_name, beside))
            notes.append(f"{len(beside):,} beside them have no split: {first}")
        return notes
    levels: dict[str, dict[str, str]] = {}
    for name in files:
        *folders, _ = name.split("/")
        for at, folder in enumerate(folders):
            if folder.lower() in SPLIT_NAMES:
                levels.setdefault("/".join(folders[:at]), {})[folder] = SPLIT_NAMES[folder.lower()]
    outermost = {name.partition("/")[0] for name in files if "/" in name}
    for above, named in sorted(levels.items()):
        called = _listed(map(escape_name, sorted(named)))
        if len(set(named.values())) > 1:
            remedy = f"give folder:{printable(str(root / above))}, or data.levels"
            said = f"the folders {called} in {escape_name(above)} are taken for classes"
            return [f"{said}; to have them give the split, {remedy}"]
        if not above and outermost == set(named):
            remedy = f"give folder:{printable(str(root))}/{called}, or data.levels"
            return [f"the only folder, {called}, is part of the category and gives no split; else {remedy}"]
    return []


def _listed(names: Iterable[str]) -> str:
    all_of_them = list(names)
    more = f" and {len(all_of_them) - _SHOWN:,} more" if len(all_of_them) > _SHOWN else ""
    return ", ".join(all_of_them[:_SHOWN]) + more
