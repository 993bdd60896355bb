"""`speed.compile`: the networks of a method through torch.compile while they train."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import nn

from sempairs.errors import UserError
from sempairs.methods import Method

COMPILERS = ("g++", "clang++", "c++")


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which torch.compile needs for code that runs on the processor."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else COMPILERS))


def compile_networks(method: Method, device: torch.device) -> None:
    """Compiles encoder, heads, and the networks that follow them, each by itself; the loss stays as it is.

    In evaluation mode they run as they are: probes have other shapes, and compiling again costs more than it
    gives. Raises: UserError if `device` is the processor and there is no compiler.
    """
    if device.type == "cpu" and not has_compiler():
        remedy = f"install one of {', '.join(COMPILERS)}, or set speed.compile to false"
        raise UserError("speed.compile", "needs a C++ compiler", remedy=remedy)
    for network in method.children():
        if isinstance(network, Method):  # a second head, with networks of its own
            compile_networks(network, device)
        elif any(True for _ in network.parameters()):
            _compile(network)


def _compile(network: nn.Module) -> None:
    plain = network.forward
    fast = torch.compile(plain)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (fast if network.training else plain)(*args, **kwargs)

    network.forward = forward
