"""Two processes train what one does, go on where either stopped, and fail and stop as one."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm.layers
import torch
import torch.distributed as dist
from torch import nn

from sempairs.config import save_config
from sempairs.encoders import load_encoder
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.methods import METHODS
from sempairs.runs import processes
from sempairs.runs.checkpoint import Checkpoint, load_checkpoint
from sempairs.runs.signals import Interrupted
from sempairs.runs.trackers import read_metrics
from sempairs.training import loop
from sempairs.training.batch_norm import SyncBatchNorm, synchronise
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain

MakeRecipe = Callable[..., PretrainRecipe]

SCRIPT = Path(__file__).with_name("several_processes.py")
STEPS = 4
RESUMED = ("moco_v2", "swav")
# In float64, but logs are float32; processes add up in another order.
STATE, LOGS = {"rtol": 1e-7, "atol": 1e-9}, {"rel": 1e-5, "abs": 1e-6}
TIMINGS = ("data_seconds", "step_seconds", "pairs_per_second")


def torchrun(*command: str | Path) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEMPAIRS_QUIET": "1"}
    return subprocess.Popen(
        [*launcher, *map(str, command)], text=True, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def recipe_of(make_recipe: MakeRecipe, name: str) -> PretrainRecipe:
    method = METHODS.get(name)
    # A queue that batches of 12 do not fill evenly.
    small = {
        "hidden": 16,
        "out": 8,
        "queue": 20,
        "queue_start": 0.0,
        "predictor_hidden": 16,
        "prototypes": 12,
    }
    settings = {key: value for key, value in small.items() if key in method.Config.model_fields}
    local: dict[str, Any] = {"views__local": {"count": 2, "size": 8}} if method.takes_local else {}
    return make_recipe(
        method={"name": name, **settings}, speed__precision="64-true", checkpoint__every="2 steps",
        schedule__duration=f"{STEPS} steps", monitor__log_every=1,
        monitor__every="2 steps" if name in RESUMED else "0 steps", **local,
    )  # fmt: skip


def stop_after(step: int, recipe: PretrainRecipe, out: Path) -> None:
    """A run in this process, asked to stop during that step."""
    real = loop.Trainer.step

    def asked(self: loop.Trainer, number: int, *rest: Any) -> Any:
        if number + 1 == step:
            self.stop.set()
        return real(self, number, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted, match=f"after step {step} of"):
        patch.setattr(loop.Trainer, "step", asked)
        pretrain(recipe, out)


@pytest.fixture(scope="module")
def runs(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: METHOD/one and METHOD/two processes; of some also what stopped after two steps of one (1-), or
    of two (2-), and went on with one (-1) or two (-2)."""
    base = tmp_path_factory.mktemp("processes")
    jobs: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMPAIRS_QUIET", "1")
        for name in METHODS.names():
            recipe = recipe_of(make_recipe, name)
            save_config(recipe, base / f"{name}.yaml")
            job: dict[str, Any] = {"recipe": str(base / f"{name}.yaml"), "resume": False}
            pretrain(recipe, base / name / "one")
            jobs.append({**job, "out": str(base / name / "two")})
            if name in RESUMED:
                stop_after(2, recipe, base / name / "1-2")
                jobs += [{**job, "out": str(base / name / f"2-{k}"), "stop": 2} for k in (1, 2)]
                jobs += [{**job, "out": str(base / name / f"{k}-2"), "resume": True} for k in (1, 2)]
        jobs.append({**job, "out": str(base / "spoiled"), "spoil": 2})
        (base / "jobs.json").write_text(json.dumps(jobs))
        process = torchrun(SCRIPT, base / "jobs.json")
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said[-5000:]
        for name in RESUMED:
            pretrain(recipe_of(make_recipe, name), base / name / "2-1", resume=True)
    return base


def last(out: Path, step: int = STEPS) -> Checkpoint:
    return load_checkpoint(out / "checkpoint" / f"step-{step:08d}")


def lines(out: Path) -> list[dict[str, Any]]:
    every = read_metrics(out / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in every]


