"""The crops that a recipe asks for, and whether they suit its method and its encoder."""

from __future__ import annotations

from sempairs.encoders import Encoder
from sempairs.errors import UserError
from sempairs.methods import METHODS, PairObjective
from sempairs.training.recipe import PretrainRecipe


def crops_per_pair(recipe: PretrainRecipe) -> int:
    """How many views are made of each pair, local ones included."""
    pair = isinstance(recipe.objective, PairObjective)
    slots = METHODS.get(recipe.method.name).slots if pair else recipe.objective.slots
    return len(slots) + (recipe.views.local.count if recipe.views.local else 0)


def check_crops(recipe: PretrainRecipe, encoder: Encoder) -> None:
    """Raises: UserError for local crops where the method takes none, and sizes that the encoder does not."""
    encoder.check_input(recipe.views.size)
    local = recipe.views.local
    if local is None:
        return
    if not METHODS.get(recipe.method.name).takes_local:
        takers = [name for name in METHODS.names() if METHODS.get(name).takes_local]
        rule = f"is taken by {', '.join(takers)} only"
        raise UserError("views.local", rule, recipe.method.name, "set it to null")
    try:
        encoder.check_input(local.size)
    except UserError:
        rule = f"must be {recipe.views.size} for {recipe.encoder.arch}, made for one size of image"
        remedy = "set encoder.options.dynamic_img_size to true"
        raise UserError("views.local.size", rule, local.size, remedy) from None
