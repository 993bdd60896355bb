"""Recipes: frozen, typed, unknown keys rejected, read from YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from sempairs import plugins
from sempairs.errors import UserError, nearest, unknown
from sempairs.files import atomic_write
from sempairs.recipes import recipe_path
from sempairs.registry import UNKNOWN, Section
from sempairs.texts import read_text

C = TypeVar("C", bound=BaseModel)


class Config(BaseModel):
    """A frozen record of JSON values; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def known_fields(cls) -> dict[str, FieldInfo]:
        """Its keys, for the hint where one is misspelt; more than its fields where others add keys to it."""
        return dict(cls.model_fields)


class Duration(NamedTuple):
    """A length of training with its unit: "100 epochs" or "5000 steps"."""

    amount: float
    unit: str

    def steps(self, steps_per_epoch: int) -> int:
        """The length in optimiser steps, rounded to the nearest."""
        return round(self.amount * (steps_per_epoch if self.unit == "epochs" else 1))

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Reads "N epochs" or "N steps". Raises: ValueError otherwise."""
        if isinstance(value, Duration):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s+(epoch|step)s?\s*", str(value))
        if not match or (match[2] == "step" and not float(match[1]).is_integer()):
            raise ValueError('must be a length with its unit, like "100 epochs" or "5000 steps"')
        return cls(float(match[1]), f"{match[2]}s")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


class Ramp(NamedTuple):
    """A number that may change over training: `0.5`, or points of progress and value, `[[0, 0], [0.5, 1]]`.

    Between two points it moves along a straight line, before the first and after the last it stays. Two
    points at the same progress are a step, which counts from that progress on.
    """

    points: tuple[tuple[float, float], ...]

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(value for _, value in self.points)

    @property
    def constant(self) -> float | None:
        """The value, where it is the same all through training; else None."""
        return self.points[0][1] if len(set(self.values)) == 1 else None

    def mean(self, steps: int) -> float:
        """Its mean over the steps of a training of so many."""
        if self.constant is not None:
            return self.constant
        return math.fsum(self.at(step / steps) for step in range(steps)) / steps

    def at(self, progress: float) -> float:
        """The value when the share `progress`, in [0, 1], of the steps has been taken."""
        before = [point for point in self.points if point[0] <= progress]
        after = [point for point in self.points if point[0] > progress]
        if not before or not after:
            return before[-1][1] if before else after[0][1]
        (start, first), (end, last) = before[-1], after[0]
        return first + (last - first) * (progress - start) / (end - start)

    @classmethod
    def parse(cls, value: object) -> Ramp:
        """Reads a number, or a list of points. Raises: ValueError otherwise."""
        if isinstance(value, Ramp):
            return value
        points = [(0.0, value)] if _is_number(value) else value
        pairs = isinstance(points, list | tuple) and all(
            isinstance(point, list | tuple) and len(point) == 2 and all(map(_is_number, point))
            for point in points
        )
        if not pairs or not points:
            raise ValueError("must be a number, or points of progress and value, like [[0, 0], [0.5, 1]]")
        found = tuple((float(progress), float(number)) for progress, number in points)  # type: ignore[attr-defined]
        shares = [progress for progress, _ in found]
        if shares != sorted(shares) or not 0 <= shares[0] <= shares[-1] <= 1:
            raise ValueError("must have points in order of progress, from 0 to 1")
        if any(shares.count(progress) > 2 for progress in shares):
            raise ValueError("must have at most two points at one progress")
        return cls(found)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(cls._plain)
        )

    def _plain(self) -> Any:
        constant = len(self.points) == 1
        return self.points[0][1] if constant else [list(point) for point in self.points]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def load_config(cls: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read the recipe in a YAML file, or the one that comes along by that name, after `a.b=value` overrides.

    Raises: UserError, one line, for a missing or unreadable file and for every value out of its rule.
    """
    return validate(cls, override(read_yaml(path), overrides), where=Path(path).name)


