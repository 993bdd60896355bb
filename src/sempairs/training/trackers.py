"""Where numbers of a run go: `metrics.jsonl`, the record, and TensorBoard event files, a convenience."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sempairs.files import atomic_write


class MetricsFile:
    """JSON lines, each with the `step` after which it was taken and a `kind` ("train" or "probe").

    Every line is handed to the system at once, so a killed process loses none; opening with `after_step`
    drops the lines of later steps, and a torn last one, which the resumed run writes anew.
    """

    def __init__(self, path: Path, *, after_step: int = 0) -> None:
        kept = [line for line in read_metrics(path) if line["step"] <= after_step]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(_json_line(line) for line in kept), encoding="utf-8")
        # Unbuffered and in append mode: one write a line.
        self._file = path.open("ab", buffering=0)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        self._file.write(_json_line({"kind": kind, "step": step, **values}).encode())

    def sync(self) -> None:
        """Waits until the lines are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, [] if there is none; stops at a torn line."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for raw in path.read_bytes().split(b"\n")[:-1]:
        try:
            lines.append(json.loads(raw))
        except ValueError:
            break
    return lines


class Trackers:
    """Writes every number to metrics.jsonl and, where wanted, to TensorBoard."""

    def __init__(self, out: Path, *, after_step: int, tensorboard: bool) -> None:
        self.metrics = MetricsFile(out / "metrics.jsonl", after_step=after_step)
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # purge_step hides what an interrupted run logged past the checkpoint.
            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=after_step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Numbers known after `step` steps."""
        self.metrics.write(kind, step, values)
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> None:
        """Called before a checkpoint: the record on disk is never behind the state on disk."""
        self.metrics.sync()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        self.metrics.close()
        if self._board is not None:
            self._board.close()


def _json_line(values: Mapping[str, Any]) -> str:
    # JSON has no NaN: a number that is not finite becomes null.
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    return json.dumps(clean, allow_nan=False) + "\n"
