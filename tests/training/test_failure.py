"""A step that is not finite is kept, and taken again without the images, also from the command line."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sempairs.cli.main import app
from sempairs.config import save_config
from sempairs.encoders import build_encoder
from sempairs.errors import UserError
from sempairs.methods import METHODS, build_method, simclr
from sempairs.runs.checkpoint import load_checkpoint, write_state
from sempairs.training import failure
from sempairs.training.data import batches, load_data
from sempairs.training.failure import keep_failure, replay
from sempairs.training.loop import NonFiniteLossError, Trainer, make_fabric
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain
from sempairs.views.maker import ViewMaker

MakeRecipe = Callable[..., PretrainRecipe]
DIVERGING = {
    "optimiser": {"name": "sgd", "lr": 1e37},
    "schedule__warm_up": "0 steps",
    "monitor__every": "0 steps",
}


@pytest.fixture
def diverged(make_recipe: MakeRecipe, images: Path, tmp_path: Path) -> Path:
    """The folder of a run that stopped, of whose images nothing is left."""
    copied = tmp_path / "images"
    shutil.copytree(images, copied)
    with pytest.raises(UserError, match=r"--replay .*run` finds where it begins"):
        pretrain(make_recipe(data__source=f"folder:{copied}", **DIVERGING), tmp_path / "run")
    shutil.rmtree(copied)
    return tmp_path / "run"


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["pretrain", *map(str, arguments)])


def test_a_diverged_run_is_replayed_without_its_images(diverged: Path) -> None:
    kept = load_checkpoint(diverged / "failure")
    found = replay(diverged)
    assert found.reproduced
    head, weights, first, wider = found.lines
    assert head.startswith(f"reproduced: step {kept.step + 1} of 10, 12 pairs, 32-true on cpu: ")
    assert head.endswith(f"; in the run: {kept.scalars['what']} {kept.scalars['value']}")
    assert weights.startswith("weights before the step: ")
    assert first.startswith("first not finite: the ")
    assert wider.startswith("in float64: ")
    assert replay(diverged / "failure") == found


def test_a_full_disk_does_not_hide_what_stopped_the_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as raised:
        patch.setattr(failure, "write_state", full)
        pretrain(make_recipe(**DIVERGING), tmp_path / "run")
    assert "must be finite" in str(raised.value)
    assert str(raised.value).endswith("could not be kept (No space left on device)")
    assert not (tmp_path / "run" / "failure").exists()


def test_from_the_command_line(diverged: Path) -> None:
    before = {path: path.read_bytes() for path in diverged.rglob("*") if path.is_file()}
    shown = invoke("--replay", diverged)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines() == list(replay(diverged).lines)
    assert {path: path.read_bytes() for path in diverged.rglob("*") if path.is_file()} == before


def test_what_is_finite_this_time_is_said_and_has_status_one(diverged: Path) -> None:
    kept = load_checkpoint(diverged / "failure")
    mended = {
        k: torch.ones_like(v) if k.startswith("method/") and v.is_floating_point() else v
        for k, v in kept.tensors.items()
    }
    shutil.rmtree(diverged / "failure")
    write_state(diverged / "failure", kept.step, mended, kept.scalars)
    shown = invoke("--replay", diverged)
    assert shown.exit_code == 1
    (line,) = shown.stdout.splitlines()
    assert line.startswith("not reproduced: step ") and "; in the run: " in line and ": loss " in line


def stopped_by(
    recipe: PretrainRecipe, out: Path, break_it: Callable[[Any], None], step: int = 0
) -> NonFiniteLossError:
    """Keeps the failure of the step that a trainer takes after `break_it` had its method."""
    data = load_data(recipe)
    encoder = build_encoder(recipe.encoder, seed=0)
    meanings = int(data.plan.meaning.max()) + 1
    method = build_method(
        recipe.method, encoder, encoder.width, seed=0, meanings=meanings, objective=recipe.objective
    )
    fabric = make_fabric(recipe.speed)
    trainer = Trainer(recipe, method, fabric, total=10, warm_up=0)
    domains = data.domains("category") if method.needs_domains else None
    maker = ViewMaker(
        recipe.views, data.store, seed=0, device=fabric.device, slots=method.slots, domains=domains
    )
    partners = recipe.objective.shown_partners
    plan = batches(data.plan, seed=0, batch_size=recipe.batch_size, start=0, stop=10, partners=partners)
    for number, batch in enumerate(plan):
        views = maker.make(*batch)
        if number == step:
            with torch.no_grad():
                break_it(method)
            with pytest.raises(NonFiniteLossError) as raised:
                trainer.step(number, batch, views)
            break
        trainer.step(number, batch, views)
    out.mkdir()
    save_config(recipe, out / "recipe.yaml")
    facts = {"steps": 10, "meanings": meanings, "processes": 1}
    ids = data.catalog.column("image_id")
    keep_failure(out, raised.value, state=trainer.state(), image_ids=ids, facts=facts)
    return raised.value


@pytest.mark.parametrize(
    "objective",
    [{"name": "joint", "heads": "two"}, {"name": "joint", "partners": 2}, {"name": "several", "partners": 3}],
    ids=["two heads", "joint, several", "several"],
)
def test_a_step_of_more_crops_is_taken_again(make_recipe: MakeRecipe, tmp_path: Path, objective: Any) -> None:
    """All crops are kept, and domains with them; in the second step, when a queue holds something."""

    def break_it(method: Any) -> None:
        method.encoder.model.layer2[0].conv2.weight.fill_(3e38)

    recipe = make_recipe(
        objective=objective, method={"name": "moco_v2", "queue": 16, "negatives": "same_domain"}
    )
    error = stopped_by(recipe, tmp_path / "run", break_it, step=1)
    again = replay(tmp_path / "run")
    assert again.reproduced
    assert again.lines[0].startswith("reproduced: step 2 of 10, 12 pairs")
    kept = load_checkpoint(tmp_path / "run" / "failure").tensors
    assert len([name for name in kept if name.removeprefix("views/").isdigit()]) == len(error.views.crops)
    assert torch.equal(kept["views/domain"], error.views.domain)


def test_the_first_module_is_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def break_it(method: Any) -> None:
        method.encoder.model.layer2[0].conv2.weight.fill_(3e38)

    stopped_by(make_recipe(), tmp_path / "run", break_it)
    _, weights, first, wider = replay(tmp_path / "run").lines
    assert weights.endswith("finite, up to 3e+38 (encoder.model.layer2.0.conv2.weight)")
    place = "first not finite: the output of encoder.model.layer2.0.conv2 (Conv2d), from finite inputs up to "
    assert first.startswith(place)
    assert wider.startswith("in float64: finite there: loss ")


def test_weights_that_were_not_finite_are_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def break_it(method: Any) -> None:
        method.encoder.model.layer1[0].conv1.weight[0, 0, 0, 0] = float("nan")

    stopped_by(make_recipe(speed__precision="bf16-mixed"), tmp_path / "run", break_it)
    _, weights, first, wider = replay(tmp_path / "run").lines
    assert "1 of" in weights and weights.endswith("the first encoder.model.layer1.0.conv1.weight")
    assert first.startswith(
        "first not finite: the output of encoder.model.layer1.0.conv1 (Conv2d), from finite"
    )
    assert wider == "in float32: not finite there either: loss nan"


def test_a_gradient_that_is_not_finite_is_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """A hidden unit that is vast and not yet listened to, under short projections, which divide gradients."""

    def break_it(method: Any) -> None:
        first, _, last = method.projector
        first.weight[0] = 1e37
        last.weight.mul_(1e-6)
        last.weight[:, 0] = 0
        last.bias.zero_()

    recipe = make_recipe(method={"name": "moco_v2"})
    error = stopped_by(recipe, tmp_path / "run", break_it)
    assert error.what == "gradient norm"
    found = replay(tmp_path / "run")
    assert found.reproduced
    place = "first not finite: the gradient of projector.2.weight"
    assert found.lines[2].startswith(place), found.lines
    assert ": gradient norm " in found.lines[0]


def test_a_norm_that_overflows_alone_is_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def break_it(method: Any) -> None:
        first, _, last = method.projector
        first.weight.mul_(1e20)
        last.weight.mul_(1e-25)

    recipe = make_recipe(method={"name": "moco_v2"})
    assert stopped_by(recipe, tmp_path / "run", break_it).what == "gradient norm"
    found = replay(tmp_path / "run")
    assert found.reproduced
    assert found.lines[2] == "first not finite: the norm of finite gradients"


def test_a_loss_that_is_not_finite_alone_is_named_and_moves_nothing(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every output of a network is finite; gradients are not, but they come after the loss."""
    real = simclr.nt_xent
    monkeypatch.setattr(simclr, "nt_xent", lambda *a, **k: real(*a, **k) * float("inf"))
    before: dict[str, torch.Tensor] = {}

    def break_it(method: Any) -> None:
        before.update({name: value.clone() for name, value in method.named_parameters()})

    recipe = make_recipe(clip=1.0, micro_batch=5)
    error = stopped_by(recipe, tmp_path / "run", break_it)
    assert (error.what, error.value) == ("loss", float("inf"))
    kept = load_checkpoint(tmp_path / "run" / "failure")
    torch.testing.assert_close({name: kept.tensors[f"method/{name}"] for name in before}, before)
    found = replay(tmp_path / "run")
    assert found.lines[2] == "first not finite: the loss"


