"""One row a measured number, kept in `results.jsonl`."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sempairs.errors import UserError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Result:
    """A measured number and what it takes to read it.

    value: a fraction in [0, 1], but for the metrics that the protocol calls `plain`. n: distinct images
    scored (queries, for retrieval). settings_hash: of the task's and the protocol's complete settings, and of
    the encoder's input size, mean and std; numbers are comparable when it and extra["data"] are equal.
    selection: how what was chosen was chosen, e.g. "lambda on validation".
    primary: whether this is the task's one primary number. extra: JSON values, see `suite`.
    """

    run: str
    task: str
    protocol: str
    metric: str
    value: float
    n: int
    settings_hash: str
    selection: str
    primary: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        assert math.isfinite(self.value), f"{self.task} {self.metric} is {self.value}"
        assert self.n > 0, f"{self.task} scored no image"

    def to_json(self) -> str:
        """One line of JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str, where: str = "results") -> Result:
        """Raises: UserError naming `where` if the line is no result of this schema."""
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(where, f"is not JSON ({error})") from None
        if not isinstance(data, dict):
            raise UserError(where, "must be an object", data)
        if data.get("version") != SCHEMA_VERSION:
            raise UserError(
                where, f"must have schema version {SCHEMA_VERSION}", data.get("version"), "evaluate again"
            )
        if set(data) != {f.name for f in fields(cls)}:
            raise UserError(where, "must have exactly the keys of a result", sorted(data))
        try:
            found = cls(**data)
        except (TypeError, AssertionError) as error:
            raise UserError(where, f"holds what no result can ({error})") from None
        if not isinstance(found.extra, dict):
            raise UserError(where, "must have an object as extra", found.extra)
        return found


def append_results(path: str | os.PathLike[str], results: Iterable[Result]) -> None:
    """Adds rows to `path` (made if absent), all of them or none, safe beside other writers.

    A last line without its end, left by a writer killed in the middle, is no row and is removed first.
    Raises: OSError if the disk is full; the file is then as it was.
    """
    text = "".join(result.to_json() + "\n" for result in results).encode()
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered: what a buffer still held would reach the file when it is closed, after it was cut back.
    with open(target, "a+b", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        start = _end_of_rows(handle)
        handle.truncate(start)
        left = memoryview(text)
        try:
            while left:
                left = left[handle.write(left) :]
            os.fsync(handle.fileno())
        except OSError:
            os.ftruncate(handle.fileno(), start)
            raise


def read_results(path: str | os.PathLike[str]) -> list[Result]:
    """Read every row of a results file, in order; a last line without its end is no row.

    Raises: UserError if the file is absent, or names the line that is not a result.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(str(path), "does not exist") from None
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror})") from None
    try:
        lines = data.decode().split("\n")[:-1]
    except UnicodeDecodeError:
        raise UserError(str(path), "must be a text file of results") from None
    return [Result.from_json(line, f"{path} line {i}") for i, line in enumerate(lines, 1) if line]


def _end_of_rows(handle: Any) -> int:
    """Position after the last complete line."""
    end = int(handle.seek(0, os.SEEK_END))
    if end == 0:
        return 0
    handle.seek(0)
    return int(handle.read().rfind(b"\n")) + 1
