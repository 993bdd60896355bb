"""Files that are written whole or not at all, and hashes of them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sempairs.errors import UserError
from sempairs.texts import read_text


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what was written there becomes `path` when the block ends well.

    A reader sees the old file or the new one, also after a crash. On an error the temporary file is removed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not made from the target's name: that may already be as long as the file system allows.
    temporary = target.parent / f".partial-{secrets.token_hex(8)}{target.suffix}"
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, renamed to it when the block ends well.

    Raises: UserError if `path` exists and is not an empty folder, at the beginning or in the end: of several
    commands that write one folder, the first to finish has it.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError("--out", "must be a new or empty folder", str(target), "choose another, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".partial-{secrets.token_hex(8)}"
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        try:
            os.replace(temporary, target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            rule = "was empty or absent, and another command has written to it meanwhile"
            remedy = "what that one wrote is kept; choose another folder"
            raise UserError("--out", rule, str(target), remedy) from None
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Waits until no other process is inside for the same folder: files that belong together are written one
    after another, and those of two commands do not mix. The folder must be there."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some file systems have no locks on folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# How the system says that something lies where a folder was to be put.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as sorted, indented JSON, atomically. Raises: ValueError for NaN or infinity."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file. Raises: UserError if it is missing or not JSON."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise UserError(str(path), "does not exist") from None
    # ValueError: no text, no JSON, or a number of thousands of digits.
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(str(path), f"is not readable JSON ({error})") from None


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def stable_hash(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON: the same for equal values, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return sha256_bytes(text.encode())


@contextmanager
def folder_lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Holds `path` (made if absent) for this process; freed by the system also when the process is killed.

    Raises: UserError if another process holds it.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise UserError(str(folder), "must be a folder, but is a file")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            remedy = "wait for it to end, or choose another folder"
            raise UserError(str(folder), "is in use by another process", remedy=remedy) from None
        yield


def resolve_inside(root: str | os.PathLike[str], relative: str) -> Path:
    """The path that `relative` names inside `root`, links followed.

    Raises: UserError if it is absolute, leaves the root, or is no valid name.
    """
    base = Path(root).resolve()
    try:
        path = (base / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # link loops, embedded NUL
        raise UserError("path", f"cannot be resolved ({error})", relative) from None
    if os.path.isabs(relative) or not path.is_relative_to(base):
        raise UserError("path", "must stay inside the list's own folder", relative)
    return path
