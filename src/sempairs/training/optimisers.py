"""Optimisers: SGD and AdamW of torch (fused), and LARS over lists of tensors; each with its slow twin.

Biases and the parameters of normalisation layers are, by default, neither decayed nor (in LARS) rescaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from sempairs.methods import Method
from sempairs.training.pull import TRUNK
from sempairs.training.recipe import OptimiserConfig

Kind = Literal["norm", "bias", "weight"]

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class LARS(Optimizer):
    """SGD with momentum whose step is scaled layer by layer. You et al. 2017, arXiv:1708.03888, Alg. 1.

    For a parameter w of a group with `adapt`, with g its gradient and λ the weight decay,
    u = g + λw is scaled by η‖w‖ / ‖u‖ (1 where a norm is 0); the momentum buffer is v ← μv + u and
    w ← w − lr·v. Groups without `adapt` take plain SGD steps. With `clip_lr`, u is scaled by
    min(η‖w‖ / (lr‖u‖), 1): the layer's rate is min(η‖w‖ / ‖u‖, lr), the schedule's only where its own is
    greater (LARC: NVIDIA apex, parallel/LARC.py; solo-learn's clip_lr, solo/utils/lars.py).
    Departures: the denominator is ‖u‖ = ‖g + λw‖, as in SimCLR's code, where Alg. 1, apex and solo-learn have
    ‖g‖ + λ‖w‖; and lr multiplies v when it is applied, so that a schedule does not reach into the momentum
    (Goyal et al. 2017, arXiv:1706.02677, Eq. 9).
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        clip_lr: bool = False,
        adapt: bool = True,
        fused: bool = True,
    ) -> None:
        """fused: all tensors of a group in a few operations; otherwise one tensor after the other."""
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "clip_lr": clip_lr,
            "adapt": adapt,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.fused = fused

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in moved:
                if "momentum_buffer" not in self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            if self.fused and moved:
                self._update_all(moved, group)
            else:
                for parameter in moved:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update_all(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        updates = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        if group["adapt"]:
            weights = torch.stack(torch._foreach_norm(parameters))
            norms = torch.stack(torch._foreach_norm(updates))
            # On the device, without asking for the values: a look would stop the queue.
            scales = _trust_ratio(weights, norms, group)
            torch._foreach_mul_(updates, scales.unbind())
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, updates)
        torch._foreach_add_(parameters, buffers, alpha=-group["lr"])

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        update = gradient.add(parameter, alpha=group["weight_decay"])
        if group["adapt"]:
            update.mul_(_trust_ratio(parameter.norm(), update.norm(), group))
        buffer = self.state[parameter]["momentum_buffer"]
        buffer.mul_(group["momentum"]).add_(update)
        parameter.add_(buffer, alpha=-group["lr"])


def _trust_ratio(weights: Tensor, updates: Tensor, group: dict[str, Any]) -> Tensor:
    """What updates are scaled by, of their norms and those of the weights, any shape; 1 where a norm is 0."""
    ratio = group["trust"] * weights / updates
    if group["clip_lr"]:
        # At a rate of 0 the quotient is infinite, and nothing moves.
        ratio = (ratio / group["lr"]).clamp(max=1.0)
    return torch.where((weights > 0) & (updates > 0), ratio, 1.0)


def parameter_kinds(model: nn.Module) -> dict[str, Kind]:
    """What each trainable parameter of `model` is, by name: of a normalisation layer, a bias, or a weight."""
    kinds: dict[str, Kind] = {}
    for prefix, module in model.named_modules():
        norm = isinstance(module, NORMS) or "norm" in type(module).__name__.lower()
        for short, _ in module.named_parameters(recurse=False):
            name = f"{prefix}.{short}" if prefix else short
            kinds[name] = "norm" if norm else "bias" if short.endswith("bias") else "weight"
    return {name: kinds[name] for name, p in model.named_parameters() if p.requires_grad}


def build_optimiser(
    config: OptimiserConfig, method: Method, *, batch_size: int, fused: bool = True
) -> Optimizer:
    """The optimiser of a recipe over a method's parameters. fused: in few operations instead of many.

    A group for each of the method's own rules, parted into decayed and excluded parameters; it carries the
    rule as `lr_scale` and `constant_lr`, which `set_rates` reads. Where the recipe gives the encoder a rate
    or a pull of its own, its parameters have groups of their own, marked as `trunk`.
    """
    kinds = parameter_kinds(method)
    groups: list[dict[str, Any]] = []
    apart = config.encoder_scale.constant != 1 or config.pull > 0
    parts = [
        (
            group.rule,
            of_trunk,
            [p for p in group.parameters if (apart and p[0].startswith(TRUNK)) == of_trunk],
        )
        for group in method.param_groups()
        for of_trunk in ((False, True) if apart else (False,))
    ]
    for own, of_trunk, parameters in parts:
        rule = {"lr_scale": own.lr_scale, "constant_lr": own.constant_lr, "trunk": of_trunk}
        decayed = [p for name, p in parameters if kinds[name] not in config.exclude]
        excluded = [p for name, p in parameters if kinds[name] in config.exclude]
        if decayed:
            decay = 0.0 if of_trunk and config.pull else config.weight_decay
            groups.append({"params": decayed, "weight_decay": decay, **rule})
        if excluded:
            groups.append({"params": excluded, "weight_decay": 0.0, **rule})
            if config.name == "lars":
                groups[-1]["adapt"] = False
    lr = config.peak_lr(batch_size)
    if config.name == "lars":
        return LARS(
            groups, lr=lr, momentum=config.momentum, trust=config.trust, clip_lr=config.clip_lr, fused=fused
        )
    # torch takes either switch, never both.
    how: dict[str, bool] = {"fused": True} if fused else {"foreach": False}
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov, **how)
    return torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=config.eps, **how)


def set_rates(optimiser: Optimizer, *, peak: float, factor: float, trunk: float = 1.0) -> None:
    """Sets every group's learning rate for one step: peak × factor × its rule, and × `trunk` for the groups
    of the encoder."""
    for group in optimiser.param_groups:
        scale = group["lr_scale"] * (trunk if group["trunk"] else 1.0)
        group["lr"] = peak * scale * (1.0 if group["constant_lr"] else factor)


def optimiser_state(optimiser: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The state tensors of an optimiser as "parameter name:key"."""
    out: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            assert isinstance(value, Tensor), f"{key} of {name} is no tensor"
            out[f"{name}:{key}"] = value
    return out


def restore_optimiser(optimiser: Optimizer, model: nn.Module, saved: dict[str, Tensor]) -> None:
    """Puts back what `optimiser_state` gave.

    State shaped like its parameter takes the parameter's memory layout: fused kernels walk parameter and
    state in storage order, so state in another layout would be added to the wrong weights.
    """
    state: dict[str, dict[str, Tensor]] = {}
    for full, value in saved.items():
        name, _, key = full.rpartition(":")
        state.setdefault(name, {})[key] = value
    for name, parameter in model.named_parameters():
        for key, value in state.pop(name, {}).items():
            like = value.shape == parameter.shape
            home = torch.empty_like(parameter) if like else torch.empty_like(value, device=parameter.device)
            optimiser.state[parameter][key] = home.copy_(value)
    assert not state, f"optimiser state of unknown parameters: {sorted(state)[:3]}"
