"""Features of many images: mode, precision, determinism."""

from __future__ import annotations

import sys
from time import sleep

import numpy as np
import pytest
import torch

from sempairs.encoders import EncoderConfig, build_encoder, embed, weight_hash
from sempairs.encoders.features import BUDGET, batch_that_fits


@pytest.fixture
def encoder():
    return build_encoder(EncoderConfig(options={"channels": [8, 8, 8, 16]}), seed=0)


def batches(*sizes: int) -> list[torch.Tensor]:
    return list(
        torch.randn(sum(sizes), 3, 16, 16, generator=torch.Generator().manual_seed(0)).split(list(sizes))
    )


def test_features_are_float32_rows_in_order(encoder):
    features = embed(encoder, batches(4, 3, 1))
    assert features.shape == (8, 16)
    assert features.dtype == np.float32
    encoder.eval()
    with torch.inference_mode():
        expected = encoder(torch.cat(batches(4, 3, 1)))
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_same_call_gives_the_same_bits_and_changes_nothing(encoder):
    before = weight_hash(encoder)
    first = embed(encoder, batches(4, 4))
    assert np.array_equal(embed(encoder, batches(4, 4)), first)
    assert weight_hash(encoder) == before  # running statistics too


def test_each_module_returns_to_the_mode_it_was_in_also_after_a_failure(encoder):
    encoder.train()
    encoder.model.bn1.eval()
    modes = [module.training for module in encoder.modules()]
    embed(encoder, batches(2))
    assert [module.training for module in encoder.modules()] == modes
    with pytest.raises(RuntimeError):
        embed(encoder, [torch.randn(2, 5, 16, 16)])
    assert [module.training for module in encoder.modules()] == modes


def test_bf16_is_near_float32_and_layouts_agree(encoder):
    exact = embed(encoder, batches(6))
    np.testing.assert_allclose(embed(encoder, batches(6), channels_last=False), exact, rtol=1e-4, atol=1e-5)
    rounded = embed(encoder, batches(6), precision="bf16")
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.05


def test_no_batches_give_no_rows(encoder):
    assert embed(encoder, []).shape == (0, 16)


def test_progress_is_shown_when_asked(encoder, capsys, monkeypatch):
    monkeypatch.delenv("SEMPAIRS_QUIET", raising=False)
    embed(encoder, batches(2, 2))
    assert capsys.readouterr().err == ""
    # On a terminal a bar appears with the first work that takes a moment.
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    slow = (sleep(0.25) or batch for batch in batches(2, 2))
    embed(encoder, slow, progress=True)
    assert "embedding" in capsys.readouterr().err


def test_fewer_of_large_images_fit_into_little_memory():
    small = build_encoder(EncoderConfig(), seed=0)
    assert batch_that_fits(small, 32) == 256
    large = build_encoder(EncoderConfig(arch="resnet50"), seed=0)
    modes = [module.training for module in large.modules()]
    count = batch_that_fits(large, 224)
    # 64 maps of 112 x 112 pixels, 4 bytes each, four times
    assert count == BUDGET["cpu"] // (16 * 64 * 112 * 112)
    assert [module.training for module in large.modules()] == modes
    assert not any(module._forward_hooks for module in large.modules())
    assert batch_that_fits(large, 2000) == 1