def read_yaml(path: str | Path, what: str = "recipe") -> dict[str, Any]:
    """The mapping in a YAML file, or in the recipe that comes along under that name.

    what: it is called in messages. Raises: UserError.
    """
    path = recipe_path(path) if what == "recipe" else path
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError(what, "does not exist", str(path)) from None
    except (OSError, UnicodeError) as error:
        text_file = not isinstance(error, UnicodeError)
        reason = f"cannot be read ({error})" if text_file else "is not a text file"
        raise UserError(what, reason, str(path), "give a YAML file") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(what, f"is not YAML ({error})", str(path)) from None
    if not isinstance(data, dict):
        raise UserError(what, "must be a mapping of keys to values", str(path))
    return data


def override(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `data` with each `a.b=value` set; values are read as YAML. Raises: UserError."""
    out: dict[str, Any] = _copied(data)
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise UserError("--set", "must be key=value", item, "for example --set method.temperature=0.1")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {key}", "must be a YAML value", text) from None
        *parents, last = key.strip().split(".")
        place: Any = out
        for name in parents:
            if isinstance(place, dict):
                if place.get(name) is None:  # also a section that the file leaves null
                    place[name] = {}
                place = place[name]
        if not isinstance(place, dict):
            raise UserError(f"--set {key}", "must name a key inside sections", item)
        place[last] = value
    return out


def validate(cls: type[C], data: Mapping[str, Any], where: str = "") -> C:
    """`data` as a config, after the plugins it names are loaded.

    Raises: UserError, one line, naming the first field out of its rule.
    """
    named = data.get("plugins") if isinstance(data, Mapping) else None  # checked below, whatever it is
    if isinstance(named, list | tuple):
        plugins.load(named, f"{where}: plugins" if where else "plugins")
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise _one_line(cls, error, data, where) from None


def save_config(config: BaseModel, path: str | Path) -> None:
    """Writes a config as YAML, atomically; `load_config` gives it back equal."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _one_line(cls: type[BaseModel], error: ValidationError, data: Mapping[str, Any], where: str) -> UserError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or cls.__name__
    prefix = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(cls, first["loc"][:-1], data)
        near = nearest(str(first["loc"][-1]), known)
        remedy = f"did you mean {near!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return UserError(prefix + field, "is not a known key", remedy=remedy)
    if first["type"] == UNKNOWN:
        key, names = first["ctx"]["key"], first["ctx"]["names"]
        return unknown(f"{prefix}{field}.{key}", first["input"][key], names)
    if first["type"] == "missing":
        return UserError(prefix + field, "is required")
    rule = first["msg"].removeprefix("Value error, ")
    rule = rule.replace("Input should be", "must be").replace("Input must be", "must be")
    rule = re.sub("a valid (tuple|list)", "a list of values", rule)
    rule = re.sub("^[A-Z][a-z]+ should have (.*) after validation.*", r"must have \1", rule)
    if "dictionary" in rule:
        rule = "must be a section of keys"
    rule = rule.removesuffix(", unable to parse string as an integer")
    rule = rule.removesuffix(", got a number with a fractional part")
    return UserError(prefix + field, rule, first["input"])


def _keys_at(cls: type[BaseModel], loc: Sequence[Any], data: Any) -> set[str]:
    """Names of the fields of the section at `loc`, as far as types, and the names in `data`, tell."""
    current: set[type[BaseModel]] = {cls}
    listed: list[Section] = []  # of the members of the list that the last part named
    for part in loc:
        if isinstance(part, int):
            data = data[part] if isinstance(data, list | tuple) and part < len(data) else None
            current = {config for section in listed if (config := section.config_of(data))} or current
            continue
        data = data.get(part) if isinstance(data, Mapping) else None
        inside: set[type[BaseModel]] = set()
        listed = []
        for model in current:
            if field := _fields_of(model).get(str(part)):
                sections = [given for given in field.metadata if isinstance(given, Section)]
                for member in getattr(field.annotation, "__args__", ()):
                    about = getattr(member, "__metadata__", ())
                    listed += [given for given in about if isinstance(given, Section)]
                chosen = {config for section in sections if (config := section.config_of(data))}
                inside |= chosen or _models_in(field.annotation)
        current = inside or current
    return {name for model in current for name in _fields_of(model)}


def _fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return model.known_fields() if issubclass(model, Config) else dict(model.model_fields)


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {m for inner in getattr(annotation, "__args__", ()) for m in _models_in(inner)}


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
