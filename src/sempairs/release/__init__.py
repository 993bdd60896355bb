"""Datasets as versioned releases: written once, with checksums, card and licences; verified by anyone."""

from sempairs.release.verify import verify_release
from sempairs.release.writer import manifest_hash, write_release

__all__ = ["manifest_hash", "verify_release", "write_release"]