def assert_close(left: Path, right: Path) -> None:
    """Weights, running statistics, queues, optimiser and record agree."""
    ours, theirs = last(left).tensors, last(right).tensors
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **STATE, msg=lambda m, name=name: f"{name}: {m}")
    assert len(lines(left)) == len(lines(right))
    for one, two in zip(lines(left), lines(right), strict=True):
        assert one.pop("kind") == two.pop("kind")
        assert one == pytest.approx(two, **LOGS)


@pytest.mark.parametrize("name", METHODS.names())
def test_two_processes_end_where_one_does(runs: Path, name: str) -> None:
    assert_close(runs / name / "one", runs / name / "two")


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_with_the_same_number_bit_for_bit(runs: Path, name: str) -> None:
    whole, resumed = runs / name / "two", runs / name / "2-2"
    assert load_encoder(whole).spec.weight_hash == load_encoder(resumed).spec.weight_hash
    ours, theirs = last(whole), last(resumed)
    assert all(torch.equal(value, theirs.tensors[key]) for key, value in ours.tensors.items())
    assert lines(whole) == lines(resumed)


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("folder", ["1-2", "2-1"])
def test_resumed_with_another_number_within_tolerance(runs: Path, name: str, folder: str) -> None:
    assert_close(runs / name / "one", runs / name / folder)
    sessions = read_json(runs / name / folder / "environment.json")["sessions"]
    assert [session["processes"] for session in sessions] == [int(folder[0]), int(folder[-1])]


def test_the_number_of_processes_is_recorded_and_nothing_else_differs(runs: Path) -> None:
    for name in ("environment", "provenance", "resolved"):
        one, two = (read_json(runs / "byol" / number / f"{name}.json") for number in ("one", "two"))
        assert (one.pop("processes"), two.pop("processes")) == (1, 2)
        for record in (one, two):
            record.pop("sessions", None)
            record.pop("code", None)  # which somebody may be working on
        assert one == two
    one, two = ({p.name for p in (runs / "byol" / number).iterdir()} for number in ("one", "two"))
    assert one == two


