"""View recipes: which operations make a training view, how strong and how often."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sempairs.config import Config
from sempairs.registry import Registry

Operation = Literal["crop", "flip", "jitter", "gray", "blur", "solarise"]
Background = Literal["white", "colour", "texture"]
OPERATIONS: tuple[str, ...] = get_args(Operation)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Side:
    """What differs between the two sides of an asymmetric recipe: probabilities."""

    blur: float
    solarise: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """The distribution of views. Factors are drawn from U[1 - s, 1 + s], the hue shift from U[-s, s] turns.

    crop_scale None shows the whole image. Sides that differ go to anchor and partner by a keyed coin; further
    global crops toss one each. Local crops have `local_scale`, and `local` for a side, which is DINO's and
    SwAV's where nothing else is said: blurred half the time, never solarised. All else is as for global ones.
    """

    name: str
    crop_scale: tuple[float, float] | None
    jitter_strength: tuple[float, float, float, float]  # brightness, contrast, saturation, hue
    sides: tuple[Side, Side]
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    gray: float = 0.2
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the output
    local_scale: tuple[float, float] | None = (0.05, 0.14)
    local: Side = Side(0.5)

    def of_local(self) -> Recipe:
        """The distribution of local crops, as if they were global ones."""
        return replace(self, crop_scale=self.local_scale, sides=(self.local, self.local))


RECIPES: Registry[Recipe] = Registry("views.recipe")

# Chen et al. 2020, arXiv:2002.05709, Appendix A, colour strength 1.
RECIPES.register(Recipe("simclr", (0.08, 1.0), (0.8, 0.8, 0.8, 0.2), (Side(0.5), Side(0.5))))
# Chen et al. 2020, arXiv:2003.04297; the reference code's numbers. SimSiam uses the same.
RECIPES.register(Recipe("moco-v2", (0.2, 1.0), (0.4, 0.4, 0.4, 0.1), (Side(0.5), Side(0.5))))
# Grill et al. 2020, arXiv:2006.07733, Appendix B; Barlow Twins and VICReg use the same.
RECIPES.register(Recipe("byol", (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), (Side(1.0, 0.0), Side(0.1, 0.2))))
# Caron et al. 2020, arXiv:2006.09882, Appendix A, and the reference code: SimCLR's colours; 2 global crops of
# 224 px, 6 local ones of 96 px.
RECIPES.register(Recipe("swav", (0.14, 1.0), (0.8, 0.8, 0.8, 0.2), (Side(0.5), Side(0.5))))
# Caron et al. 2021, arXiv:2104.14294, and the reference code's defaults: BYOL's colours and sides; 2 global
# crops of 224 px, 8 local ones of 96 px. For ResNet-50 its authors took SwAV's two scales.
RECIPES.register(
    Recipe(
        "dino", (0.4, 1.0), (0.4, 0.4, 0.2, 0.1), (Side(1.0, 0.0), Side(0.1, 0.2)), local_scale=(0.05, 0.4)
    )
)
# For small images, which a blur would rob of what they show.
RECIPES.register(
    Recipe(
        "lab",
        (0.2, 1.0),
        (0.4, 0.4, 0.4, 0.1),
        (Side(0.0), Side(0.0)),
        local_scale=(0.05, 0.4),
        local=Side(0.0),
    )
)


def _share(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError("must be two shares of the area, 0 < least <= most <= 1")
    return scale


Share = Annotated[tuple[float, float], AfterValidator(_share)]


class LocalConfig(Config):
    """Local crops: small views of small parts, for methods that take them beside global crops (multi-crop).

    count: of a pair; the first, third, ... show the anchor, the others the partner. size: in pixels, at most
    the global crops'. crop_scale: overrides the recipe's share of the area.
    """

    count: int = Field(default=6, ge=1, le=64)
    size: int = Field(default=16, ge=4)
    crop_scale: Share | None = None


class ViewsConfig(Config):
    """How training views are made.

    size: of a view, in pixels. without: operations left out; every other draw stays as it was. crop_scale:
    overrides the recipe's share of the area. jitter_strength: multiplies the recipe's four colour ranges.
    background: what shows through transparent pixels, drawn anew for each view unless white. local: crops
    beside the global ones; what is left out and the jitter's strength are theirs too.
    """

    recipe: str = "simclr"
    size: int = Field(default=32, ge=4, le=1024)
    without: tuple[Operation, ...] = ()
    background: Background = "white"
    crop_scale: Share | None = None
    jitter_strength: float = Field(default=1.0, ge=0.0)
    local: LocalConfig | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @field_validator("recipe")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RECIPES.names():
            raise ValueError(f"must be one of {', '.join(RECIPES.names())}")
        return name

    @field_validator("local")
    @classmethod
    def _smaller(cls, local: LocalConfig | None, info: ValidationInfo) -> LocalConfig | None:
        if local is not None and local.size > info.data.get("size", local.size):
            raise ValueError(f"must have crops of at most the size of global ones, {info.data['size']}")
        return local

    @field_validator("std")
    @classmethod
    def _spread(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError("must be above 0")
        return std

    @field_validator("jitter_strength")
    @classmethod
    def _hue_in_range(cls, strength: float, info: ValidationInfo) -> float:
        if "recipe" in info.data:
            most = 0.5 / RECIPES.get(info.data["recipe"]).jitter_strength[3]
            if strength > most:
                raise ValueError(f"must be at most {most:g} for {info.data['recipe']}, half a turn of hue")
        return strength

    def resolved(self) -> Recipe:
        """The recipe of global crops with this config's overrides and omissions."""
        recipe = RECIPES.get(self.recipe)
        left_out = set(self.without)
        brightness, contrast, saturation, hue = (s * self.jitter_strength for s in recipe.jitter_strength)
        first, second, local = (
            Side("blur" not in left_out and side.blur, "solarise" not in left_out and side.solarise)
            for side in (*recipe.sides, recipe.local)
        )
        of_local = self.local.crop_scale if self.local else None
        return replace(
            recipe,
            crop_scale=None if "crop" in left_out else self.crop_scale or recipe.crop_scale,
            jitter_strength=(brightness, contrast, saturation, hue),
            sides=(first, second),
            flip=0.0 if "flip" in left_out else recipe.flip,
            jitter=0.0 if "jitter" in left_out else recipe.jitter,
            gray=0.0 if "gray" in left_out else recipe.gray,
            local_scale=None if "crop" in left_out else of_local or recipe.local_scale,
            local=local,
        )
