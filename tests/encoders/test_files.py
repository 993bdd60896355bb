"""Encoders on disk: round trips, plain timm, damaged files, hashes."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from sempairs import __version__
from sempairs.encoders import EncoderConfig, build_encoder, load_encoder, save_encoder, weight_hash
from sempairs.encoders.build import TINY_ARGUMENTS
from sempairs.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def saved(tmp_path):
    encoder = build_encoder(EncoderConfig(), seed=0)
    encoder(torch.randn(8, 3, 32, 32))  # so that the running statistics are not the initial ones
    path = save_encoder(tmp_path / "run", encoder, encoder.config, 32, MEAN, STD)
    return encoder, path


def test_a_saved_encoder_loads_equal_with_its_spec(saved):
    encoder, path = saved
    for where in (path, path.parent, str(path)):
        loaded = load_encoder(where)
        assert weight_hash(loaded.model) == weight_hash(encoder.model) == loaded.spec.weight_hash
    images = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    assert torch.equal(loaded(images), encoder.eval()(images))
    spec = loaded.spec
    assert (spec.config, spec.width, spec.input_size) == (EncoderConfig(), 256, 32)
    assert (spec.mean, spec.std, spec.sempairs) == (MEAN, STD, __version__)


def test_the_files_are_two_and_nothing_partial_stays(saved):
    _, path = saved
    assert sorted(p.name for p in path.parent.iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_the_same_weights_load_in_plain_timm(tmp_path):
    encoder = build_encoder(EncoderConfig(arch="resnet18", options={"drop_path_rate": 0.1}), seed=0).eval()
    path = save_encoder(tmp_path, encoder, encoder.config, 64, MEAN, STD)
    spec = json.loads(path.read_text())
    plain = timm.create_model(spec["arch"], num_classes=0, **spec["options"])
    plain.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=True)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(plain.eval()(images), encoder(images))


def test_tiny_resnets_weights_load_in_timms_own_class(saved):
    encoder, path = saved
    plain = ResNet(BasicBlock, num_classes=0, **TINY_ARGUMENTS)
    plain.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
    plain.maxpool = nn.Identity()
    plain.load_state_dict(load_file(path.with_name("encoder.safetensors")), strict=True)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain.eval()(images), encoder.eval()(images))


def test_the_file_that_weights_started_from_is_not_needed_to_load(tmp_path, saved):
    _, path = saved
    config = EncoderConfig(weights=str(path.with_name("encoder.safetensors")))
    encoder = build_encoder(config, seed=5)
    again = save_encoder(tmp_path / "again", encoder, config, 32, MEAN, STD)
    path.with_name("encoder.safetensors").unlink()
    assert weight_hash(load_encoder(again).model) == weight_hash(encoder.model)


def test_saving_under_another_config_is_refused(tmp_path, saved):
    encoder, _ = saved
    with pytest.raises(UserError, match="must be the one the encoder was built from"):
        save_encoder(tmp_path / "other", encoder, EncoderConfig(arch="resnet18"), 32, MEAN, STD)
    assert not (tmp_path / "other").exists()


def test_keys_that_do_not_match_are_refused_by_name(saved):
    _, path = saved
    weights = path.with_name("encoder.safetensors")
    state = load_file(weights)
    state["renamed.weight"] = state.pop("layer4.0.conv2.weight")
    save_file(state, weights)
    with pytest.raises(UserError, match=r"lacks layer4\.0\.conv2\.weight"):
        load_encoder(path)


def test_weights_of_another_export_are_noticed(saved):
    _, path = saved
    other = build_encoder(EncoderConfig(), seed=1)
    save_file(other.model.state_dict(), path.with_name("encoder.safetensors"))
    with pytest.raises(UserError, match=r"weight_hash is not that of encoder\.safetensors"):
        load_encoder(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.with_name("encoder.safetensors").unlink(), "must be a safetensors file"),
        (lambda p: p.with_name("encoder.safetensors").write_bytes(b"\x80\x04pickle"), "cannot be read"),
        (lambda p: p.unlink(), r"must be a folder with encoder\.json"),
        (lambda p: p.write_text("{"), "is not readable JSON"),
        (lambda p: p.write_text("[]"), "is not an encoder's description"),
        (lambda p: p.write_text('{"format": 1}'), "is not an encoder's description"),
        (lambda p: p.write_text(p.read_text().replace('"format": 1', '"format": 9')), "format must be 1"),
        (lambda p: p.write_text(p.read_text().replace('"width": 256', '"width": 3')), "width must be 256"),
    ],
)
def test_missing_and_damaged_files_are_refused_in_one_line(saved, damage, message):
    _, path = saved
    damage(path)
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(path.parent)
    assert "\n" not in str(caught.value)


def test_weight_hash_sees_every_change_but_not_memory_format():
    encoder = build_encoder(EncoderConfig(), seed=0)
    first = weight_hash(encoder)
    assert len(first) == 64
    assert weight_hash(encoder.to(memory_format=torch.channels_last)) == first
    with torch.no_grad():
        encoder.model.bn1.running_mean[3] += 1e-6
    assert weight_hash(encoder) != first
    assert weight_hash({"a": torch.ones(2)}) != weight_hash({"b": torch.ones(2)})
    assert weight_hash({"a": torch.ones(2)}) != weight_hash({"a": torch.ones(1, 2)})
    assert weight_hash({"a": torch.tensor(1, dtype=torch.int32)}) != weight_hash({"a": torch.tensor(1)})
