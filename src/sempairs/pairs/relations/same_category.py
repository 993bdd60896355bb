"""Another image of the same leaf category."""

from __future__ import annotations

from typing import Literal

from sempairs.pairs.config import RELATIONS, PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.rules import Rule, needed


@RELATIONS.register
class SameCategory(PairsConfig):
    """Two images whose category is equal down to its leaf."""

    description = "two images of one leaf category"

    relation: Literal["same_category"] = "same_category"

    def rule(self, index: ImageIndex) -> Rule:
        category = needed(index, "category", self)
        return Rule(category, None, category, "no category has two different pictures")
