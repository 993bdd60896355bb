"""Image encoders: timm's architectures, built, saved, loaded and run. Names load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sempairs.encoders.config import EncoderConfig

if TYPE_CHECKING:
    from sempairs.encoders.build import Encoder
    from sempairs.encoders.features import embed
    from sempairs.encoders.files import EncoderSpec, LoadedEncoder, load_encoder, save_encoder
    from sempairs.encoders.foreign import import_encoder
    from sempairs.encoders.start import build_encoder
    from sempairs.encoders.weights import weight_hash

__all__ = [
    "Encoder",
    "EncoderConfig",
    "EncoderSpec",
    "LoadedEncoder",
    "build_encoder",
    "embed",
    "import_encoder",
    "load_encoder",
    "save_encoder",
    "weight_hash",
]

_HOME = {
    "Encoder": "build",
    "build_encoder": "start",
    "embed": "features",
    "import_encoder": "foreign",
    "EncoderSpec": "files",
    "LoadedEncoder": "files",
    "load_encoder": "files",
    "save_encoder": "files",
    "weight_hash": "weights",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
