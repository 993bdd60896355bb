"""Datasets as versioned releases: written once, with checksums, card and licences; verified by anyone."""

from sempairs.release.build import build_release
from sempairs.release.diff import diff_releases
from sempairs.release.facts import ReleaseFacts
from sempairs.release.join import join_release
from sempairs.release.verify import verify_release
from sempairs.release.writer import manifest_hash, write_release

__all__ = [
    "ReleaseFacts",
    "build_release",
    "diff_releases",
    "join_release",
    "manifest_hash",
    "verify_release",
    "write_release",
]