def test_a_step_looks_at_the_device_once(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not between the forward and the backward pass, where the device would wait for the processor."""
    recipe = make_recipe(method={"name": "byol"})
    data, looks = load_data(recipe), []
    encoder = build_encoder(recipe.encoder, seed=0)
    method = build_method(recipe.method, encoder, encoder.width, seed=0)
    fabric = make_fabric(recipe.speed)
    trainer = Trainer(recipe, method, fabric, total=10, warm_up=0)
    maker = ViewMaker(recipe.views, data.store, seed=0, device=fabric.device, slots=method.slots)
    batch = next(iter(batches(data.plan, seed=0, batch_size=recipe.batch_size, start=0, stop=1)))
    views = maker.make(batch.epoch, batch.anchor, batch.partner, batch.occurrence, batch.meaning)
    for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
        real = getattr(torch.Tensor, name)

        def look(self: torch.Tensor, *rest: Any, real: Any = real) -> Any:
            looks.append(all(p.grad is not None for p in method.parameters() if p.requires_grad))
            return real(self, *rest)

        monkeypatch.setattr(torch.Tensor, name, look)
    trainer.step(0, batch, views)
    assert looks == [True]


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_can_be_taken_again(make_recipe: MakeRecipe, tmp_path: Path, name: str) -> None:
    """After two steps, so that queues and targets hold something: the very same loss is computed again."""

    def break_it(method: Any) -> None:
        method.encoder.model.conv1.weight.fill_(float("inf"))

    recipe = make_recipe(method={"name": name}, micro_batch=5)
    stopped_by(recipe, tmp_path / "run", break_it, step=2)
    found = replay(tmp_path / "run")
    assert found.reproduced
    assert "the output of encoder.model.conv1 (Conv2d), from finite inputs" in found.lines[2]


def test_another_device_or_precision_may_be_tried(diverged: Path) -> None:
    found = replay(diverged, ["speed.precision=bf16-mixed", "speed.channels_last=false", "micro_batch=4"])
    assert "bf16-mixed on cpu" in found.lines[0]
    with pytest.raises(UserError, match="--set may change speed and micro_batch only"):
        replay(diverged, ["method.temperature=0.5"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replay", "{run}", "--out", "x"], "--replay does not go with --out"),
        (["{run}/recipe.yaml", "--replay", "{run}"], "--replay does not go with a recipe"),
        (["--replay", "{run}", "--resume"], "--replay does not go with --resume"),
        (["--replay", "{run}", "--dry-run"], "--replay does not go with --dry-run"),
        (["--replay", "/no/such/run"], "--replay must be the folder of a run, got '/no/such/run'"),
        (["--replay", "{run}"], "--replay finds no failure folder"),
        ([], "RECIPE is required"),
    ],
)
def test_wrong_arguments_are_one_line(
    make_recipe: MakeRecipe, tmp_path: Path, arguments: list[str], message: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_config(make_recipe(), run / "recipe.yaml")
    shown = invoke(*(argument.format(run=run) for argument in arguments))
    assert shown.exit_code != 0
    assert isinstance(shown.exception, UserError)
    assert str(shown.exception).startswith(message) and "\n" not in str(shown.exception)


def test_a_torn_failure_is_told(diverged: Path) -> None:
    file = diverged / "failure" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"tensors\.safetensors differs from its checksum"):
        replay(diverged)
    state = json.loads((diverged / "failure" / "state.json").read_text())
    shutil.rmtree(diverged / "failure")
    write_state(diverged / "failure", 1, {}, {"pairs": state["scalars"]["pairs"]})
    with pytest.raises(UserError, match="was written by another version"):
        replay(diverged)
