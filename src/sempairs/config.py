"""Recipes: frozen, typed, unknown keys rejected, read from YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from sempairs.errors import UserError, nearest
from sempairs.files import atomic_write
from sempairs.texts import read_text

C = TypeVar("C", bound=BaseModel)


class Config(BaseModel):
    """A frozen record of JSON values; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


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


def load_config(cls: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """The recipe in a YAML file, after `a.b=value` overrides.

    Raises: UserError, one line, for a missing or unreadable file and for every value out of its rule.
    """
    return validate(cls, override(read_yaml(path), overrides), where=Path(path).name)


def read_yaml(path: str | Path, what: str = "recipe") -> dict[str, Any]:
    """The mapping in a YAML file. what: it is called in messages. Raises: UserError."""
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
    """`data` as a config. Raises: UserError, one line, naming the first field out of its rule."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise _one_line(cls, error, where) from None


def save_config(config: BaseModel, path: str | Path) -> None:
    """Writes a config as YAML, atomically; `load_config` gives it back equal."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _one_line(cls: type[BaseModel], error: ValidationError, where: str) -> UserError:
    first = error.errors()[0]
    # Tags of discriminated unions stand in `loc` without being keys of the recipe; harmless in a message.
    field = ".".join(str(part) for part in first["loc"]) or cls.__name__
    prefix = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(cls, first["loc"][:-1])
        near = nearest(str(first["loc"][-1]), known)
        remedy = f"did you mean {near!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return UserError(prefix + field, "is not a known key", remedy=remedy)
    if first["type"] == "missing":
        return UserError(prefix + field, "is required")
    rule = first["msg"].removeprefix("Value error, ")
    rule = rule.replace("Input should be", "must be").replace("Input must be", "must be")
    if "dictionary" in rule:
        rule = "must be a section of keys"
    rule = rule.removesuffix(", unable to parse string as an integer")
    rule = rule.removesuffix(", got a number with a fractional part")
    return UserError(prefix + field, rule, first["input"])


def _keys_at(cls: type[BaseModel], loc: Sequence[Any]) -> set[str]:
    """Names of the fields of the section at `loc`, as far as the types tell."""
    current: set[type[BaseModel]] = {cls}
    for part in loc:
        inside: set[type[BaseModel]] = set()
        for model in current:
            if str(part) in model.model_fields:
                inside |= _models_in(model.model_fields[str(part)].annotation)
        tagged = {model for model in current if _tag(model) == part}
        current = inside or tagged or current
    return {name for model in current for name in model.model_fields}


def _tag(model: type[BaseModel]) -> Any:
    """What a section calls itself in a union of sections: the default of its field `name`."""
    field = model.model_fields.get("name")
    return field.default if field else None


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {m for inner in getattr(annotation, "__args__", ()) for m in _models_in(inner)}


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
