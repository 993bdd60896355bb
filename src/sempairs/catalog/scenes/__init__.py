"""Scenes in which known drawings lie on varied grounds: detection data with exact boxes, and contexts."""

from sempairs.catalog.scenes.config import ScenesConfig
from sempairs.catalog.scenes.write import write_scenes

__all__ = ["ScenesConfig", "write_scenes"]
