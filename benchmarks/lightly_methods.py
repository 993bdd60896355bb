"""Methods as lightly's documentation writes them, around any encoder, with sizes as settings.

https://docs.lightly.ai/self-supervised-learning/examples/models.html: its heads, losses, memory banks and
momentum utilities, put together as in its examples; only widths, temperatures, queues and momenta are
arguments, so that both sides of a comparison can have the same. Names of settings are those of this project's
configs. The encoder must give (B, D); an example's `.flatten(start_dim=1)` changes nothing then.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightly.loss import (
    BarlowTwinsLoss,
    DCLLoss,
    DINOLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
)
from lightly.models.modules import (
    BarlowTwinsProjectionHead,
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    MoCoProjectionHead,
    NNCLRPredictionHead,
    NNCLRProjectionHead,
    NNMemoryBankModule,
    SimCLRProjectionHead,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.modules.heads import VICRegProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from torch import Tensor, nn

Views = Sequence[Tensor]


class LightlyMethod(nn.Module):
    """One example: for every batch `before_step`, `loss(views)`, backward, `after_backward`, optimiser."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.epoch = 0

    def before_step(self, epoch: int, epochs: int) -> None:
        """epoch of epochs, from 0: the examples' schedules go by epochs."""
        self.epoch = epoch

    def loss(self, views: Views) -> Tensor:
        raise AssertionError

    def after_backward(self) -> None:
        """Before the optimiser's step."""

    def scored(self) -> nn.Module:
        """The encoder that is evaluated."""
        return self.backbone


class SimCLR(LightlyMethod):
    def __init__(self, backbone: nn.Module, width: int, *, hidden: int, out: int, temperature: float) -> None:
        super().__init__(backbone)
        self.projection_head = SimCLRProjectionHead(width, hidden, out)
        self.criterion: nn.Module = NTXentLoss(temperature)

    def loss(self, views: Views) -> Tensor:
        projections = [self.projection_head(self.backbone(view)) for view in views]
        found: Tensor = self.criterion(*projections)
        return found


class DCL(SimCLR):
    def __init__(self, backbone: nn.Module, width: int, *, hidden: int, out: int, temperature: float) -> None:
        super().__init__(backbone, width, hidden=hidden, out=out, temperature=temperature)
        self.criterion = DCLLoss(temperature)


class BarlowTwins(LightlyMethod):
    def __init__(
        self, backbone: nn.Module, width: int, *, hidden: int, out: int, off_diagonal: float
    ) -> None:
        super().__init__(backbone)
        self.projection_head = BarlowTwinsProjectionHead(width, hidden, out)
        self.criterion = BarlowTwinsLoss(off_diagonal)

    def loss(self, views: Views) -> Tensor:
        found: Tensor = self.criterion(*[self.projection_head(self.backbone(view)) for view in views])
        return found


class VICReg(LightlyMethod):
    def __init__(self, backbone: nn.Module, width: int, *, hidden: int, out: int) -> None:
        super().__init__(backbone)
        self.projection_head = VICRegProjectionHead(width, hidden, out, num_layers=3)
        self.criterion = VICRegLoss()

    def loss(self, views: Views) -> Tensor:
        found: Tensor = self.criterion(*[self.projection_head(self.backbone(view)) for view in views])
        return found


class SimSiam(LightlyMethod):
    def __init__(
        self, backbone: nn.Module, width: int, *, hidden: int, out: int, predictor_hidden: int
    ) -> None:
        super().__init__(backbone)
        self.projection_head = SimSiamProjectionHead(width, hidden, out)
        self.prediction_head = SimSiamPredictionHead(out, predictor_hidden, out)
        self.criterion = NegativeCosineSimilarity()

    def _pass(self, view: Tensor) -> tuple[Tensor, Tensor]:
        projection = self.projection_head(self.backbone(view))
        prediction = self.prediction_head(projection)
        return projection.detach(), prediction

    def loss(self, views: Views) -> Tensor:
        (z0, p0), (z1, p1) = self._pass(views[0]), self._pass(views[1])
        return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))


class NNCLR(LightlyMethod):
    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        *,
        hidden: int,
        out: int,
        predictor_hidden: int,
        queue: int,
        temperature: float,
    ) -> None:
        super().__init__(backbone)
        self.projection_head = NNCLRProjectionHead(width, hidden, out)
        self.prediction_head = NNCLRPredictionHead(out, predictor_hidden, out)
        self.memory_bank = NNMemoryBankModule(size=(queue, out))
        self.criterion = NTXentLoss(temperature)

    def _pass(self, view: Tensor) -> tuple[Tensor, Tensor]:
        projection = self.projection_head(self.backbone(view))
        prediction = self.prediction_head(projection)
        return projection.detach(), prediction

    def loss(self, views: Views) -> Tensor:
        (z0, p0), (z1, p1) = self._pass(views[0]), self._pass(views[1])
        z0 = self.memory_bank(z0, update=False)
        z1 = self.memory_bank(z1, update=True)
        return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))


