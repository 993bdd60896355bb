"""Where images come from: one file a kind, found by itself; see `base` for what a source is."""

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

__all__ = [
    "SOURCES",
    "FileSource",
    "Problem",
    "Scan",
    "Source",
    "UnreadableImage",
    "open_source",
    "scan_and_tell",
]
