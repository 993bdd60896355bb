"""What a comparison of two encoders found: records, which the page and the command line show."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Example:
    """An image that one encoder has right and the other wrong. said: what each answered, where in words."""

    image_id: str
    truth: str
    said: tuple[str, str] | None


@dataclass(frozen=True)
class TaskComparison:
    """One task by its primary protocol and metric. values are A's and B's; the difference is B's minus A's.

    low, high: 95% percentile interval of the mean difference over images, whole units resampled. n: images;
    units: what is resampled. only_a, only_b, p: McNemar's exact test where outcomes are right or wrong, else
    None; it counts images as independent. cka: linear CKA of the two encoders' features of the scored images,
    None where one of them gives every image the same.
    """

    task: str
    protocol: str
    metric: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    n: int
    units: int
    only_a: int | None
    only_b: int | None
    p: float | None
    cka: float | None


@dataclass(frozen=True)
class Compared:
    """One task's comparison with what the page shows of it: examples, and pictures as data URIs."""

    result: TaskComparison
    a_wins: tuple[Example, ...]
    b_wins: tuple[Example, ...]
    thumbs: dict[str, str]
    neighbours: tuple[str, str]
    maps: tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """A whole comparison. names: of the encoders, A and B."""

    names: tuple[str, str]
    tasks: tuple[Compared, ...]


def points(result: TaskComparison) -> TaskComparison:
    """The same with values, difference and interval in points of a hundred, for people."""
    names = ("value_a", "value_b", "difference", "low", "high")
    return replace(result, **{name: 100 * getattr(result, name) for name in names})
