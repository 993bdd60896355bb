"""Detectors hold the encoder's very weights, train what they should, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import MultiScaleRoIAlign

from sempairs.detection.config import PROTOCOLS, DetectionConfig
from sempairs.detection.data import Sample, open_data
from sempairs.detection.model import AlignedRoI, Res5Head, build_detector
from sempairs.detection.scoring import detect_all
from sempairs.detection.training import Processes, Trainer, learning_rate
from sempairs.encoders import EncoderConfig, build_encoder
from sempairs.errors import UserError

CPU = Processes(0, 1, torch.device("cpu"))
TINY = EncoderConfig(arch="tiny-resnet", options={"channels": [8, 8, 8, 16], "stem_width": 4})
MEAN = STD = (0.5, 0.5, 0.5)


def config(name: str, **changes) -> DetectionConfig:
    small = {
        "anchors": (8, 16, 24, 32, 48), "region_size": 4, "proposals_before_nms": (100, 50),
        "proposals": (20, 10), "anchors_sampled": 16, "regions_sampled": 8, "batch_size": 2,
    }  # fmt: skip
    return DetectionConfig(**{**PROTOCOLS[name].model_dump(), **small, "fpn_width": 8, **changes})


def build(settings: DetectionConfig, encoder=None, *, seed: int = 0, sync: bool = False):
    encoder = encoder or build_encoder(TINY, seed=3)
    return build_detector(encoder, settings, classes=2, mean=MEAN, std=STD, seed=seed, sync=sync)


def samples() -> list[Sample]:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 48, 64), generator=random, dtype=torch.uint8)
    box = torch.tensor([[8.0, 8.0, 30.0, 28.0]])
    return [Sample(p, box, torch.tensor([1 + i]), (1.0, 1.0)) for i, p in enumerate(pixels)]


def trunk(detector) -> dict[str, torch.Tensor]:
    """The encoder's weights and statistics inside a detector, under timm's names."""
    state = detector.state_dict()
    inner = {k.removeprefix("net.backbone.body."): v for k, v in state.items() if ".body." in k}
    head = "net.roi_heads.box_head."
    return inner | {k.removeprefix(head): v for k, v in state.items() if k.startswith(head + "layer4")}


@pytest.mark.parametrize("name", ["small-c4-1", "small-fpn-1"])
@pytest.mark.parametrize("arch", ["tiny-resnet", "resnet18", "resnet26d"])
def test_every_weight_of_the_encoder_is_inside(name, arch):
    encoder = build_encoder(TINY if arch == "tiny-resnet" else EncoderConfig(arch=arch), seed=3)
    inside = trunk(build(config(name), encoder))
    own = encoder.model.state_dict()
    assert inside.keys() == own.keys()
    assert all(torch.equal(inside[key], own[key]) for key in own)


def test_resnet50_has_the_published_shape():
    encoder = build_encoder(EncoderConfig(arch="resnet50"), seed=0)
    detector = build_detector(encoder, PROTOCOLS["voc-c4-1"], classes=20, mean=MEAN, std=STD, seed=0)
    net = detector.net
    assert net.backbone.out_channels == 1024
    assert net.rpn.head.cls_logits.out_channels == 15  # five sizes, three aspects
    assert isinstance(net.roi_heads.box_head, Res5Head)
    assert net.roi_heads.box_head.norm.num_features == 2048
    assert net.roi_heads.box_predictor.cls_score.weight.shape == (21, 2048)
    assert net.roi_heads.box_roi_pool.output_size == (14, 14)
    # Nothing is fixed, and the encoder given is left alone.
    assert all(p.requires_grad for p in detector.parameters())
    fpn = build_detector(encoder, PROTOCOLS["voc-fpn-1"], classes=20, mean=MEAN, std=STD, seed=0)
    fixed = {k for k, p in fpn.named_parameters() if not p.requires_grad and "bn" not in k}
    assert {k.split(".")[3] for k in fixed if "downsample.1" not in k} == {"conv1", "layer1"}
    assert not any(m.training for m in fpn.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(p.requires_grad for p in encoder.parameters())


def test_a_weight_without_a_place_is_named():
    encoder = build_encoder(TINY, seed=3)
    encoder.model.extra = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"without a place in the detector: extra\.bias, extra\.weight"):
        build(config("small-c4-1"), encoder)


def test_an_encoder_without_stages_is_refused():
    encoder = build_encoder(EncoderConfig(arch="test_vit"), seed=0)
    with pytest.raises(UserError, match="encoder must be a ResNet, got 'test_vit'"):
        build(config("small-c4-1"), encoder)


@pytest.mark.parametrize("name", ["small-c4-1", "small-fpn-1"])
def test_losses_reach_every_trained_weight(name):
    detector = build(config(name))
    trainer = Trainer(detector, config(name, warm_up=0), 0, CPU)
    before = copy.deepcopy(detector.state_dict())
    numbers = trainer.step(0, samples())
    assert set(numbers) == {
        "loss", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "lr",
    }  # fmt: skip
    assert numbers["loss"] == pytest.approx(
        sum(v for k, v in numbers.items() if k.startswith("loss_")), rel=1e-5
    )
    missing = [k for k, p in detector.named_parameters() if p.grad is None]
    assert not missing
    moved = [k for k, v in detector.state_dict().items() if not torch.equal(v, before[k])]
    assert any("layer1" in k for k in moved) and any("running_mean" in k for k in moved)


@pytest.mark.parametrize("name", ["small-c4-1", "small-fpn-1"])
def test_frozen_is_frozen_to_the_bit(name):
    settings = config(name, freeze=5, warm_up=0)
    detector = build(settings)
    trainer = Trainer(detector, settings, 0, CPU)
    before = copy.deepcopy(trunk(detector))
    heads = copy.deepcopy(detector.net.rpn.state_dict())
    for step in range(2):
        trainer.step(step, samples())
    trainer.renew_statistics([samples()], first=2)
    assert all(torch.equal(value, before[key]) for key, value in trunk(detector).items())
    assert not torch.equal(
        detector.net.rpn.state_dict()["head.cls_logits.weight"], heads["head.cls_logits.weight"]
    )


def test_leading_stages_and_fixed_statistics():
    settings = config("small-c4-1", freeze=2, norm="fixed", warm_up=0)
    detector = build(settings)
    trainer = Trainer(detector, settings, 0, CPU)
    before = copy.deepcopy(trunk(detector))
    trainer.step(0, samples())
    moved = {k for k, v in trunk(detector).items() if not torch.equal(v, before[k])}
    assert moved and all(k.startswith(("layer2", "layer3", "layer4")) for k in moved)
    assert not any("running" in k or "bn" in k for k in moved)


def test_new_parts_are_a_function_of_the_seed():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, two, other = (build(config("small-c4-1"), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    key = "net.roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(one.state_dict()[key], two.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])
    assert one.state_dict()[key].std() == pytest.approx(0.01, rel=0.5)


def test_several_processes_share_their_statistics():
    detector = build(config("small-c4-1"), sync=True)
    norms = [m for m in detector.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    # Frozen stages stay in evaluation mode after the exchange of their modules.
    frozen = build(config("small-c4-1", freeze=5), sync=True)
    modes = {m.training for m in frozen.net.backbone.modules() if isinstance(m, nn.SyncBatchNorm)}
    assert modes == {False}
    fixed = build(config("small-fpn-1", norm="fixed"), sync=True)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in fixed.modules())


def test_regions_are_read_where_they_lie():
    """On a map that holds its own coordinates a region's mean is its centre, in cells, less half of one."""
    stride, cells = 8, 12
    ramp = torch.arange(cells, dtype=torch.float32)
    features = torch.stack([ramp.expand(cells, cells), ramp[:, None].expand(cells, cells)])[None]
    box = torch.tensor([[16.0, 24.0, 48.0, 72.0]])
    # The picture is 90 high and padded to 96: the stride is 8 all the same.
    pooled = AlignedRoI(4)({"0": features}, [box], [(90, 96)])
    expected = torch.tensor([(16 + 48) / 2, (24 + 72) / 2]) / stride - 0.5
    torch.testing.assert_close(pooled.mean(dim=(2, 3))[0], expected)
    # torchvision's own class is half a cell off, as its documentation says of `aligned=False`.
    shifted = MultiScaleRoIAlign(["0"], 4, 0)({"0": features}, [box], [(96, 96)])
    torch.testing.assert_close(shifted.mean(dim=(2, 3))[0], expected + 0.5)


