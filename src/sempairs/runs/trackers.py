"""Where numbers of a run go: `metrics.jsonl`, the record; tables and TensorBoard files, a convenience."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sempairs.files import atomic_write

Log = dict[str, float]


@dataclass
class Meter:
    """Means of the steps since the last line; part of a checkpoint, so that resumed lines are the same."""

    sums: Log = field(default_factory=dict)
    count: int = 0

    def add(self, numbers: Log) -> None:
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> Log:
        """The means, forgetting what they were made of."""
        means = {name: value / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


class MetricsFile:
    """JSON lines, each with the `step` after which it was taken and, where a run has several, a `kind`
    ("train" or "probe").

    Every line is handed to the system at once, so a killed process loses none; opening with `after_step`
    drops the lines of later steps, and a torn last one, which the resumed run writes anew.
    """

    def __init__(self, path: Path, *, after_step: int = 0) -> None:
        kept = [line for line in read_metrics(path) if line["step"] <= after_step]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(_json_line(line) for line in kept), encoding="utf-8")
        # Unbuffered and in append mode: one write a line.
        self._file = path.open("ab", buffering=0)

    def write(self, kind: str | None, step: int, values: Mapping[str, Any]) -> None:
        named = {"kind": kind} if kind else {}
        self._file.write(_json_line({**named, "step": step, **values}).encode())

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


class Table:
    """The lines of one kind in a metrics file as CSV: a header, then a row a line, `step` first.

    Opening writes it anew from the record, and so does a number that the header lacks; any other line is
    handed to the system at once. Empty cells: numbers that were not taken, or are not finite.
    """

    def __init__(self, path: Path, record: Path, kind: str) -> None:
        self.path, self.record, self.kind = path, record, kind
        self.header: list[str] = []
        self._file: io.FileIO | None = None
        self._rewrite()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """A line that the record has already."""
        row = {"step": step, **values}
        if self._file is None or not row.keys() <= set(self.header):
            self._rewrite()
        else:
            self._file.write(self._text([row]).encode())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _rewrite(self) -> None:
        self.close()
        rows = [line for line in read_metrics(self.record) if line.pop("kind") == self.kind]
        self.header = list(dict.fromkeys(name for row in rows for name in row))
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        with atomic_write(self.path) as temporary:
            titles = self._text([dict(zip(self.header, self.header, strict=True))])
            temporary.write_text(titles + self._text(rows), encoding="utf-8")
        self._file = io.FileIO(self.path, "a")

    def _text(self, rows: Iterable[Mapping[str, Any]]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_finite(row.get(name)) for name in self.header] for row in rows)
        return text.getvalue()


class Trackers:
    """Writes every number to metrics.jsonl and, where wanted, to train.csv, probe.csv and TensorBoard."""

    def __init__(self, out: Path, *, after_step: int, tensorboard: bool, csv: bool = True) -> None:
        record = out / "metrics.jsonl"
        self.metrics = MetricsFile(record, after_step=after_step)
        kinds = ("train", "probe") if csv else ()
        self._tables = {kind: Table(out / f"{kind}.csv", record, kind) for kind in kinds}
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # purge_step hides what an interrupted run logged past the checkpoint.
            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=after_step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Numbers known after `step` steps."""
        self.metrics.write(kind, step, values)
        if kind in self._tables:
            self._tables[kind].write(step, values)
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
        for table in self._tables.values():
            table.close()
        if self._board is not None:
            self._board.close()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_line(values: Mapping[str, Any]) -> str:
    # JSON has no NaN: a number that is not finite becomes null.
    return json.dumps({k: _finite(v) for k, v in values.items()}, allow_nan=False) + "\n"
