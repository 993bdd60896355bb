"""Reads Debian packages: the files in them without dpkg, and their copyright files (format 1.0)."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sempairs.errors import UserError

Wanted = Callable[[str], bool]


def members(deb: Path, part: str, wanted: Wanted) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the wanted files in the archive `part` (control or data) of a package.

    Each must be read before the next is asked for. Raises: OSError, ValueError, EOFError, tarfile.TarError if
    the package cannot be read.
    """
    with deb.open("rb") as handle:
        if handle.read(8) != b"!<arch>\n":
            raise ValueError("no ar archive")
        while len(header := handle.read(60)) == 60:
            name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
            if name.partition(".")[0] == part:
                archive = io.BufferedReader(_Section(handle, size))
                with tarfile.open(fileobj=archive, mode="r|*") as tar:
                    for member in tar:
                        path = member.name.removeprefix("./")
                        if member.isfile() and wanted(path) and (file := tar.extractfile(member)):
                            yield path, file
                return
            handle.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError(f"no {part} archive")


@contextmanager
def unpacked(place: Path, package: str, version: str, wanted: Wanted) -> Iterator[Path]:
    """The folder in which the package's wanted files lie as on an installed system (`usr/share/…`).

    place: the .deb file, which is unpacked into a temporary folder, or a folder where it lies unpacked.
    Raises: UserError if it is another package or version, or damaged.
    """
    changelog = f"usr/share/doc/{package}/changelog.Debian.gz"
    if place.is_dir():
        _check(place, changelog, package, version)
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            # The control archive is small and stands first: another package is refused at once.
            control = {
                name: file.read() for name, file in members(place, "control", lambda n: n == "control")
            }
            _same(fields(control["control"].decode()), package, version, place)
            for name, file in members(place, "data", lambda n: n == changelog or wanted(n)):
                target = root / name
                if not target.resolve().is_relative_to(root.resolve()):
                    raise ValueError(f"a file outside: {name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(file, out)
        except (OSError, ValueError, KeyError, EOFError, tarfile.TarError) as error:
            if isinstance(error, UserError):
                raise
            rule = f"must be a Debian package that can be read ({error})"
            raise UserError(package, rule, str(place)) from None
        yield root


def fields(control: str) -> dict[str, str]:
    """The fields of a control file."""
    lines = (line for line in control.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
    return dict(line.split(": ", 1) for line in lines)


def stanzas(text: str) -> list[dict[str, list[str]]]:
    """The stanzas of a copyright file: lines by field, the first beside the field's name."""
    found: list[dict[str, list[str]]] = []
    for stanza in re.split(r"\n[ \t]*\n", text):
        lines: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t") and name:
                lines[name].append("" if line.strip() == "." else line[1:])
            elif ":" in line:
                name, _, value = line.partition(":")
                lines[name] = [value.strip()]
        found.append(lines)
    return found


def _same(control: dict[str, str], package: str, version: str, place: Path) -> None:
    found = (control.get("Package"), control.get("Version"))
    if found != (package, version):
        remedy = f"run `apt-get download {package}` on Debian 12"
        raise UserError(package, f"must be {package} {version}", f"{place}: {found[0]} {found[1]}", remedy)


def _check(root: Path, changelog: str, package: str, version: str) -> None:
    try:
        with gzip.open(root / changelog, "rt", encoding="utf-8") as handle:
            match = re.match(r"(\S+) \(([^)]+)\)", handle.readline())
    except (OSError, EOFError, UnicodeError) as error:
        rule = f"must be a .deb file, or a folder where it lies unpacked ({error})"
        raise UserError(package, rule, str(root)) from None
    # Debian's changelogs name the source package, of which the binary package is a part.
    found = match[2] if match else None
    if found != version:
        remedy = f"run `apt-get download {package}` on Debian 12"
        raise UserError(package, f"must be {package} {version}", f"{root}: {found}", remedy)


class _Section(io.RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, handle: IO[bytes], size: int) -> None:
        self._handle, self._left = handle, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._handle.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)
