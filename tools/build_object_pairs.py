"""Builds the object-pairs release from Debian's sweethome3d-furniture. `tools/README.md` says how to get it.

python tools/build_object_pairs.py --package sweethome3d-furniture_1.8-1_all.deb --out data/object-pairs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from object_pairs import build
from sempairs.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line; 0 done, 2 a mistake."""
    parser = argparse.ArgumentParser(prog="build_object_pairs.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--package", type=Path, required=True, help="the .deb file")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the release")
    parser.add_argument("--cache", type=Path, help="folder where rendered pictures are kept between builds")
    parser.add_argument("--sheets", type=Path, help="folder for sheets of all pictures, to look at")
    options = parser.parse_args(arguments)
    try:
        if not options.package.is_file():
            raise UserError("--package", "must be an existing file", str(options.package))
        if options.out.exists() and any(options.out.iterdir()):
            raise UserError("--out", "must be a new or empty folder", str(options.out))
        collection = build.collect(options.package, options.cache, options.sheets)
        about = build.write(collection, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {about['counts']['images']:,} images, manifest {about['manifest_hash']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
