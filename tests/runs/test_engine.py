"""What the engine itself decides: which state work goes on from, when it is saved, and how it stops."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor

from sempairs.errors import UserError
from sempairs.runs import engine, processes
from sempairs.runs.signals import Interrupted, stop_signals


class Count(engine.Work):
    """Counts its steps; `calls` are the other things that the engine asked for."""

    what, total, save_every = "count", 7, 3

    def __init__(self, seed: str = "1", ask_at: int | None = None) -> None:
        super().__init__()
        self.identity, self.ask_at = {"seed": seed}, ask_at
        self.value, self.calls = torch.zeros(()), []  # type: ignore[var-annotated]

    def steps(self, start: int) -> Iterator[int]:
        for step in range(start, self.total):
            self.value += 1
            if step + 1 == self.ask_at:
                signal.raise_signal(signal.SIGTERM)
            yield step + 1

    def state(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def scalars(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def restore(self, tensors: dict[str, Tensor], scalars: Mapping[str, Any]) -> None:
        self.value, self.calls = tensors["value"], list(scalars["calls"])

    def after(self, taken: int) -> str | None:
        self.calls.append(taken)
        return None

    def before_save(self) -> None:
        self.calls.append("saved")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")


def states(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoint").iterdir())


def test_every_step_is_followed_up_and_the_last_one_saved(tmp_path: Path) -> None:
    work = Count()
    assert engine.resume(work, tmp_path) is None
    engine.drive(work, tmp_path)
    assert work.calls == [1, 2, 3, "saved", 4, 5, 6, "saved", 7, "saved"]
    assert states(tmp_path) == ["step-00000006", "step-00000007"]
    again = Count()
    assert engine.resume(again, tmp_path) == 7
    engine.drive(again, tmp_path, start=7)
    assert (again.value.item(), again.calls) == (7, work.calls)


def test_a_request_to_stop_saves_after_the_step_and_work_goes_on_from_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="after step 4 of 7; go on with the same command and --resume"):
        engine.drive(Count(ask_at=4), tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert states(tmp_path) == ["step-00000003", "step-00000004"]
    assert "stopping after this step" in capsys.readouterr().err
    rest = Count()
    start = engine.resume(rest, tmp_path)
    assert start == 4
    engine.drive(rest, tmp_path, start=start)
    assert rest.value.item() == 7
    assert [call for call in rest.calls if call != "saved"] == [1, 2, 3, 4, 5, 6, 7]


def test_a_request_during_the_last_step_is_no_interruption(tmp_path: Path) -> None:
    work = Count(ask_at=7)
    engine.drive(work, tmp_path)
    assert work.value.item() == 7


def test_a_state_of_other_things_is_refused_and_kept(tmp_path: Path) -> None:
    engine.drive(Count(), tmp_path)
    other = Count(seed="2")
    with pytest.raises(UserError, match="seed is another than when the run began"):
        engine.resume(other, tmp_path)
    assert other.value.item() == 0 and len(states(tmp_path)) == 2


def test_a_folder_is_held_by_one_run_and_refused_when_used(tmp_path: Path) -> None:
    with (
        engine.held(tmp_path, resume=False),
        pytest.raises(UserError, match="in use by another process"),
        engine.held(tmp_path, resume=False),
    ):
        pass
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(UserError, match="in use by a run"), engine.held(tmp_path, resume=False):
        pass


def test_a_second_signal_ends_at_once_unless_something_would_be_left_behind() -> None:
    stop = Event()
    with pytest.raises(KeyboardInterrupt), stop_signals(stop, told=""):
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        signal.raise_signal(signal.SIGTERM)
    patient = Event()
    with stop_signals(patient, told="", insist=False):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert patient.is_set()


@pytest.mark.parametrize("asked", [False, True])
def test_alone_a_process_decides_alone(asked: bool) -> None:
    assert processes.any_of(asked) is asked
