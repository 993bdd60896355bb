"""Encoders from timm by name: width, stems, initial weights, errors."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from sempairs.config import validate
from sempairs.encoders import EncoderConfig, build_encoder, weight_hash
from sempairs.encoders.build import TINY_ARGUMENTS
from sempairs.errors import UserError


def test_tiny_resnet_has_its_stated_size_and_is_timms_own_class():
    encoder = build_encoder(EncoderConfig(), seed=0)
    assert type(encoder.model) is ResNet
    assert sum(p.numel() for p in encoder.parameters()) == 1_226_400
    assert encoder.width == 256
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, 256)


def test_tiny_resnet_runs_in_bf16_and_channels_last_near_float32():
    encoder = build_encoder(EncoderConfig(), seed=0).eval()
    images = torch.randn(4, 3, 32, 32)
    exact = encoder(images)
    encoder = encoder.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = encoder(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("arch", "size", "options"),
    [
        ("resnet18", 32, {}),
        ("vit_tiny_patch16_224", 32, {"img_size": 32}),
        ("mobilenetv3_small_050", 64, {}),  # its head keeps a hidden layer
        ("convnext_atto", 64, {}),
        ("inception_next_atto", 64, {}),
    ],
)
def test_declared_width_is_that_of_the_features(arch, size, options):
    encoder = build_encoder(EncoderConfig(arch=arch, options=options), seed=0).eval()
    encoder.check_input(size)
    with torch.inference_mode():
        assert encoder(torch.randn(2, 3, size, size)).shape == (2, encoder.width)


def test_building_never_runs_the_network(monkeypatch):
    monkeypatch.setattr(ResNet, "forward", lambda *args: pytest.fail("probed with a batch"))
    assert build_encoder(EncoderConfig(arch="resnet18"), seed=0).width == 512


@pytest.mark.parametrize("config", [EncoderConfig(), EncoderConfig(arch="resnet18", stem="small")])
def test_initial_weights_are_a_pure_function_of_the_seed(config):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weight_hash(build_encoder(config, seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert weight_hash(build_encoder(config, seed=3)) == first
    assert weight_hash(build_encoder(config, seed=4)) != first


@pytest.mark.parametrize(
    ("arch", "stem", "kernel", "stride", "pooled"),
    [
        ("tiny-resnet", None, 3, 2, False),
        ("tiny-resnet", "small", 3, 1, False),
        ("tiny-resnet", "imagenet", 7, 2, True),
        ("resnet18", None, 7, 2, True),
        ("resnet18", "imagenet", 7, 2, True),
        ("resnet18", "small", 3, 1, False),
    ],
)
def test_stem_is_the_one_asked_for(arch, stem, kernel, stride, pooled):
    model = build_encoder(EncoderConfig(arch=arch, stem=stem), seed=0).model
    assert model.conv1.kernel_size == (kernel, kernel)
    assert model.conv1.stride == (stride, stride)
    assert isinstance(model.maxpool, nn.MaxPool2d) == pooled


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "convnext_atto", "resnet18d"])
def test_small_stem_is_refused_where_it_does_not_apply(arch):
    with pytest.raises(UserError, match=r"encoder\.stem can be small only for plain ResNets"):
        build_encoder(EncoderConfig(arch=arch, stem="small"), seed=0)


@pytest.mark.parametrize("arch", ["resnet81", "tiny-resnt"])
def test_a_wrong_name_gets_the_nearest_suggested(arch):
    with pytest.raises(UserError, match=r"did you mean '(resnet|tiny)"):
        build_encoder(EncoderConfig(arch=arch), seed=0)


@pytest.mark.parametrize("arch", ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18", "local-dir:here"])
def test_names_that_would_fetch_weights_are_refused(arch):
    with pytest.raises(UserError, match=r"encoder\.arch is unknown"):
        build_encoder(EncoderConfig(arch=arch), seed=0)


@pytest.mark.parametrize("option", ["pretrained", "num_classes", "checkpoint_path", "features_only"])
def test_options_that_are_not_the_recipes_are_refused(option):
    with pytest.raises(UserError, match=option):
        validate(EncoderConfig, {"arch": "resnet18", "options": {option: 1}})


@pytest.mark.parametrize("arch", ["resnet18", "tiny-resnet"])
def test_options_the_architecture_does_not_take_are_refused_in_one_line(arch):
    with pytest.raises(UserError, match=r"encoder\.options are not taken by") as caught:
        build_encoder(EncoderConfig(arch=arch, options={"no_such": 1}), seed=0)
    assert "\n" not in str(caught.value)


def test_options_that_leave_no_vector_an_image_are_refused():
    encoder = build_encoder(EncoderConfig(options={"global_pool": ""}), seed=0)
    with pytest.raises(UserError, match="must give features of shape"):
        encoder(torch.randn(2, 3, 32, 32))


def test_an_image_size_a_transformer_cannot_take_is_refused_with_the_remedy():
    encoder = build_encoder(EncoderConfig(arch="vit_tiny_patch16_224"), seed=0)
    with pytest.raises(UserError, match=r"set encoder\.options\.img_size to 32"):
        encoder.check_input(32)


def test_weights_come_from_a_file_of_plain_timm_without_its_classifier(tmp_path):
    theirs = timm.create_model("resnet18", num_classes=10)
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    ours = build_encoder(
        EncoderConfig(arch="resnet18", weights=str(tmp_path / "weights.safetensors")), seed=0
    )
    assert torch.equal(ours.model.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    state = ResNet(BasicBlock, num_classes=0, **TINY_ARGUMENTS).state_dict()
    for name, change, message in (
        ("missing", lambda s: s.pop("bn1.weight"), "lacks bn1.weight"),
        ("unknown", lambda s: s.update(extra=torch.ones(1)), "has the unknown extra"),
        ("shape", lambda s: s.update({"bn1.weight": torch.ones(3)}), "has another shape for bn1.weight"),
    ):
        state = build_encoder(EncoderConfig(), seed=0).model.state_dict()
        change(state)
        path = tmp_path / f"{name}.safetensors"
        save_file(state, path)
        with pytest.raises(UserError, match=message):
            build_encoder(EncoderConfig(weights=str(path)), seed=0)
    with pytest.raises(UserError, match="must be a safetensors file"):
        build_encoder(EncoderConfig(weights=str(tmp_path / "absent.safetensors")), seed=0)
