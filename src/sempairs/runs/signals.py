"""One way of stopping: Ctrl-C, or the system's request to end, is noted, and work ends where it is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

ECHO = 3.0  # seconds in which a second signal may be the first one's echo


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or the system's request to end, after the state was saved; the text says how to go on."""


@contextmanager
def stop_signals(
    stop: threading.Event,
    *,
    told: str = "stopping after this step; once more stops at once, without saving",
    insist: bool = True,
) -> Iterator[None]:
    """Set `stop` at the first SIGINT or SIGTERM inside the block.

    Args:
        stop: what the work looks at wherever it can end.
        told: the line for the user at the first signal; none where empty.
        insist: whether a second signal raises KeyboardInterrupt at once. False where an exception between two
            instructions would leave something behind that nobody ends, such as a process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    from sempairs.runs import processes

    asked = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not stop.is_set():
            asked = monotonic()
            stop.set()
            if told:
                processes.say(told)
            return
        # What a terminal sends to all, torchrun passes on to each once more.
        echo = processes.count() > 1 and monotonic() < asked + ECHO
        if insist and not echo:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
