"""A pull of the encoder to the weights it started from. Li, Grandvalet & Davoine 2018, arXiv:1802.01483.

L2-SP: Ω(w) = α/2 ‖w − w⁰‖², over the trainable parameters of the encoder, in the place of their weight decay;
the heads, which begin anew, keep theirs. The paper recommends it as the baseline of penalties for going on.
Departure: with AdamW the pull is decoupled, w ← w − lr·α·(w − w⁰) before the step, as its weight decay is
(Loshchilov & Hutter 2019, arXiv:1711.05101): a gradient α(w − w⁰) would be divided by the size of others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

TRUNK = "encoder."


def trunk(method: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters of the encoder of a method."""
    return [p for name, p in method.named_parameters() if name.startswith(TRUNK) and p.requires_grad]


class Pull:
    """Of the encoder inside a method, to the weights that it has now. strength: α."""

    def __init__(self, method: nn.Module, strength: float) -> None:
        self.strength = strength
        self.parameters = trunk(method)
        self.start = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def measures(self) -> dict[str, Tensor]:
        """pull: Ω(w), (). moved: ‖w − w⁰‖ / ‖w⁰‖, ()."""
        away = torch._foreach_sub(list(self.parameters), self.start)
        distance, size = (torch.nn.utils.get_total_norm(values) for values in (away, self.start))
        return {"pull": self.strength / 2 * distance**2, "moved": distance / size}

    @torch.no_grad()
    def apply(self, optimiser: Optimizer) -> None:
        """Once a step, after the rates are set and before the optimiser's own: adds α(w − w⁰) to the
        gradients or, for AdamW, moves the weights."""
        if isinstance(optimiser, AdamW):
            rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
            for parameter, start in zip(self.parameters, self.start, strict=True):
                if parameter.grad is not None:
                    parameter.lerp_(start, rates[id(parameter)] * self.strength)
            return
        for parameter, start in zip(self.parameters, self.start, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self.strength)
