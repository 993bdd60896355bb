"""Where images come from: one file per kind, each registered once by being imported here."""

from sempairs.catalog.sources import digits, folder, idx, lists, release, saved, shards, stamps, vision
from sempairs.catalog.sources.base import SOURCES, Problem, Scan, Source, UnreadableImage, open_source

KINDS = (folder, lists, shards, idx, vision, saved, release, digits, stamps)

__all__ = ["KINDS", "SOURCES", "Problem", "Scan", "Source", "UnreadableImage", "open_source"]
