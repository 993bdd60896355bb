"""What the builders of bundled releases share: from a folder of released images to one with pairs."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from PIL import features

import sempairs
from sempairs.catalog import Catalog
from sempairs.catalog.sources import open_source
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.table import save_with_baselines
from sempairs.release import build_release, write_release
from sempairs.release.facts import ReleaseFacts
from sempairs.release.writer import ATTRIBUTES


def release_with_pairs(
    out: Path,
    *,
    name: str,
    version: str,
    catalog: Catalog,
    read: Callable[[str], bytes],
    licences: Mapping[str, str],
    facts: ReleaseFacts,
    seed: int,
) -> dict[str, Any]:
    """Writes the new folder `out`: the images, and of those for training fixed pairs of one concept in two
    domains, audited, with their matched baselines. Returns its `release.json`.

    read: the bytes of the image of a uri. licences: texts by file name. Raises: UserError if `out` is in use.
    """
    from sempairs.pairs.audit import audit

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_release(
            place / name,
            name=name,
            version=version,
            catalog=catalog,
            read=read,
            card=name,
            licences=licences,
            facts={},
        )
        images = open_source(f"release:{place / name}").scan().catalog
        train = images.select(images.column("split") == "train")
        config = PairsConfig(relation="cross_domain", mode="fixed", seed=seed)
        pairs = save_with_baselines(place / "pairs", train, config)
        audit(pairs).write(place / "pairs" / "audit")
        about = build_release(place / "pairs", out, name=name, version=version, images=images, facts=facts)
    (out / ATTRIBUTES).unlink()  # this repository has its own, and no Git LFS
    return about


def builder(tool: str, *packages: str) -> dict[str, str | None]:
    """What built a release: the tool, and the versions of what it used."""
    return {
        "tool": tool,
        "sempairs": sempairs.__version__,
        "python": platform.python_version(),
        "libwebp": features.version("webp"),
        **{package: installed(package) for package in ("pillow", "pyarrow", "numpy", *packages)},
    }
