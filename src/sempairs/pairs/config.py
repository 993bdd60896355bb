"""What a set of pairs is asked to be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from sempairs.config import Config

Relation = Literal[
    "augmented", "same_category", "sibling", "cross_domain", "random_same_category", "neighbour", "listed"
]
Arm = Literal["semantic", "augmented", "image_matched"]
Probability = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]


class PairsConfig(Config):
    """Which two images form a pair. All arms derive from one semantic set and differ in `arm` alone.

    fixed: N pairs, no image in two of them. redrawn: a pool of images, each an anchor once an epoch, whose
    partner is drawn anew each epoch.
    """

    relation: Relation
    mode: Literal["fixed", "redrawn"] = "fixed"
    # augmented: every partner is the anchor itself. image_matched: so too, but the anchors are taken from all
    # the images the semantic arm shows.
    arm: Arm = "semantic"
    # sibling: levels up from the leaf category to the ancestor that both images share.
    depth: Annotated[int, Field(ge=1)] = 1
    # Probability that a pair is the semantic one rather than the anchor with itself.
    mixed: Probability | None = None
    # Share of the anchors, exact, whose partner is of another category, the same all through training.
    corrupted: Probability | None = None
    # At most so many pairs an epoch. A redrawn pool may hold a few less: all its images need a partner in it;
    # it keeps every class while count is at least two images a class.
    count: Annotated[int, Field(ge=1)] | None = None
    # At most so many pairs an epoch of one class: the finest category that both images of a pair share.
    per_class: Annotated[int, Field(ge=1)] | None = None
    # listed: CSV or Parquet with columns anchor and partner (and score), or a folder `pairs build` wrote.
    file: str | None = None
    # cross_domain: the column in which the two images differ.
    domain_column: str = "domain"
    # cross_domain: what they share. Left out: the concept, or the category where no image has a concept.
    meaning: Literal["concept", "category"] | None = None
    # neighbour: the table `sempairs embed` wrote, and which of its neighbours make a pair.
    embeddings: str | None = None
    # Each image's nearest ones; near-duplicates and copies take no place among them.
    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    min_similarity: Cosine = 0.5
    # Images more alike than this are near-duplicates and never a pair.
    max_similarity: Cosine = 0.98
    # Each image is among the nearest of the other, not of one only.
    mutual: bool = True
    # At most so many partners an image, the most similar first. Fixed pairs have one anyway.
    max_partners: Annotated[int, Field(ge=1)] | None = None
    # An image that mining leaves without a partner: no anchor, or an anchor paired with itself, so that the
    # mined pairs join the augmented ones of all images.
    alone: Literal["leave_out", "pair_with_itself"] = "leave_out"
    # A use of labels: true keeps neighbours of one leaf category, false those of two, null looks at none.
    same_category: bool | None = None
    # auto: exact below 50,000 images, IVF above.
    index: Literal["auto", "exact", "ivf", "hnsw"] = "auto"
    # The share of the true neighbours that IVF and HNSW have to find.
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.95
    # The seed of the set of pairs, which runs share. Partners drawn anew use the run's own seed.
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @field_validator("arm")
    @classmethod
    def _image_matched_is_fixed(cls, arm: Arm, info: ValidationInfo) -> Arm:
        if arm == "image_matched" and info.data.get("mode") == "redrawn":
            raise ValueError(
                "must not be image_matched for redrawn pairs: there both arms show the same images"
            )
        return arm

    @field_validator("corrupted")
    @classmethod
    def _one_modifier(cls, corrupted: float | None, info: ValidationInfo) -> float | None:
        if corrupted is not None and info.data.get("mixed") is not None:
            raise ValueError("must be left out where mixed is given")
        return corrupted

    @field_validator("file")
    @classmethod
    def _file_of_a_list(cls, file: str | None, info: ValidationInfo) -> str | None:
        if (file is not None) != (info.data.get("relation") == "listed"):
            raise ValueError("must be given for the relation listed, and for no other")
        return file

    @field_validator("embeddings")
    @classmethod
    def _embeddings_of_neighbours(cls, embeddings: str | None, info: ValidationInfo) -> str | None:
        if (embeddings is not None) != (info.data.get("relation") == "neighbour"):
            raise ValueError("must be given for the relation neighbour, and for no other")
        return embeddings

    @field_validator("alone")
    @classmethod
    def _alone_among_all(cls, alone: str, info: ValidationInfo) -> str:
        if alone == "pair_with_itself":
            if info.data.get("relation") != "neighbour":
                raise ValueError("must be leave_out for a relation other than neighbour")
            if info.data.get("count") is not None or info.data.get("per_class") is not None:
                raise ValueError("must be leave_out where count or per_class limits the pairs")
        return alone

    @field_validator("max_similarity")
    @classmethod
    def _a_range_of_similarity(cls, most: float, info: ValidationInfo) -> float:
        if most <= info.data.get("min_similarity", -2):
            raise ValueError("must be above min_similarity")
        return most


class PairsSection(Config):
    """The pairs section of a recipe on its own, so that errors name its fields as `pairs.…`."""

    pairs: PairsConfig
