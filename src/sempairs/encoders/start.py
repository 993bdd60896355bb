"""The encoder that a run goes on from: of a run, imported, of a package, or a file of weights.

`EncoderConfig.weights` names a folder with an encoder (of a run, or by `sempairs import`), its encoder.json
or encoder.safetensors, a safetensors file of a timm model, or `efficientnet-lite0`, which is a package.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sempairs.encoders.build import Encoder, build_network
from sempairs.encoders.config import SAVED, EncoderConfig
from sempairs.encoders.files import SPEC, WEIGHTS, EncoderSpec, load_encoder, read_spec
from sempairs.encoders.pretrained import NAME, load_efficientnet_lite
from sempairs.encoders.weights import load_weights, read_weights
from sempairs.errors import UserError


def build_encoder(config: EncoderConfig, *, seed: int) -> Encoder:
    """Build the encoder that `config` names, on the CPU, in float32, in training mode.

    The initial weights are a pure function of `seed` and the config; global random state is left as it was.
    Raises: UserError for an unknown architecture, options it does not take, a stem it cannot have, or a
    weights file that does not fit.
    """
    config = settled(config)
    encoder = build_network(config, seed=seed)
    if config.weights is not None:
        load_weights(encoder.model, starting_weights(config), where=config.weights)
    return encoder


def folder_of(weights: str) -> Path | None:
    """The folder of a sempairs encoder that `weights` names; None where it is something else."""
    path = Path(weights)
    folder = path if path.is_dir() else path.parent
    named = path.is_dir() or path.name in (SPEC, WEIGHTS)
    return folder.resolve() if named and (folder / SPEC).is_file() else None


def of_package(weights: str) -> bool:
    """Whether `weights` names the network that comes as a package; a file of that name goes first."""
    return weights == NAME and not Path(weights).exists()


def described(weights: str) -> EncoderSpec | None:
    """What is known of the encoder that `weights` names; None for a bare file of weights."""
    if of_package(weights):
        return load_efficientnet_lite().spec
    folder = folder_of(weights)
    return None if folder is None else read_spec(folder / SPEC)


def settled(config: EncoderConfig) -> EncoderConfig:
    """With the network that `weights` describes, where `arch` is "saved".

    Raises: UserError if nothing beside the weights says which network they are of.
    """
    if config.arch != SAVED:
        return config
    assert config.weights is not None
    spec = described(config.weights)
    if spec is None:
        path = Path(config.weights)
        rule = f"must be a folder with {SPEC}, or {NAME}, where arch is {SAVED}"
        remedy = "name the network in encoder.arch, or make an encoder of the file with `sempairs import`"
        raise UserError("encoder.weights", rule if path.exists() else "does not exist", str(path), remedy)
    network = spec.config
    return config.model_copy(update={"arch": network.arch, "stem": network.stem, "options": network.options})


def starting_weights(config: EncoderConfig) -> dict[str, Tensor]:
    """The tensors that `weights` names. Raises: UserError if they cannot be read."""
    assert config.weights is not None
    if of_package(config.weights):
        return dict(load_efficientnet_lite().model.state_dict())
    folder = folder_of(config.weights)
    if folder is not None:
        return dict(load_encoder(folder).model.state_dict())
    path = Path(config.weights)
    if path.is_file() and path.suffix != ".safetensors":
        rule = "must be a safetensors file, or a folder with an encoder"
        remedy = "make an encoder of it with `sempairs import`"
        raise UserError("encoder.weights", rule, str(path), remedy)
    return read_weights(path)


def differing_input(
    config: EncoderConfig, *, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> list[str]:
    """A line for each way in which images are given otherwise than to the encoder that a run goes on from."""
    spec = described(config.weights) if config.weights is not None else None
    if spec is None:
        return []
    lines = []
    for field, was, now in (("mean", spec.mean, mean), ("std", spec.std, std)):
        if any(abs(a - b) > 1e-3 for a, b in zip(was, now, strict=True)):
            shown = ", ".join(f"{value:g}" for value in was)
            lines.append(f"views.{field} is not that of the encoder it starts from: set it to [{shown}]")
    if size != spec.input_size:
        lines.append(
            f"views.size is {size}, and the encoder it starts from was made for images of {spec.input_size}"
        )
    return lines
