"""Reads Debian's package sweethome3d-furniture: its models, what they are called, who made them, under which
licence."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import debian
from sempairs.errors import UserError
from sempairs.files import sha256_bytes, sha256_file

PACKAGE = ("sweethome3d-furniture", "1.8-1")
_FURNITURE = "usr/share/sweethome3d/furniture/"
_COPYRIGHT = f"usr/share/doc/{PACKAGE[0]}/copyright"
_CATALOGUE = "PluginFurnitureCatalog.properties"

# Debian's names of licences, as SPDX has them. What is not here is left out.
SPDX = {"CC0": "CC0-1.0", "CC-BY-3.0": "CC-BY-3.0", "CC-BY-3.0-USA": "CC-BY-3.0-US"}

# What a library's own catalogue says, which must agree with Debian.
_SAID = {
    "Public domain": "CC0-1.0",
    "Creative Commons Attribution 3.0 license": "CC-BY-3.0",
    "Creative Commons Attribution 3.0 Unported license": "CC-BY-3.0",
    "Creative Commons Attribution 3.0 United States license": "CC-BY-3.0-US",
}

# Whom a library of one maker names.
_NAMED = {
    "KatorLegaz": "© Andrew Kator & Jennifer Legaz, http://www.katorlegaz.com",
    "Reallusion": "© Reallusion, http://www.reallusion.com",
    "Scopia": "© Scopia Visual Interfaces Systems, s.l., http://www.scopia.es, and Emmanuel Puybaret / eTeks",
}

# In a licence file beside a model: the work's title, its licence, its address.
_OWN_LICENCE = re.compile(
    r"creativecommons\.org/(publicdomain/zero|publicdomain/mark|licenses/[a-z-]+)/?([0-9.]*)", re.I
)
_OWN_WORDS = re.compile(r"Released under\s+(Creative Commons [^<\r\n]+)", re.I)
_OWN_ADDRESS = re.compile(r"https?://(?:www\.)?blendswap\.com/blends?/view/\d+")
_FREE = {"publicdomain/zero": "CC0-1.0", "publicdomain/mark": "CC0-1.0", "licenses/by": "CC-BY-3.0"}
_FREE_WORDS = {
    "creative commons zero (public domain)": "CC0-1.0",
    "creative commons attribution 3.0": "CC-BY-3.0",
}
# Where library and model differ, the one that asks more of whoever copies it.
_STRICTNESS = ("CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-US")


@dataclass(frozen=True)
class Model:
    """One model. name, kind: as its catalogue has them. licence: SPDX id, None where it is not one of SPDX's
    values or not clear. files: what lies in its folder, by name. icon: the picture its catalogue shows, a
    file."""

    key: str
    library: str
    name: str
    kind: str
    maker: str
    licence: str | None
    attribution: str
    rotation: tuple[float, ...] | None
    obj: str
    files: Mapping[str, bytes]
    icon: bytes

    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of its files, and how it is turned."""
        parts = [f"{name} {sha256_bytes(data)}" for name, data in sorted(self.files.items())]
        return sha256_bytes("\n".join([self.obj, repr(self.rotation), *parts]).encode())


@dataclass(frozen=True)
class Furniture:
    """All models of the package, the texts of the licences by SPDX id, and the package's SHA-256."""

    models: tuple[Model, ...]
    licences: Mapping[str, str]
    sha256: str


def read_furniture(deb: Path) -> Furniture:
    """The package's models in the order of their keys.

    Raises: UserError if it is another package or version, damaged, or lacks its copyright file.
    """
    try:
        control = {
            name: file.read() for name, file in debian.members(deb, "control", lambda n: n == "control")
        }
        wanted = debian.members(deb, "data", lambda name: name == _COPYRIGHT or name.endswith(".sh3f"))
        files = {name: file.read() for name, file in wanted}
        fields = debian.fields(control["control"].decode())
    except (OSError, ValueError, KeyError, EOFError, tarfile.TarError) as error:
        raise UserError(
            "--package", f"must be a Debian package that can be read ({error})", str(deb)
        ) from None
    found = (fields.get("Package"), fields.get("Version"))
    if found != PACKAGE:
        remedy = f"run `apt-get download {PACKAGE[0]}` on Debian 12"
        raise UserError("--package", f"must be {PACKAGE[0]} {PACKAGE[1]}", f"{found[0]} {found[1]}", remedy)
    if _COPYRIGHT not in files:
        raise UserError("--package", "lacks the file", _COPYRIGHT)
    of_library, texts = read_copyright(files[_COPYRIGHT].decode("utf-8"))
    models: list[Model] = []
    for path, data in sorted(files.items()):
        if path.endswith(".sh3f"):
            library = PurePosixPath(path).stem
            models += _read_library(library, data, of_library.get(library))
    return Furniture(tuple(sorted(models, key=lambda m: m.key)), texts, sha256_file(deb))