def test_a_loss_not_finite_in_one_process_stops_all(runs: Path) -> None:
    said = [(runs / "spoiled" / f"said-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    assert said[0].startswith("loss must be finite, but is inf at step 2")
    kept = read_json(next((runs / "spoiled" / "failure").rglob("state.json")))["scalars"]
    assert len(kept["pairs"]) == 12
    # Those of the second process, which holds the second half, are named.
    assert kept["pairs"][6] in said[0] and kept["pairs"][0] not in said[0]


def ours(said: str) -> list[str]:
    """The lines that are not torchrun's own."""
    return [line for line in said.splitlines() if line.startswith(("error", "stop", "going", "pretrain"))]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"batch_size": 11},
            "error: batch_size must be divisible by the 2 processes, got 11; use a multiple of 2, or another "
            "number of processes",
        ),
    ],
)
def test_a_mistake_is_one_line(
    make_recipe: MakeRecipe, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    save_config(make_recipe(**changes), tmp_path / "recipe.yaml")
    process = torchrun("-m", "sempairs", "pretrain", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    out, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert (ours(said), out) == ([line], "")
    assert "exitcode  : 2" in said or "exitcode: 2" in said
    assert not (tmp_path / "run").exists()


def test_each_process_needs_two_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 4)
    assert processes.share_of(8) == 2
    with pytest.raises(UserError, match="batch_size must be 2 pairs for each of 4 processes, got 4; use at"):
        processes.share_of(4)


def test_a_request_to_stop_saves_once_in_all(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(
        schedule__duration="100000 steps", checkpoint__every="100000 steps", monitor__log_every=1
    )
    save_config(recipe, tmp_path / "recipe.yaml")
    out = tmp_path / "run"
    process = torchrun("-m", "sempairs", "pretrain", tmp_path / "recipe.yaml", "--out", out)
    until = time.monotonic() + 100
    while not any(line["kind"] == "train" for line in read_metrics(out / "metrics.jsonl")):
        assert time.monotonic() < until and process.poll() is None, "no step was taken"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    step = read_metrics(out / "metrics.jsonl")[-1]["step"]
    assert ours(said) == [
        "stopping after this step; once more stops at once, without saving",
        f"stopped and saved after step {step} of 100000; go on with the same command and --resume",
    ]
    assert [path.name for path in (out / "checkpoint").iterdir()] == [f"step-{step:08d}"]
    assert last(out, step).step == step


def test_a_partner_that_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    gone = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:8837")
    with pytest.raises(UserError, match=r"another one ended; .* --resume"), processes.lost_partner_is_told():
        raise gone
    with pytest.raises(RuntimeError, match="shapes"), processes.lost_partner_is_told():
        raise RuntimeError("shapes differ")


def test_the_first_to_fail_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    for name in ("WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert processes.first_to_tell()  # alone
    kept = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {
        "TORCHELASTIC_RUN_ID": "x",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }
    for name, value in {**place, "MASTER_PORT": str(kept.port)}.items():
        monkeypatch.setenv(name, value)
    told = []
    for rank in (3, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        assert processes.launch() == (2, 2, rank)
        told.append(processes.first_to_tell())
    assert told == [True, False, False]


@pytest.mark.parametrize(("world", "printed"), [("1", "done\ntaken down\n"), ("2", "done\n")])
def test_one_of_several_ends_without_being_taken_down(world: str, printed: str) -> None:
    command = (
        "import atexit, torch; from sempairs.cli.main import _leave; atexit.register(print, 'taken down');"
        "print('done'); _leave(3)"
    )
    environment = {**os.environ, "WORLD_SIZE": world}
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, printed, "")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 5), (3, 3, 1, 2, 2)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_synchronised_norm_is_that_of_torch(
    alone: None, shape: tuple[int, ...], momentum: float | None
) -> None:
    kind = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    theirs = kind(3, momentum=momentum).double()
    nn.init.normal_(theirs.weight), nn.init.normal_(theirs.bias)
    ours = nn.Sequential(copy.deepcopy(theirs))
    synchronise(ours, torch.device("cpu"))
    assert type(ours[0]) is SyncBatchNorm
    for _ in range(2):
        given = torch.randn(shape, dtype=torch.float64)
        left, right = (given.clone().requires_grad_() for _ in range(2))
        weights = torch.randn(shape, dtype=torch.float64)
        for module, leaf in ((ours, left), (theirs, right)):
            (module(leaf) * weights).sum().backward()
        torch.testing.assert_close(left.grad, right.grad)
    torch.testing.assert_close(ours[0].weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours[0].bias.grad, theirs.bias.grad)
    torch.testing.assert_close(ours[0].state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(given), theirs.eval()(given))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_synchronised_norm_may_have_no_bias_or_not_learn(alone: None, frozen: bool) -> None:
    """As `nn.BatchNorm1d(..., bias=False)` of newer versions of torch."""
    theirs = nn.BatchNorm1d(3)
    nn.init.normal_(theirs.weight).requires_grad_(not frozen)
    theirs.register_parameter("bias", None)
    ours = copy.deepcopy(theirs)
    synchronise(ours, torch.device("cpu"))
    given, weights = torch.randn(5, 3), torch.randn(5, 3)
    left, right = (given.clone().requires_grad_() for _ in range(2))
    for module, leaf in ((ours, left), (theirs, right)):
        (module(leaf) * weights).sum().backward()
    torch.testing.assert_close(left.grad, right.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_norms_of_timm_are_known_and_others_refused(alone: None) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), timm.layers.BatchNormAct2d(4, act_layer=nn.SiLU)).double()
    names, given = list(model.state_dict()), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    expected = model.train()(given)
    synchronise(model, torch.device("cpu"))
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(given), expected)

    class Odd(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match=r"encoder\.arch has a batch normalisation \(Odd 1\)"):
        synchronise(nn.Sequential(nn.ReLU(), Odd(3)), torch.device("cpu"))
