"""Runs a recipe to its end through sessions that are killed, each a fork of this process.

    python killed_runs.py RECIPE FOLDER

The run lands in FOLDER four times: "whole" (never killed), "moments" (SIGKILL from outside at six keyed
random moments), "calls" (SIGKILL just before the k-th call that changes the file system, for k = 1, 6, 11 and
so on until a session gets through) and "torn" (SIGKILL in the middle of the k-th file of a checkpoint, k = 1,
2 and so on). Prints as JSON how many sessions were killed in each.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas  # noqa: F401 (what a run imports on its way)
import timm  # noqa: F401

from sempairs import keyed
from sempairs.config import load_config
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain


def session(recipe: PretrainRecipe, out: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Starts one session in a fork; returns its process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            prepare()
            pretrain(recipe, out, resume=True)
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


def moments(recipe: PretrainRecipe, out: Path, length: float) -> int:
    """Six sessions killed from outside, `length` seconds long if left alone; then one that is left alone.

    A machine that got quicker meanwhile may end a session before its moment: then again, with less time.
    """
    for _ in range(6):
        shutil.rmtree(out, ignore_errors=True)
        kills = _killed_from_outside(recipe, out, length)
        if kills >= 4:
            break
        length /= 2
    killed(session(recipe, out))
    return kills


def _killed_from_outside(recipe: PretrainRecipe, out: Path, length: float) -> int:
    kills = 0
    for share in keyed.uniform(11, "kills", occurrence=np.arange(6))[:, 0]:
        pid = session(recipe, out)
        time.sleep(length * (0.1 + 0.8 * share))
        os.kill(pid, signal.SIGKILL)
        kills += killed(pid)
    return kills


def countdown(
    recipe: PretrainRecipe, out: Path, prepare: Callable[[int], Callable[[], None]], stride: int
) -> int:
    """Sessions that die at their first, then at a later and later opportunity, until one does not."""
    kills = 0
    while killed(session(recipe, out, prepare(1 + kills * stride))):
        kills += 1
    return kills


def main() -> None:
    recipe, folder = load_config(PretrainRecipe, sys.argv[1]), Path(sys.argv[2])
    began = time.perf_counter()
    killed(session(recipe, folder / "whole"))
    length = time.perf_counter() - began
    kills = {
        "moments": moments(recipe, folder / "moments", length),
        "calls": countdown(recipe, folder / "calls", before_call, 5),
        "torn": countdown(recipe, folder / "torn", inside_file, 1),
    }
    print(json.dumps(kills))


if __name__ == "__main__":
    main()
