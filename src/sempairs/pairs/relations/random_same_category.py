"""The same top category, another concept: what pairs bring that know the label and nothing finer."""

from __future__ import annotations

from typing import Literal

from sempairs.catalog.taxonomy import top
from sempairs.pairs.config import RELATIONS, PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.rules import Rule, needed


@RELATIONS.register
class RandomSameCategory(PairsConfig):
    """Two images of one top category and of two concepts."""

    description = "two images of one top category and different concepts"

    relation: Literal["random_same_category"] = "random_same_category"

    def rule(self, index: ImageIndex) -> Rule:
        category = needed(index, "category", self).renamed(top)
        concept = needed(index, "concept", self)
        return Rule(category, concept, category, "no top category has different pictures of two concepts")