def test_precise_statistics_are_means_over_batches():
    settings = config("small-fpn-1", freeze=0)
    detector = build(settings)
    trainer = Trainer(detector, settings, 0, CPU)
    norm = detector.net.backbone.body.bn1
    first, second = samples()[:1], samples()[1:]
    means = []
    for batch in (first, second):
        pixels = torch.stack([s.pixels for s in batch]).float() / 255
        with torch.no_grad():
            x = detector.net.backbone.body.conv1(torch.nn.functional.pad((pixels - 0.5) / 0.5, (0, 0, 0, 16)))
        means.append(x.mean(dim=(0, 2, 3)))
    trainer.renew_statistics([first, second], first=0)
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1


def test_the_rate_warms_up_and_falls():
    c4 = PROTOCOLS["voc-c4-1"]
    steps = (0, 50, 100, 17_999, 18_000, 22_000)
    rates = [learning_rate(c4, step) for step in steps]
    assert rates == pytest.approx([2e-5, 0.01001, 0.02, 0.02, 0.002, 0.0002])


def test_decay_is_for_weights_that_are_no_norms():
    settings = config("small-c4-1")
    groups = Trainer(build(settings), settings, 0, CPU).optimiser.param_groups
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0]
    assert {p.ndim for p in groups[1]["params"]} == {1}


def test_boxes_are_told_in_pixels_of_the_file(devkit):
    """Scored at twice the size, every box still lies in the picture of 64 x 64, some at its far side."""
    one = open_data(f"voc:{devkit}")("VOC2007/test")
    settings = config("small-c4-1", test_size=128, score_threshold=0.0, workers=1)
    detector = build(settings)
    found = detect_all(detector, one, ("disc", "square"), settings, CPU.device)
    assert detector.training
    assert set(found.image) == set(range(4)) and set(found.label) == {0, 1}
    assert found.box.min() >= 0 and 48 < found.box.max() <= 64
    assert (found.box[:, 2:] > found.box[:, :2]).all()
