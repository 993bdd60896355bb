"""Encoders on disk: `encoder.safetensors` (names as in timm) beside `encoder.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sempairs import __version__
from sempairs.encoders.build import Encoder, build_network
from sempairs.encoders.config import EncoderConfig
from sempairs.encoders.weights import load_weights, read_weights, weight_hash
from sempairs.errors import UserError
from sempairs.files import atomic_write, read_json, write_json

WEIGHTS, SPEC = "encoder.safetensors", "encoder.json"
FORMAT = 1


@dataclass(frozen=True)
class EncoderSpec:
    """What `encoder.json` says. `mean` and `std` (R, G, B) are what images in [0, 1] were normalised with.

    exposure: SHA-256 of the record of what the encoder was shown, which lies beside it; None without one.
    """

    config: EncoderConfig
    width: int
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weight_hash: str
    sempairs: str
    exposure: str | None = None

    @property
    def input(self) -> dict[str, Any]:
        """How images are given to the encoder, as JSON values: numbers depend on it as on the weights."""
        return {"size": self.input_size, "mean": list(self.mean), "std": list(self.std)}


class LoadedEncoder(Encoder):
    """An encoder read from disk, in evaluation mode, with the `spec` it was saved under."""

    spec: EncoderSpec


def save_encoder(
    folder: str | Path,
    encoder: Encoder,
    config: EncoderConfig,
    input_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    exposure: str | None = None,
) -> Path:
    """Write `encoder.safetensors` and `encoder.json` into a folder, each atomically.

    The JSON is written last and names the weights' hash, so a crash in between is noticed on loading.

    Args:
        folder: Where both files go.
        encoder: The network.
        config: What it was built from.
        input_size: Side of its images in pixels.
        mean: Of the pixels, a channel each.
        std: Likewise.
        exposure: SHA-256 of `exposure.parquet` in the same folder, where what the encoder was shown is known.

    Returns:
        The path of `encoder.json`.

    Raises:
        UserError: if `config` is not the one the encoder was built from.
    """
    from safetensors.torch import save

    if _same_network(config) != _same_network(encoder.config):
        raise UserError("encoder.config", "must be the one the encoder was built from", config.arch)
    target = Path(folder)
    weights = {
        key: value.detach().to("cpu").contiguous() for key, value in encoder.model.state_dict().items()
    }
    with atomic_write(target / WEIGHTS) as temporary:
        # One key: with several, their order and so the file's bytes would differ from process to process.
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))
    spec = {
        "format": FORMAT,
        "sempairs": __version__,
        **_same_network(config),
        "width": encoder.width,
        "input_size": int(input_size),
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        "weight_hash": weight_hash(weights),
        **({"exposure": exposure} if exposure is not None else {}),
    }
    write_json(target / SPEC, spec)
    return target / SPEC


def load_encoder(path: str | Path) -> LoadedEncoder:
    """Load the encoder in a folder (or named by its `encoder.json`), on the CPU, in evaluation mode.

    Raises: UserError for missing or damaged files, and for weights that do not fit, naming the keys.
    """
    given = Path(path)
    file = given if given.suffix == ".json" else given / SPEC
    spec = read_spec(file)
    # The built weights are overwritten at once; the seed does not matter.
    built = build_network(spec.config, seed=0)
    if built.width != spec.width:
        raise UserError(f"{file}: width", f"must be {built.width} for {spec.config.arch}", spec.width)
    weights = read_weights(file.with_name(WEIGHTS))
    # Of a run that diverged, evaluation says so.
    load_weights(built.model, weights, where=str(file.with_name(WEIGHTS)), finite=False)
    if weight_hash(weights) != spec.weight_hash:
        raise UserError(f"{file}: weight_hash", f"is not that of {WEIGHTS}", remedy="export the encoder anew")
    built.check_input(spec.input_size)
    encoder = LoadedEncoder(built.model, spec.config, spec.width)
    encoder.spec = spec
    return encoder.eval()


def _same_network(config: EncoderConfig) -> dict[str, Any]:
    """The part of a config that decides the network; the weights it started from do not."""
    return config.model_dump(mode="json", exclude={"weights"})


def read_spec(file: Path) -> EncoderSpec:
    """What an `encoder.json` says. Raises: UserError if it is missing, or is not one."""
    if not file.is_file():
        raise UserError("encoder", f"must be a folder with {SPEC} and {WEIGHTS}", str(file.parent))
    data = read_json(file)
    try:
        if data["format"] != FORMAT:
            raise UserError(f"{file}: format", f"must be {FORMAT}", data["format"], "update sempairs")
        return EncoderSpec(
            config=EncoderConfig(arch=data["arch"], stem=data["stem"], options=data["options"]),
            width=int(data["width"]),
            input_size=int(data["input_size"]),
            mean=_colour(data["mean"]),
            std=_colour(data["std"]),
            weight_hash=str(data["weight_hash"]),
            sempairs=str(data["sempairs"]),
            exposure=None if data.get("exposure") is None else str(data["exposure"]),
        )
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(str(file), f"is not an encoder's description ({reason})") from None


def _colour(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
