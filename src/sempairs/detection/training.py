"""Taking steps. A step is a pure function of the state and the step's number, so a run can go on anywhere."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sempairs.detection.config import DetectionConfig
from sempairs.detection.data import Sample
from sempairs.detection.model import Detector
from sempairs.errors import UserError
from sempairs.keyed import torch_draws
from sempairs.runs.trackers import Log
from sempairs.training.optimisers import optimiser_state, parameter_kinds, restore_optimiser

_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is, and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def processes(device: str, config: DetectionConfig) -> Iterator[Processes]:
    """Joins the processes that torchrun started; alone without it.

    Raises: UserError for a device that is not there, a batch that cannot be shared out evenly, and statistics
    of batches that should be those of all processes on a device where torch has no SyncBN.
    """
    cuda = torch.cuda.is_available()
    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not cuda):
        raise UserError("--device", "must be auto, cpu, or cuda on a machine that has it", device)
    kind = "cuda" if cuda and device != "cpu" else "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, torch.device(kind))
        return
    if config.batch_size % world:
        raise UserError("batch_size", f"must be a multiple of the {world} processes", config.batch_size)
    if kind == "cpu" and config.trains_norm:
        remedy = "start it without torchrun, on GPUs, or with --set norm=fixed --set extra_norm=false"
        rule = "needs SyncBN for several processes, which torch has on GPUs only"
        raise UserError("normalisation", rule, kind, remedy)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda":
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        place = torch.device("cuda", local) if kind == "cuda" else torch.device("cpu")
        yield Processes(torch.distributed.get_rank(), world, place)
    finally:
        torch.distributed.destroy_process_group()


class Trainer:
    """A detector with its optimiser, SGD (He et al. 2020): warm-up, then a rate that falls at milestones."""

    def __init__(self, detector: Detector, config: DetectionConfig, seed: int, where: Processes) -> None:
        self.detector, self.config, self.seed, self.where = detector.to(where.device), config, seed, where
        kinds = parameter_kinds(detector)
        named = [(name, p) for name, p in detector.named_parameters() if p.requires_grad]
        groups = [
            {
                "params": [p for name, p in named if (kinds[name] == "norm") == is_norm],
                "weight_decay": config.norm_weight_decay if is_norm else config.weight_decay,
            }
            for is_norm in (False, True)
        ]
        self.optimiser = torch.optim.SGD(
            [group for group in groups if group["params"]], lr=config.lr, momentum=config.momentum
        )
        self._module: nn.Module = detector
        if where.world > 1:
            logging.getLogger("torch.nn.parallel").setLevel(logging.WARNING)
            # Running statistics are those of the first process where they are not synchronised anyhow.
            self._module = nn.parallel.DistributedDataParallel(
                detector, device_ids=[where.device.index] if where.device.type == "cuda" else None
            )

    def step(self, step: int, samples: Sequence[Sample]) -> Log:
        """One optimiser step, the `step`-th from 0; returns its losses and the rate.

        Raises: UserError for a loss that is not finite, before any weight is changed.
        """
        self.detector.train()
        rate = learning_rate(self.config, step)
        losses = self._losses(step, samples)
        total = torch.stack(list(losses.values())).sum()
        values = torch.stack([total, *losses.values()]).detach().tolist()
        numbers: Log = {**dict(zip(["loss", *losses], values, strict=True)), "lr": rate}
        if not math.isfinite(numbers["loss"]):
            remedy = "lower lr or lengthen warm_up, and start afresh"
            raise UserError("loss", f"must be finite at step {step + 1}", repr(numbers["loss"]), remedy)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        return numbers

    def renew_statistics(self, batches: Iterable[Sequence[Sample]], first: int) -> None:
        """Replaces the running statistics by their mean over batches (Wu & Johnson 2021, precise BN).

        first: number of the step that the first batch would be. Fixed statistics stay.
        """
        self.detector.train()
        norms = [m for m in self.detector.modules() if isinstance(m, _NORMS) and m.training]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        sums = [[torch.zeros_like(value) for value in _running(norm)] for norm in norms]
        count = 0
        with torch.no_grad():
            for norm in norms:
                norm.momentum = 1.0  # what is running is then what the last batch has
            for count, samples in enumerate(batches, 1):
                self._losses(first + count - 1, samples)
                for norm, totals in zip(norms, sums, strict=True):
                    for total, value in zip(totals, _running(norm), strict=True):
                        total += value
            for norm, momentum, totals in zip(norms, momenta, sums, strict=True):
                norm.momentum = momentum
                for total, value in zip(totals, _running(norm), strict=True):
                    value.copy_(total / max(count, 1))

    def _losses(self, step: int, samples: Sequence[Sample]) -> dict[str, Tensor]:
        device = self.where.device
        images = [sample.pixels.to(device).float() / 255 for sample in samples]
        targets = [{k: v.to(device) for k, v in sample.target().items()} for sample in samples]
        bf16 = torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16")
        # torchvision samples anchors and regions with the global generator.
        with torch_draws(self.seed, "detection sampling", f"{step} {self.where.rank}", device), bf16:
            losses: dict[str, Tensor] = self._module(images, targets)
        return {name: value.float() for name, value in losses.items()}

    def state(self) -> dict[str, Tensor]:
        """Every tensor that decides what comes next."""
        out = {f"detector/{name}": value for name, value in self.detector.state_dict().items()}
        kept = optimiser_state(self.optimiser, self.detector)
        return out | {f"optimiser/{name}": value for name, value in kept.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `state` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.detector.load_state_dict(part("detector/"))
        restore_optimiser(self.optimiser, self.detector, part("optimiser/"))


def _running(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


def learning_rate(config: DetectionConfig, step: int) -> float:
    """The rate of step `step` (from 0): from `warm_up_from` up in a line, then times gamma at milestones."""
    rate = config.lr * config.gamma ** sum(step >= milestone for milestone in config.milestones)
    if step < config.warm_up:
        done = step / config.warm_up
        rate *= config.warm_up_from * (1 - done) + done
    return rate
