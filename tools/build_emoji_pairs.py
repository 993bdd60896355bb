"""Builds the emoji-pairs release from npm packages. `tools/README.md` says how to get them.

python tools/build_emoji_pairs.py --packages DIR --out data/emoji-pairs
python tools/build_emoji_pairs.py --packages DIR --out DIR --by-sa
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emoji_pairs import build
from sempairs.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line; 0 done, 2 a mistake."""
    parser = argparse.ArgumentParser(prog="build_emoji_pairs.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--packages", type=Path, required=True, help="folder of npm tarballs, or unpacked packages"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for the release")
    parser.add_argument(
        "--by-sa", action="store_true", help="build the add-on of the two CC-BY-SA sets instead"
    )
    options = parser.parse_args(arguments)
    try:
        if not options.packages.is_dir():
            raise UserError("--packages", "must be an existing folder", str(options.packages))
        if options.out.exists() and any(options.out.iterdir()):
            raise UserError("--out", "must be a new or empty folder", str(options.out))
        collection = build.collect(options.packages)
        notices = build.notices(options.packages)
        about = build.write(collection, options.out, share_alike=options.by_sa, notices=notices)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {about['counts']['images']:,} images, manifest {about['manifest_hash']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
