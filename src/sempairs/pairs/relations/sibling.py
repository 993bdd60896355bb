"""An image of a different leaf under the same ancestor: fine-grained subclasses of one category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from sempairs.catalog.taxonomy import segments
from sempairs.errors import UserError
from sempairs.pairs.config import RELATIONS, PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.rules import Rule, needed


@RELATIONS.register
class Sibling(PairsConfig):
    """Two images of different leaf categories that share an ancestor. The root is nobody's ancestor."""

    description = "two images of different leaves under one ancestor"

    relation: Literal["sibling"] = "sibling"
    # Levels up from the leaf category to the ancestor that both images share.
    depth: Annotated[int, Field(ge=1)] = 1

    @property
    def label(self) -> str:
        return f"sibling({self.depth})"

    def identity(self) -> Mapping[str, Any]:
        return {"depth": self.depth}

    def rule(self, index: ImageIndex) -> Rule:
        leaf = needed(index, "category", self)
        ancestor = leaf.renamed(lambda path: _ancestor(path, self.depth))
        if not ancestor.known.any():
            deepest = max(len(segments(path)) for path in leaf.names)
            rule = f"needs category paths more than {self.depth} deep (the deepest here has {deepest})"
            remedy = "give nested categories such as animal/mammal/cat"
            raise UserError("pairs.relation sibling", rule, remedy=remedy)
        return Rule(ancestor, leaf, ancestor, f"no two leaf categories share the ancestor {self.depth} up")


def _ancestor(path: str, depth: int) -> str | None:
    parts = segments(path)
    return "/".join(parts[:-depth]) if len(parts) > depth else None
