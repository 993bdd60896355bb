"""Reads the JSON files of npm packages, packed (`npm pack`) or unpacked."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sempairs.errors import UserError
from sempairs.files import sha256_bytes


@dataclass(frozen=True)
class Package:
    """An npm package's files: in a tarball, or under a folder."""

    name: str
    version: str
    files: Mapping[str, bytes]

    def json(self, path: str) -> Any:
        """The value in one file. Raises: UserError if it is absent or not JSON."""
        try:
            return json.loads(self.files[path])
        except KeyError:
            raise UserError(f"{self.name}@{self.version}", "lacks the file", path) from None
        except json.JSONDecodeError as error:
            raise UserError(f"{self.name}@{self.version}/{path}", f"is not JSON ({error})") from None

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that was read."""
        return {path: sha256_bytes(data) for path, data in sorted(self.files.items())}


def read_package(root: Path, name: str, version: str, wanted: tuple[str, ...]) -> Package:
    """`wanted` files of one package, from `root/NAME-VERSION.tgz` or a folder holding it unpacked.

    A folder is looked for as NAME-VERSION, NAME (scope joined by "-" as npm does) or `@scope/name`, with or
    without the `package` folder of a tarball inside. A wanted file that the package lacks is left out.

    Raises: UserError if the package is absent or has another version.
    """
    flat = name.removeprefix("@").replace("/", "-")
    tarball = root / f"{flat}-{version}.tgz"
    asked = {"package.json", *wanted}
    if tarball.is_file():
        files = _from_tarball(tarball, asked)
    else:
        choices = [
            root / stem / inner for stem in (f"{flat}-{version}", flat, name) for inner in ("package", "")
        ]
        folder = next((f for f in choices if (f / "package.json").is_file()), None)
        if folder is None:
            remedy = f"run `npm pack {name}@{version}` in that folder"
            raise UserError("--packages", f"lacks {name}@{version}", str(root), remedy)
        files = {path: (folder / path).read_bytes() for path in asked if (folder / path).is_file()}
    package = Package(name, version, files)
    said = package.json("package.json")
    found = f"{said.get('name')}@{said.get('version')}"
    if found != f"{name}@{version}":
        raise UserError(
            "--packages", f"must hold {name}@{version}", found, f"run `npm pack {name}@{version}`"
        )
    return package


def _from_tarball(tarball: Path, asked: set[str]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            for member in archive:
                path = member.name.removeprefix("package/")
                if path in asked and member.isfile() and (handle := archive.extractfile(member)):
                    files[path] = handle.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError("--packages", f"holds an unreadable tarball ({error})", tarball.name) from None
    return files