def read_copyright(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Of a Debian copyright file (format 1.0): SPDX id by library, and text by SPDX id, for licences in
    SPDX."""
    of_library: dict[str, str] = {}
    texts: dict[str, str] = {}
    for fields in debian.stanzas(text):
        licence = SPDX.get(fields.get("License", [""])[0])
        if licence and "Files" in fields:
            of_library |= {glob.removesuffix("/*"): licence for glob in " ".join(fields["Files"]).split()}
        elif licence:
            texts[licence] = "\n".join(fields["License"][1:]).strip() + "\n"
    return of_library, texts


def properties(data: bytes) -> tuple[dict[str, str], dict[int, dict[str, str]]]:
    """A catalogue's own fields, and those of its numbered entries (`name#3=Bed`), from a Java properties
    file."""
    general: dict[str, str] = {}
    entries: dict[int, dict[str, str]] = {}
    text = re.sub(r"\\\r?\n[ \t]*", "", data.decode("latin-1"))
    for line in text.splitlines():
        match = re.match(r"\s*(\w+)(?:#(\d+))?\s*[=:]\s*(.*)$", line)
        if not match or line.lstrip()[:1] in ("#", "!"):
            continue
        key, number, value = match.groups()
        value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), value)
        value = re.sub(r"\\(.)", r"\1", value).strip()
        (entries.setdefault(int(number), {}) if number else general)[key] = value
    return general, entries


def own_licence(files: Mapping[str, bytes]) -> tuple[str | None, str | None, bool]:
    """What a licence file beside a model says: SPDX id, the work's address, and whether there is such a file.

    The id is None for any licence but CC0 and plain CC-BY 3.0, or where several are named.
    """
    texts = [
        data.decode("utf-8", "replace")
        for name, data in sorted(files.items())
        if name.lower().endswith((".txt", ".html")) and "licen" in name.lower()
    ]
    if not texts:
        return None, None, False
    text = "\n".join(texts)
    found: set[str | None] = {
        _FREE.get(kind.lower()) if kind.lower() != "licenses/by" or number == "3.0" else None
        for kind, number in _OWN_LICENCE.findall(text)
    }
    found |= {
        _FREE_WORDS.get(re.sub(r"\s+", " ", words).strip().lower()) for words in _OWN_WORDS.findall(text)
    }
    address = _OWN_ADDRESS.search(text)
    licence = next(iter(found)) if len(found) == 1 else None
    return licence, address[0] if address else None, True


def _read_library(library: str, data: bytes, debian: str | None) -> list[Model]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            general, entries = properties(archive.read(_CATALOGUE))
            folders: dict[str, dict[str, bytes]] = {}
            for info in archive.infolist():
                path = PurePosixPath(info.filename)
                if not info.is_dir():
                    folders.setdefault(str(path.parent), {})[path.name] = archive.read(info)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError("--package", f"holds a library that cannot be read ({error})", library) from None
    said = _SAID.get(re.split(r"\s+(?:Copyright|©|\x92|\ufffd)", general.get("license", ""))[0].strip())
    licence = debian if debian is not None and debian == said else None
    models = []
    for _, entry in sorted(entries.items()):
        path = PurePosixPath(entry["model"].lstrip("/"))
        files = folders.get(str(path.parent), {})
        if path.name not in files:
            raise UserError("--package", f"library {library} lacks the model", str(path))
        icon = PurePosixPath(entry["icon"].lstrip("/"))
        picture = folders.get(str(icon.parent), {}).get(icon.name, b"")
        models.append(_model(library, entry, licence, path, files, picture))
    return models


def _model(
    library: str,
    entry: Mapping[str, str],
    licence: str | None,
    path: PurePosixPath,
    files: Mapping[str, bytes],
    icon: bytes,
) -> Model:
    own, address, has_own = own_licence(files)
    if licence is not None and has_own:
        licence = max(licence, own, key=_STRICTNESS.index) if own is not None else None
    creator = entry.get("creator", "").strip()
    named = _NAMED.get(library) or f"{creator}, {address or 'Blend Swap, http://www.blendswap.com'}"
    rotation = entry.get("modelRotation")
    return Model(
        key=str(path.parent),
        library=library,
        name=entry["name"].strip(),
        kind=entry["category"].strip(),
        maker=maker_of(creator),
        licence=licence,
        attribution=f"{named}, by way of Sweet Home 3D, rendered",
        rotation=tuple(float(x) for x in rotation.split()) if rotation else None,
        obj=path.name,
        files=files,
        icon=icon,
    )


def maker_of(creator: str) -> str:
    """Who made a model, without who converted it: "SirOccor & eTeks" -> "SirOccor"."""
    first = re.split(r"\s*(?:&|,)\s*", creator)[0].strip()
    return "Blend Swap" if first.replace(" ", "").lower() in ("blendswap", "") else first
