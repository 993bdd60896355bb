"""Where images come from: one file per kind, each registered once by being imported here."""

from sempairs.catalog.sources import (
    datasets,
    digits,
    folder,
    idx,
    imagenet,
    lists,
    release,
    saved,
    shards,
    stamps,
    vision,
    voc,
)
from sempairs.catalog.sources.base import (
    SOURCES,
    FileSource,
    Problem,
    Scan,
    Source,
    UnreadableImage,
    open_source,
    scan_and_tell,
)

KINDS = (folder, lists, shards, idx, vision, saved, release, digits, stamps, voc, imagenet, datasets)

__all__ = [
    "KINDS",
    "SOURCES",
    "FileSource",
    "Problem",
    "Scan",
    "Source",
    "UnreadableImage",
    "open_source",
    "scan_and_tell",
]
