"""The protocols, one file each; see `base` for what one is and how one is added."""

from __future__ import annotations

from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol, ProtocolConfig

__all__ = ["PROTOCOLS", "Context", "Protocol", "ProtocolConfig"]
