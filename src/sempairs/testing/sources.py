"""Checks of a source: what a scan says is what opening an image gives, from any folder and any thread."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.sources.base import SOURCES, FileSource, open_source
from sempairs.catalog.table import SCHEMA, SPLITS

#: What no source may take for one of its images.
FOREIGN = ("absent", "", "../x.png", "/etc/hostname", "a\0b", "\udcff", "x" * 5000)


def check_source(spec: str, *, least: int = 3) -> None:
    """Run every check on the source that `spec` opens, which must hold at least `least` sound images.

    A catalogue sorted by distinct ids, with the required columns and hashes; equal for any number of workers;
    with `decode`, hashes of the pixels; `spec` opens the same from another folder; images as they were
    described, from several threads; what is no image of the source is refused. Raises: AssertionError,
    UserError.
    """
    kind = SOURCES.get(spec.partition(":")[0])
    assert kind.example.partition(":")[0] == kind.name
    assert 10 < len(kind.summary) < 80
    source = open_source(spec)
    scan = source.scan(workers=1, decode=True)
    catalog = scan.catalog
    assert len(catalog) >= least and not scan.problems
    assert catalog.table.column_names[: len(SCHEMA)] == SCHEMA.names
    ids = catalog.column("image_id").tolist()
    assert ids == sorted(set(ids))
    assert set(catalog.column("split")) <= {None, *SPLITS}
    assert all(len(value) == 64 for value in catalog.column("file_hash"))
    assert open_source(spec).scan(workers=4, decode=True) == scan
    if kind.name != "catalog":  # which keeps the hashes it was saved with
        quick = open_source(spec).scan().catalog
        assert set(quick.column("pixel_hash")) == {None}
        assert quick == catalog.with_column("pixel_hash", [None] * len(catalog))
        assert set(catalog.column("source")) == {source.spec}
    here = os.getcwd()
    os.chdir("/")
    try:
        again = open_source(source.spec)

        def check(row: int) -> None:
            uri = str(catalog.column("uri")[row])
            image = again.open_image(uri)
            assert image.mode in ("RGB", "RGBA")
            assert image.size == (catalog.column("width")[row], catalog.column("height")[row])
            assert pixel_hash(image) == catalog.column("pixel_hash")[row]
            if isinstance(again, FileSource):
                data = again.read_bytes(uri)
                assert hashlib.sha256(data).hexdigest() == catalog.column("file_hash")[row]

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(check, list(range(min(len(catalog), 20))) * 4))
        for uri in FOREIGN:
            for opened in (again.open_image, *([again.read_bytes] if isinstance(again, FileSource) else [])):
                try:
                    opened(uri)
                except UnreadableImage:
                    continue
                raise AssertionError(f"{spec} opened {uri!r}")
    finally:
        os.chdir(here)
