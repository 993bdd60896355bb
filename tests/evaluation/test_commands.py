"""`sempairs embed` and `sempairs evaluate` from the command line."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import timm
import torch

from sempairs.cli.main import run
from sempairs.evaluation import read_results

QUICK = ["--set", "lambdas=[0.1, 10]", "--set", "repeats=1"]


def evaluated(encoder: Path, out: Path, *more: str) -> int:
    return run(["evaluate", str(encoder), "--out", str(out), *QUICK, *more])


def test_evaluate_prints_a_table_and_adds_results(
    encoder: Path, drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.jsonl"
    assert evaluated(encoder, out, "--data", f"folder:{drawings}") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["task", "protocol", "metric", "%", "n"]
    assert shown[1].split()[1:3] == ["linear-1*", "accuracy"]
    assert len({len(line) for line in shown[:5]}) == 1
    assert shown[5] == f"4 results added to {out}"
    results = read_results(out)
    assert shown[1].split()[3:] == [f"{100 * results[0].value:.1f}", str(results[0].n)]
    assert evaluated(encoder, out, "--task", f"stamps:{drawings}", "--cache", str(tmp_path / "cache")) == 0
    assert len(read_results(out)) == 8


def test_embed_writes_a_table(
    encoder: Path, drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features.parquet"
    assert run(["embed", str(encoder), "--data", f"folder:{drawings}", "--out", str(out), "--bf16"]) == 0
    assert "108 images, 8 features each" in capsys.readouterr().out
    table = pq.read_table(out)
    assert table.num_rows == 108
    assert table.schema.metadata[b"sempairs.precision"] == b"bf16"
    assert table.schema.metadata[b"sempairs.input_size"] == b"16"
    again = ["embed", str(encoder), "--data", f"folder:{drawings}", "--out", str(out), "--batch-size", "3"]
    assert run(again) == 0
    assert run([*again, "--prefix", "backbone"]) == 2
    assert "--prefix must be left out but for a checkpoint" in capsys.readouterr().err


def test_a_checkpoint_of_two_encoders_is_scored_by_its_prefix(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("resnet18", num_classes=0)
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    state |= {f"ema.{key}": value + 0.01 for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "two.pth")
    options = ["--data", f"folder:{drawings}", "--protocol", "knn-20-0.07"]
    options += ["--set", "max_fit_images=10"]
    assert evaluated(tmp_path / "two.pth", tmp_path / "r.jsonl", *options) == 2
    assert "--prefix state_dict.ema, --prefix state_dict.model" in capsys.readouterr().err
    for prefix in ("model", "state_dict.ema"):
        assert evaluated(tmp_path / "two.pth", tmp_path / "r.jsonl", *options, "--prefix", prefix) == 0
    first, second = read_results(tmp_path / "r.jsonl")
    assert first.extra["encoder"] != second.extra["encoder"]
    assert first.settings_hash == second.settings_hash


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "emoji-subgrup"], "did you mean 'emoji-subgroup'"),
        (["--task", "folder:/not/there"], "must be an existing path"),
        (["--task", "folder:EMPTY"], "must hold images"),
        (["--task", "digits", "--data", "folder:DRAWINGS"], "takes no --data"),
        (["--set", "lambda=7"], "did you mean 'lambdas'"),
        (["--set", "folds=1"], "folds must be greater than or equal to 3"),
        (["--out", "FOLDER"], "--out must be a file"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str],
    says: str,
    encoder: Path,
    drawings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "DRAWINGS": str(drawings), "FOLDER": str(tmp_path)}
    for word, path in places.items():
        arguments = [a.replace(word, path) for a in arguments]
    assert run(["evaluate", str(encoder), "--out", str(tmp_path / "r.jsonl"), *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "r.jsonl").exists()


def test_embed_refuses_other_endings_and_absent_encoders(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", f"folder:{drawings}"]
    assert run(["embed", "random:tiny-resnet", *data, "--out", str(tmp_path / "x.csv")]) == 2
    assert ".parquet" in capsys.readouterr().err
    assert run(["embed", str(tmp_path / "none"), *data, "--out", str(tmp_path / "x.parquet")]) == 2
    assert "must be a run folder" in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()
