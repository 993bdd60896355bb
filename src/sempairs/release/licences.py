"""The full text of every licence that a release's images and pairs are under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from sempairs.catalog import Catalog
from sempairs.catalog.sources import open_source
from sempairs.catalog.sources.release import BUNDLED, ReleaseSource, bundled_release
from sempairs.errors import UserError
from sempairs.release.writer import LICENCES
from sempairs.texts import read_text

# Texts that name no copyright holder, so that they serve anybody's images.
_AT_HAND = ("Apache-2.0", "CC-BY-4.0")


def licence_texts(
    catalog: Catalog, more: Iterable[str], given: Mapping[str, str | Path], *, with_images: bool = True
) -> dict[str, str]:
    """Text by file name, for the licences of the images of `catalog` and those in `more` (SPDX ids).

    with_images: whether the images are passed on; if not, their licences' texts may be given and need not be.

    given: files of texts by SPDX id. Else a text is taken from the release the images come from, with its
    notices, or from those that come along. Raises: UserError for a licence whose text is not to be had.
    """
    from_releases = _of_sources(catalog)
    more = list(more)
    wanted = sorted({*(name for name in catalog.column("licence") if name is not None), *more})
    found = dict(from_releases)
    for name in wanted:
        if name in given:
            found[f"{name}.txt"] = _read(name, Path(given[name]))
        elif f"{name}.txt" not in found and (with_images or name in more):
            if name not in _AT_HAND:
                remedy = f"give it with --licence-file {name}=FILE"
                raise UserError(f"licence {name}", "has no text at hand", remedy=remedy)
            found[f"{name}.txt"] = _read(name, bundled_release() / LICENCES / f"{name}.txt")
    unused = sorted(set(given) - set(wanted))
    if unused:
        rule = f"must name a licence of the release ({', '.join(wanted) or 'none'})"
        raise UserError("--licence-file", rule, unused[0])
    return found


def _of_sources(catalog: Catalog) -> dict[str, str]:
    found: dict[str, str] = {}
    for spec in sorted(set(catalog.column("source"))):
        source = open_source(spec) if spec.partition(":")[0] in ("release", *BUNDLED) else None
        if isinstance(source, ReleaseSource):
            for file in sorted((source.root / LICENCES).glob("*.txt")):
                text = _read(file.stem, file)
                if found.setdefault(file.name, text) != text:
                    raise UserError(f"{LICENCES}/{file.name}", "differs between two releases", str(file))
    return found


def _read(name: str, file: Path) -> str:
    try:
        return read_text(file)
    except (OSError, UnicodeError) as error:
        raise UserError(f"licence {name}", f"has a text that cannot be read ({error})", str(file)) from None
