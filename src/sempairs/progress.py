"""What a user is told on stderr meanwhile: rate and time left of long jobs, and what was assumed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_shown: WeakSet[Any] = WeakSet()


def bar(*, total: int | None, what: str, unit: str = "it", initial: int = 0) -> Any:
    """A tqdm bar on stderr; silent where SEMPAIRS_QUIET=1. Without a terminal a line every ten seconds.

    It appears with the first piece of work that is done, not before.
    """
    from tqdm import tqdm

    quiet = os.environ.get("SEMPAIRS_QUIET") == "1"
    interval = 0.2 if sys.stderr.isatty() else 10.0
    made = tqdm(
        total=total, desc=what, unit=unit, initial=initial, disable=quiet, mininterval=interval,
        delay=0.1, dynamic_ncols=True, file=sys.stderr,
    )  # fmt: skip
    _shown.add(made)
    return made


def withdraw() -> None:
    """Ends the bars of work that an error or Ctrl-C stopped, so that its message has its own line."""
    for made in list(_shown):
        if made.disable:  # closed
            continue
        if sys.stderr.isatty():
            made.leave = False  # wiped out
        elif made.last_print_t >= made.start_t + made.delay:  # something was shown
            made.delay = float("inf")  # close without another line
            print(file=made.fp)
        made.close()


_told: set[str] = set()


def tell(line: str) -> None:
    """One line to the user on stderr, beside a bar that may be there: what was assumed or left out.

    Each line is said once in a process, and by the first process of several.
    """
    from tqdm import tqdm

    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
    if line not in _told and rank == "0":
        _told.add(line)
        tqdm.write(f"note: {' '.join(line.split())}", file=sys.stderr)


def track(items: Iterable[T], *, total: int | None = None, what: str, unit: str = "it") -> Iterator[T]:
    """Yields `items` while showing how many, how fast and how long still."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    shown = bar(total=count, what=what, unit=unit)
    for item in items:
        yield item
        shown.update(1)
    shown.close()
