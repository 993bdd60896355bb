from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.training.trackers import MetricsFile, Trackers, read_metrics


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400), resumed=st.integers(0, 8))
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path_factory: object, cut: int, resumed: int) -> None:
    """Whatever byte the first session was cut at, if the lines up to the resumed step were written."""
    folder: Path = tmp_path_factory.mktemp("m")  # type: ignore[attr-defined]

    def write(file: MetricsFile, first: int) -> None:
        for step in range(first, 9):
            file.write("train", step, {"loss": step / 3})
        file.close()

    write(MetricsFile(folder / "whole.jsonl"), 1)
    whole = (folder / "whole.jsonl").read_bytes()
    lines = whole.split(b"\n")[:resumed]
    kept = sum(len(line) + 1 for line in lines)
    (folder / "cut.jsonl").write_bytes(whole[: max(kept, min(cut, len(whole)))])
    write(MetricsFile(folder / "cut.jsonl", after_step=resumed), resumed + 1)
    assert (folder / "cut.jsonl").read_bytes() == whole


def test_lines_are_there_at_once_and_json(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.jsonl")
    file.write("probe", 4, {"knn": 0.5, "bad": math.nan})
    assert read_metrics(tmp_path / "m.jsonl") == [{"kind": "probe", "step": 4, "knn": 0.5, "bad": None}]
    file.sync()
    file.close()
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = Trackers(tmp_path, after_step=0, tensorboard=True)
    trackers.write("train", 1, {"loss": 2.0})
    trackers.write("train", 2, {"loss": 1.0})
    trackers.sync()
    trackers.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]