class _Momentum(LightlyMethod):
    """An encoder and a head, and copies that follow them."""

    def __init__(
        self, backbone: nn.Module, head: nn.Module, *, momentum: float, final_momentum: float
    ) -> None:
        super().__init__(backbone)
        self.projection_head = head
        self.backbone_momentum = copy.deepcopy(backbone)
        self.projection_head_momentum = copy.deepcopy(head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.momenta = momentum, final_momentum

    def before_step(self, epoch: int, epochs: int) -> None:
        super().before_step(epoch, epochs)
        momentum = cosine_schedule(epoch, epochs, *self.momenta)
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)

    def _followed(self, view: Tensor) -> Tensor:
        target: Tensor = self.projection_head_momentum(self.backbone_momentum(view)).detach()
        return target


class MoCoV2(_Momentum):
    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        *,
        hidden: int,
        out: int,
        queue: int,
        temperature: float,
        momentum: float,
        final_momentum: float,
    ) -> None:
        head = MoCoProjectionHead(width, hidden, out)
        super().__init__(backbone, head, momentum=momentum, final_momentum=final_momentum)
        self.criterion = NTXentLoss(temperature, memory_bank_size=(queue, out))

    def loss(self, views: Views) -> Tensor:
        query = self.projection_head(self.backbone(views[0]))
        found: Tensor = self.criterion(query, self._followed(views[1]))
        return found


class BYOL(_Momentum):
    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        *,
        hidden: int,
        out: int,
        predictor_hidden: int,
        momentum: float,
        final_momentum: float,
    ) -> None:
        head = BYOLProjectionHead(width, hidden, out)
        super().__init__(backbone, head, momentum=momentum, final_momentum=final_momentum)
        self.prediction_head = BYOLPredictionHead(out, predictor_hidden, out)
        self.criterion = NegativeCosineSimilarity()

    def _predicted(self, view: Tensor) -> Tensor:
        found: Tensor = self.prediction_head(self.projection_head(self.backbone(view)))
        return found

    def loss(self, views: Views) -> Tensor:
        p0, z0 = self._predicted(views[0]), self._followed(views[0])
        p1, z1 = self._predicted(views[1]), self._followed(views[1])
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))


class SwaV(LightlyMethod):
    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        *,
        hidden: int,
        out: int,
        prototypes: int,
        temperature: float,
        epsilon: float,
    ) -> None:
        super().__init__(backbone)
        self.projection_head = SwaVProjectionHead(width, hidden, out)
        self.prototypes = SwaVPrototypes(out, n_prototypes=prototypes)
        self.criterion = SwaVLoss(temperature=temperature, sinkhorn_epsilon=epsilon)

    def before_step(self, epoch: int, epochs: int) -> None:
        super().before_step(epoch, epochs)
        self.prototypes.normalize()

    def _scores(self, view: Tensor) -> Tensor:
        x = self.projection_head(self.backbone(view))
        x = nn.functional.normalize(x, dim=1, p=2)
        found: Tensor = self.prototypes(x)
        return found

    def loss(self, views: Views) -> Tensor:
        scores = [self._scores(view) for view in views]
        found: Tensor = self.criterion(scores[:2], scores[2:])
        return found.squeeze()


class DINO(_Momentum):
    """Its `backbone` is the example's student, and what follows it the teacher, which is evaluated."""

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        *,
        hidden: int,
        bottleneck: int,
        out: int,
        momentum: float,
        final_momentum: float,
        teacher_temperature: float,
        frozen_epochs: int,
    ) -> None:
        head = DINOProjectionHead(width, hidden, bottleneck, out, freeze_last_layer=frozen_epochs)
        super().__init__(backbone, nn.Identity(), momentum=momentum, final_momentum=final_momentum)
        # The example draws the teacher's head anew; the paper's code copies it, as here.
        teacher = DINOProjectionHead(width, hidden, bottleneck, out)
        teacher.load_state_dict(head.state_dict())
        deactivate_requires_grad(teacher)
        self.projection_head, self.projection_head_momentum = head, teacher
        # The default temperature of the example does not rise; its schedule is there for other ones.
        self.criterion = DINOLoss(out, teacher_temperature, teacher_temperature, warmup_teacher_temp_epochs=1)

    def loss(self, views: Views) -> Tensor:
        teacher = [self._followed(view) for view in views[:2]]
        student = [self.projection_head(self.backbone(view)) for view in views]
        found: Tensor = self.criterion(teacher, student, epoch=self.epoch)
        return found

    def after_backward(self) -> None:
        self.projection_head.cancel_last_layer_gradients(current_epoch=self.epoch)

    def scored(self) -> nn.Module:
        return self.backbone_momentum


LIGHTLY: dict[str, Callable[..., LightlyMethod]] = {
    "simclr": SimCLR,
    "moco_v2": MoCoV2,
    "dcl": DCL,
    "nnclr": NNCLR,
    "byol": BYOL,
    "simsiam": SimSiam,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "swav": SwaV,
    "dino": DINO,
}


class Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """Arrays (N, H, W, 3) in memory, handed out as torchvision's CIFAR10 does, the examples' data."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], Any]) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), 0
