from __future__ import annotations

import csv
import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.runs.trackers import MetricsFile, Trackers, read_metrics


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


@settings(max_examples=25, deadline=None)
@given(
    kept=st.integers(0, 6),
    names=st.lists(st.lists(st.sampled_from(["loss", "a, b", 'q"'])), min_size=6, max_size=6),
    cut=st.integers(0, 60),
)
def test_tables_say_what_the_record_says(
    tmp_path_factory: object, kept: int, names: list[list[str]], cut: int
) -> None:
    """Also with numbers that come late, after a session cut anywhere, and one that resumed before its end."""
    folder: Path = tmp_path_factory.mktemp("m")  # type: ignore[attr-defined]

    def write(trackers: Trackers, first: int) -> None:
        for step in range(first, 6):
            values = dict.fromkeys(names[step], step / 3)
            trackers.write("train", step + 1, {"rate": math.nan if step == 2 else 0.1, **values})
            trackers.write("probe", step + 1, {"knn": 0.5})

    write(Trackers(folder, after_step=0, tensorboard=False), 0)
    table = folder / "train.csv"
    table.write_bytes(table.read_bytes()[:cut])
    trackers = Trackers(folder, after_step=kept, tensorboard=False)
    write(trackers, kept)
    trackers.close()
    for kind in ("train", "probe"):
        with open(folder / f"{kind}.csv", newline="", encoding="utf-8") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        record = [line for line in read_metrics(folder / "metrics.jsonl") if line.pop("kind") == kind]
        assert rows == [{k: v for k, v in line.items() if v is not None} for line in record]
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_no_tables_where_none_are_wanted(tmp_path: Path) -> None:
    trackers = Trackers(tmp_path, after_step=0, tensorboard=False, csv=False)
    trackers.write("train", 1, {"loss": 2.0})
    trackers.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


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
