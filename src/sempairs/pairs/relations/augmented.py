"""An image with itself, seen twice: the pairs of instance discrimination."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sempairs.pairs.config import RELATIONS, PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.rules import Rule, by_own_labels, class_labels
from sempairs.pairs.select import Selection, compose, limited


@RELATIONS.register
class Augmented(PairsConfig):
    """Plain augmented pairs of any images. The matched baseline of a semantic set is its `arm: augmented`."""

    description = "an image with itself"
    one_image = True

    relation: Literal["augmented"] = "augmented"

    def rule(self, index: ImageIndex) -> Rule:
        return by_own_labels(index)

    def select(self, index: ImageIndex) -> Selection:
        rule = self.rule(index)
        anchor = limited(np.arange(len(index)), class_labels(index, rule), self)
        return compose(index, self, rule, anchor, anchor)
