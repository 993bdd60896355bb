"""What scenes are asked to be."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from sempairs.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=999_999)]


class ScenesConfig(Config):
    """Sizes of the image sets, and the ranges that every scene is drawn from, uniformly unless said."""

    train: Count = 1600
    val: Count = 400
    test: Count = 800
    # Scenes of test concepts drawn by held-out designers only.
    test_designers: Count = 400
    size: Annotated[int, Field(ge=32, le=2048)] = 160
    """Side of the square pictures, pixels."""
    classes: Annotated[int, Field(ge=1)] | tuple[str, ...] = 20
    """Categories to detect: a list, or the n with most training images (ties by name)."""
    objects: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1, le=50)]] = (1, 5)
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0, le=1)]] = (0.15, 0.5)
    """Longer side of an object as a share of the picture's, drawn uniformly in its logarithm."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Degrees to either side."""
    beyond: Share = 0.25
    """How much of an object's width or height may lie outside the picture."""
    visible: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Least share of an object's pixels that is neither covered nor outside; else it is placed anew."""
    clutter: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, le=50)]] = (0, 6)
    """Shapes of no class, below and between the objects."""
    textures: str | None = None
    """A source of pictures that grounds are made of, texture-pairs for instance; null: grounds are drawn.

    Each set of scenes takes those of its own split."""
    quality: Annotated[int, Field(ge=1, le=100)] = 92
    """Of the JPEG files."""
    contexts: Annotated[int, Field(ge=0, le=100)] = 0
    """Pictures of each training drawing alone, each on another ground, as a source for pretraining."""
    context_size: Annotated[int, Field(ge=16, le=1024)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("objects", "scale", "clutter"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be a range from low to high, got {low} to {high}")
        if not self.train + self.val + self.test + self.test_designers + self.contexts:
            raise ValueError("must ask for at least one scene or context")
        return self
