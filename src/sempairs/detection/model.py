"""Detectors on an encoder: torchvision's Faster R-CNN (Ren et al. 2015) with a ResNet's stages inside.

`build_c4`: stem and first three stages are the backbone, proposals come from its one map, and the fourth
stage ("res5") with an extra normalisation after it (He et al. 2020, MoCo) is the head that looks at regions.
`build_fpn`: all four stages under a feature pyramid (Lin et al. 2017), two layers as the head.

The detector holds the encoder's own modules, so no weight is matched by a renamed key; still it is checked
that none was left out.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from sempairs.detection.config import DetectionConfig
from sempairs.encoders import Encoder
from sempairs.errors import UserError
from sempairs.keyed import torch_draws

STEM = ("conv1", "bn1", "act1", "maxpool")
GROUPS = ("layer1", "layer2", "layer3", "layer4")
# Maps of five halvings fit into sides that are a multiple of this.
DIVISIBLE = 32
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class Stages(nn.Module):
    """A ResNet's stem and its first groups of blocks: images (B, 3, H, W) to the map of each of `names`."""

    def __init__(self, resnet: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        for name in (*STEM, *names):
            setattr(self, name, getattr(resnet, name))
        self.names = tuple(names)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = images
        for name in STEM:
            x = getattr(self, name)(x)
        maps = []
        for name in self.names:
            x = getattr(self, name)(x)
            maps.append(x)
        return maps


class C4Backbone(nn.Module):
    """Images to the map of the third group, under the name "0"."""

    def __init__(self, resnet: nn.Module, width: int) -> None:
        super().__init__()
        self.body = Stages(resnet, GROUPS[:3])
        self.out_channels = width

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        return OrderedDict([("0", self.body(images)[-1])])


class FpnBackbone(nn.Module):
    """Images to five maps of one width, "0" to "3" and "pool"."""

    def __init__(self, resnet: nn.Module, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.body = Stages(resnet, GROUPS)
        self.fpn = FeaturePyramidNetwork(list(widths), width, LastLevelMaxPool())
        self.out_channels = width

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        maps: Mapping[str, Tensor] = self.fpn(
            OrderedDict((str(i), m) for i, m in enumerate(self.body(images)))
        )
        return maps


class Res5Head(nn.Module):
    """Regions (R, C, s, s) to features (R, width): the fourth group, a normalisation, the mean over space."""

    def __init__(self, resnet: nn.Module, width: int, *, extra_norm: bool) -> None:
        super().__init__()
        self.layer4: nn.Module = getattr(resnet, GROUPS[3])
        self.norm = nn.BatchNorm2d(width) if extra_norm else nn.Identity()

    def forward(self, regions: Tensor) -> Tensor:
        features: Tensor = self.norm(self.layer4(regions))
        return features.mean(dim=(2, 3))


class AlignedRoI(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign on one map with pixel centres aligned and as many samples as a region has cells, as detectron2
    has it; torchvision's class samples two and shifts by half a pixel."""

    def __init__(self, size: int) -> None:
        super().__init__(featmap_names=["0"], output_size=size, sampling_ratio=0)

    def forward(
        self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        tallest = max(shape[0] for shape in image_shapes)
        padded = math.ceil(tallest / DIVISIBLE) * DIVISIBLE  # as `batch_images` pads
        features = x["0"]
        pooled: Tensor = roi_align(
            features, boxes, self.output_size, features.shape[-2] / padded, sampling_ratio=0, aligned=True
        )
        return pooled


class _AsGiven(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalises and pads; pictures come in the size they are meant to have."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class Detector(nn.Module):
    """A Faster R-CNN whose fixed parts stay fixed in training mode.

    `net`: torchvision's module. In training mode `forward` gives its losses, else its detections. Images are
    a list of (3, H, W) floats in [0, 1], boxes are in their pixels, label 0 is the background.
    """

    def __init__(self, net: FasterRCNN, fixed: Sequence[nn.Module], fixed_norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.net = net
        # Tuples keep them from being registered a second time.
        self._fixed = (*fixed, *fixed_norms)
        for module in self._fixed:
            module.requires_grad_(False)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        return self.net(images, targets)

    def train(self, mode: bool = True) -> Detector:
        super().train(mode)
        for module in self._fixed:
            module.eval()
        return self


def build_detector(
    encoder: Encoder,
    config: DetectionConfig,
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    sync: bool = False,
) -> Detector:
    """The detector of `config` with a copy of the encoder's weights inside; on the CPU, in training mode.

    classes: without the background. mean, std: what the encoder's images were normalised with (R, G, B).
    New parts are initialised as detectron2 does, a pure function of `seed`. sync: statistics of batches are
    those of all processes together (SyncBN), where they are trained at all.
    Raises: UserError if the encoder is no ResNet, or a weight of it has no place, naming the keys.
    """
    build = build_c4 if config.architecture == "c4" else build_fpn
    with torch_draws(seed, "weights", "detector"):
        resnet, widths = _resnet(encoder)
        if sync and config.norm == "batch":
            resnet = _synchronised(resnet)
        net = build(resnet, widths, config, classes)
        if sync:  # the one beside the encoder's own
            net.roi_heads = _synchronised(net.roi_heads)
    detector = _finish(net, resnet, config, mean, std)
    _refuse_left_out(detector, resnet)
    return detector.train()


def build_c4(resnet: nn.Module, widths: Sequence[int], config: DetectionConfig, classes: int) -> FasterRCNN:
    """The C4 variant around a ResNet's modules. widths: of the maps of its four groups."""
    return FasterRCNN(
        C4Backbone(resnet, widths[2]),
        rpn_anchor_generator=AnchorGenerator((tuple(config.anchors),), (tuple(config.aspects),)),
        box_roi_pool=AlignedRoI(config.region_size),
        box_head=Res5Head(resnet, widths[3], extra_norm=config.extra_norm),
        box_predictor=_predictor(widths[3], classes),
        **_shared(config),
    )


def build_fpn(resnet: nn.Module, widths: Sequence[int], config: DetectionConfig, classes: int) -> FasterRCNN:
    """The FPN variant around a ResNet's modules. widths: of the maps of its four groups."""
    sizes = tuple((size,) for size in config.anchors)
    return FasterRCNN(
        FpnBackbone(resnet, widths, config.fpn_width),
        rpn_anchor_generator=AnchorGenerator(sizes, (tuple(config.aspects),) * len(sizes)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], config.region_size, sampling_ratio=2),
        box_head=TwoMLPHead(config.fpn_width * config.region_size**2, config.head_width),
        box_predictor=_predictor(config.head_width, classes),
        **_shared(config),
    )


def _shared(config: DetectionConfig) -> dict[str, Any]:
    before, after = config.proposals_before_nms, config.proposals
    return {
        "rpn_pre_nms_top_n_train": before[0],
        "rpn_pre_nms_top_n_test": before[1],
        "rpn_post_nms_top_n_train": after[0],
        "rpn_post_nms_top_n_test": after[1],
        "rpn_batch_size_per_image": config.anchors_sampled,
        "box_batch_size_per_image": config.regions_sampled,
        "box_score_thresh": config.score_threshold,
        "box_nms_thresh": config.nms,
        "box_detections_per_img": config.detections,
    }


def _finish(
    net: FasterRCNN, resnet: nn.Module, config: DetectionConfig, mean: Sequence[float], std: Sequence[float]
) -> Detector:
    net.transform = _AsGiven(1, 1, list(mean), list(std), size_divisible=DIVISIBLE)
    parts = [[getattr(resnet, name) for name in STEM], *([getattr(resnet, name)] for name in GROUPS)]
    fixed = [module for part in parts[: config.freeze] for module in part]
    norms: list[nn.Module] = []
    if config.norm == "fixed":
        norms = [m for part in parts for root in part for m in root.modules() if isinstance(m, _NORMS)]
    return Detector(net, fixed, norms)


def _predictor(width: int, classes: int) -> nn.Module:
    """The layer that names and refines regions, with detectron2's small initial weights."""
    predictor: nn.Module = FastRCNNPredictor(width, classes + 1)
    for name, std in (("cls_score", 0.01), ("bbox_pred", 0.001)):
        layer = getattr(predictor, name)
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return predictor


def _resnet(encoder: Encoder) -> tuple[nn.Module, tuple[int, ...]]:
    """A copy of the encoder's ResNet, and the width of each group's map. Raises: UserError if it is none."""
    from timm.models.resnet import ResNet

    if not isinstance(encoder.model, ResNet):
        remedy = "detection needs the maps of a ResNet's stages; use tiny-resnet, resnet18, resnet50, …"
        raise UserError("encoder", "must be a ResNet", encoder.config.arch, remedy)
    widths = tuple(int(stage["num_chs"]) for stage in encoder.model.feature_info)[-4:]
    return copy.deepcopy(encoder.model), widths


def _synchronised(module: nn.Module) -> nn.Module:
    """The module with its batch normalisations over all processes; parameters stay the same objects."""
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def _refuse_left_out(detector: nn.Module, resnet: nn.Module) -> None:
    """Raises: UserError naming the weights and statistics of the encoder that the detector has not."""
    inside = {id(value) for value in (*detector.parameters(), *detector.buffers())}
    state = resnet.state_dict(keep_vars=True)
    left = sorted(name for name, value in state.items() if id(value) not in inside)
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise UserError(
            "encoder", f"has weights without a place in the detector: {', '.join(left[:5])}{more}"
        )
