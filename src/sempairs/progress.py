"""Progress of long jobs on stderr: rate and time left."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

T = TypeVar("T")


def bar(*, total: int | None, what: str, unit: str = "it", initial: int = 0) -> Any:
    """A tqdm bar on stderr; silent where SEMPAIRS_QUIET=1. Without a terminal a line every ten seconds."""
    from tqdm import tqdm

    quiet = os.environ.get("SEMPAIRS_QUIET") == "1"
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total, desc=what, unit=unit, initial=initial, disable=quiet, mininterval=interval,
        dynamic_ncols=True, file=sys.stderr,
    )  # fmt: skip


def track(items: Iterable[T], *, total: int | None = None, what: str, unit: str = "it") -> Iterator[T]:
    """Yields `items` while showing how many, how fast and how long still."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    with bar(total=count, what=what, unit=unit) as shown:
        for item in items:
            yield item
            shown.update(1)
