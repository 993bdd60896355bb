"""Builds the release texture-pairs from Debian's 0ad-data and ufoai-textures. `tools/README.md` says how.

python tools/build_texture_pairs.py --zeroad 0ad-data_0.0.26-1_all.deb --ufoai ufoai-textures_2.5-2_all.deb \
    --out texture-pairs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sempairs.errors import UserError
from texture_pairs import build


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line; 0 done, 2 a mistake."""
    parser = argparse.ArgumentParser(
        prog="build_texture_pairs.py", description=(__doc__ or "").split("\n\n")[0]
    )
    given = "the .deb file, or the folder where it lies unpacked (`/` where it is installed)"
    parser.add_argument("--zeroad", type=Path, required=True, help=f"0ad-data: {given}")
    parser.add_argument("--ufoai", type=Path, required=True, help=f"ufoai-textures: {given}")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the release")
    parser.add_argument("--sheets", type=Path, help="folder for sheets of all textures, to look at")
    options = parser.parse_args(arguments)
    try:
        for name, place in (("--zeroad", options.zeroad), ("--ufoai", options.ufoai)):
            if not place.exists():
                raise UserError(name, "must be an existing file or folder", str(place))
        if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
            raise UserError("--out", "must be a new or empty folder", str(options.out))
        collection = build.collect(options.zeroad, options.ufoai, options.sheets)
        about = build.write(collection, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {about['counts']['images']:,} images, manifest {about['manifest_hash']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
