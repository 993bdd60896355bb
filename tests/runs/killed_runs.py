"""Takes work to its end through sessions that are killed, each a fork of this process.

    python killed_runs.py JOB FOLDER

JOB is a JSON file: {"user": one of USERS, "stride": n, "moments": true or false, and what the user needs}.
The work lands in FOLDER several times: "whole" (never killed), "moments" (SIGKILL from outside at six keyed
random moments), "calls" (SIGKILL just before the k-th call that changes the file system, k = 1, 1 + stride
and so on until a session gets through) and "torn" (SIGKILL in the middle of the k-th file of a checkpoint,
k = 1, 2 and so on). Prints as JSON how many sessions were killed in each.
Everything is imported before the first fork and nothing run, so that forks are quick and no thread is lost.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401 (what a run imports on its way)
import timm  # noqa: F401
import torch
from torch import Tensor

from sempairs import keyed
from sempairs.config import load_config
from sempairs.detection.config import make_recipe
from sempairs.detection.run import detect
from sempairs.encoders import weight_hash
from sempairs.evaluation import EvaluationConfig, evaluate
from sempairs.evaluation.probes import sgd
from sempairs.files import write_json
from sempairs.runs import engine
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain

Job = dict[str, Any]


class Sum(engine.Work):
    """The smallest work there is: adds keyed numbers up."""

    what, total, save_every = "sum", 12, 2

    def __init__(self) -> None:
        super().__init__()
        self.identity = {"seed": "5"}
        self.value = torch.zeros(3)

    def steps(self, start: int) -> Iterator[int]:
        for step in range(start, self.total):
            self.value = self.value * 0.9 + torch.from_numpy(
                keyed.uniform(5, "sum", occurrence=[step], n=3)[0]
            )
            yield step + 1

    def state(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def restore(self, tensors: dict[str, Tensor], scalars: Mapping[str, Any]) -> None:
        self.value = tensors["value"]


def sum_up(job: Job, out: Path) -> None:
    work = Sum()
    with engine.held(out, resume=True):
        start = engine.resume(work, out) or 0
        (out / "recipe.yaml").touch()
        engine.drive(work, out, start=start)
    write_json(out / "value.json", work.value.tolist())


def train(job: Job, out: Path) -> None:
    pretrain(load_config(PretrainRecipe, job["recipe"]), out, resume=True)


def find_objects(job: Job, out: Path) -> None:
    options = {"data": f"voc:{job['devkit']}", "protocol": "small-c4-1", "overrides": job["overrides"]}
    torch.set_num_threads(1)
    detect(make_recipe(job["encoder"], **options), out, resume=True, device="cpu")


def fine_tune(job: Job, out: Path) -> None:
    """Leaves the numbers, and a hash of the last model that predicted."""
    predict, models = sgd.predict, []

    def seen(context: Any, model: Any, *rest: Any) -> Any:
        models.append(weight_hash(model))
        return predict(context, model, *rest)

    sgd.predict = seen
    torch.set_num_threads(1)
    rows = evaluate(
        job["encoder"], protocols=["fine-tune-1"], data=job["data"], cache=out / "cache", device="cpu",
        config=EvaluationConfig(steps=4, fine_tune_rates=(0.1, 0.01), fine_tune_decays=(0.0,)),
    )  # fmt: skip
    found = [[row.metric, row.value, row.extra["validation"]] for row in rows]
    write_json(out / "value.json", [models[-1], found])


USERS: dict[str, Callable[[Job, Path], None]] = {
    "sum": sum_up, "pretrain": train, "detect": find_objects, "fine-tune": fine_tune,
}  # fmt: skip


def session(job: Job, out: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Starts one session in a fork; returns its process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            prepare()
            USERS[job["user"]](job, out)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    return pid


def killed(pid: int) -> bool:
    """Waits for a session; whether it was killed. Ends this process if it failed of itself."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    if os.WEXITSTATUS(status):
        sys.exit("a session failed")
    return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_call(number: int) -> Callable[[], None]:
    """Makes the process die just before its `number`-th call that changes the file system."""

    def prepare() -> None:
        left = number

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def run(*args: object, **kwargs: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    die()
                return call(*args, **kwargs)

            return run

        for name in ("fsync", "replace", "rename", "mkdir", "rmdir", "unlink", "remove"):
            setattr(os, name, counted(getattr(os, name)))

    return prepare


def inside_file(number: int) -> Callable[[], None]:
    """Makes the process die when half of its `number`-th whole-file write is done."""

    def prepare() -> None:
        left = number
        write_bytes, write_text = pathlib.Path.write_bytes, pathlib.Path.write_text

        def half(write: Callable[..., int]) -> Callable[..., int]:
            def run(path: Path, data: str | bytes, *args: object, **kwargs: object) -> int:
                nonlocal left
                if "checkpoint" in path.parts:
                    left -= 1
                if left == 0:
                    write(path, data[: len(data) // 2], *args, **kwargs)
                    die()
                return write(path, data, *args, **kwargs)

            return run

        pathlib.Path.write_bytes = half(write_bytes)  # type: ignore[method-assign, assignment]
        pathlib.Path.write_text = half(write_text)  # type: ignore[method-assign, assignment]

    return prepare


def moments(job: Job, out: Path, length: float) -> int:
    """Six sessions killed from outside, `length` seconds long if left alone; then one that is left alone.

    A machine that got quicker meanwhile may end a session before its moment: then again, with less time.
    """
    for _ in range(6):
        shutil.rmtree(out, ignore_errors=True)
        kills = _killed_from_outside(job, out, length)
        if kills >= 4:
            break
        length /= 2
    killed(session(job, out))
    return kills


def _killed_from_outside(job: Job, out: Path, length: float) -> int:
    kills = 0
    for share in keyed.uniform(11, "kills", occurrence=np.arange(6))[:, 0]:
        pid = session(job, out)
        time.sleep(length * (0.1 + 0.8 * share))
        os.kill(pid, signal.SIGKILL)
        kills += killed(pid)
    return kills


def countdown(job: Job, out: Path, prepare: Callable[[int], Callable[[], None]], stride: int) -> int:
    """Sessions that die at their first, then at a later and later opportunity, until one does not."""
    kills = 0
    while killed(session(job, out, prepare(1 + kills * stride))):
        kills += 1
    return kills


def main() -> None:
    job, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    began = time.perf_counter()
    killed(session(job, folder / "whole"))
    length = time.perf_counter() - began
    kills = {"moments": moments(job, folder / "moments", length)} if job["moments"] else {}
    kills["calls"] = countdown(job, folder / "calls", before_call, job["stride"])
    kills["torn"] = countdown(job, folder / "torn", inside_file, 1)
    print(json.dumps(kills))


if __name__ == "__main__":
    main()
