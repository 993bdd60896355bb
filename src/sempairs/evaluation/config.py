"""Settings of an evaluation: its own, and those that protocols bring along.

The section `evaluation` of a study, and `--set` of `sempairs evaluate`, is one flat section. A few keys
belong to every evaluation; they are the fields here. Every other key is a field of the `Config` of some
protocol, of the package or of a plugin, under its own name. A name that several protocols have is one setting
that all of them take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sempairs.config import Config
from sempairs.precision import Precision, auto_precision
from sempairs.registry import Registry

if TYPE_CHECKING:
    from sempairs.evaluation.protocols.base import Protocol


class ProtocolConfig(Config):
    """The settings of a protocol, each with a default: keys of the section `evaluation`."""


C = TypeVar("C", bound=ProtocolConfig)
P = TypeVar("P", bound="type[Protocol]")


class Protocols:
    """All protocols by name, and the settings that they bring along."""

    def __init__(self) -> None:
        self._registry: Registry[Protocol] = Registry("protocol", "sempairs.evaluation.protocols")
        self._owners: dict[str, list[type[ProtocolConfig]]] = {}

    def register(self, protocol: P) -> P:
        """Decorator that files a protocol under the name its class states.

        Raises: ValueError if it states none, or the name is taken; if a setting has no default, is called as
        one of every evaluation, or as one that has another type in another protocol.
        """
        owners = dict(self._owners)
        for name, field in protocol.Config.model_fields.items():
            what = f"protocol {protocol.name!r}: the setting {name!r}"
            if field.is_required():
                raise ValueError(f"{what} needs a default")
            if name in EvaluationConfig.model_fields:
                raise ValueError(f"{what} is called as one that every evaluation has")
            known = owners.get(name, [])
            if known and _type_of(known[0].model_fields[name]) != _type_of(field):
                types = [_type_of(each)[0] for each in (field, known[0].model_fields[name])]
                raise ValueError(
                    f"{what} is {types[0]}, and {types[1]} in {known[0].__name__}: one name, one type"
                )
            owners[name] = [*known, *([] if protocol.Config in known else [protocol.Config])]
        self._registry.register(protocol())
        self._owners = owners
        return protocol

    def get(self, name: str) -> Protocol:
        """The protocol called `name`. Raises: UserError that lists the choices and suggests the nearest."""
        return self._registry.get(name)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return self._registry.names()

    def settings(self) -> dict[str, FieldInfo]:
        """The settings of all protocols by name; of a shared one, as the first has it."""
        self.names()  # all are registered then
        return {name: owners[0].model_fields[name] for name, owners in self._owners.items()}

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Settings as JSON values, checked by the protocols that have them.

        Null is as if it were not given, where it is no value. Raises: ValidationError that names the key.
        """
        known = self.settings()
        for key, value in given.items():
            if key not in known:
                error: Any = {"type": "extra_forbidden", "loc": (key,), "input": value}
                raise ValidationError.from_exception_data("evaluation", [error])
        kept = {key: value for key, value in given.items() if value is not None or _optional(known[key])}
        found: dict[str, Any] = {}
        for config in dict.fromkeys(config for key in kept for config in self._owners[key]):
            own = {key: value for key, value in kept.items() if key in config.model_fields}
            found |= config.model_validate(own).model_dump(mode="json", include=set(own))
        return {key: found[key] for key in kept}


#: The protocols, by their names.
PROTOCOLS = Protocols()


class EvaluationConfig(Config):
    """How tasks are run. Settings of protocols are keys too; those left out are as each protocol has them."""

    model_config = ConfigDict(extra="allow")

    max_fit_images: Annotated[int, Field(ge=10)] | None = None
    """At most so many images to fit on (validation included), a keyed stratified subset; null: all."""
    folds: Annotated[int, Field(ge=3, le=20)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 3
    """Repeats of the stratified folds of small sets (stamps, digits)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Key of splits, folds and subsets. Not the run's seed: every run is scored on the same images."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Arithmetic of the encoder's forward pass; features are float32 in both. auto: bf16 where the device has
    instructions for it; results, and their settings hash, have what it took."""
    near_copies: Annotated[float, Field(ge=0, le=1)] | None = None
    """At most this share of the scored images may be near-copies of what pretraining has seen; they are
    listed in the result. More refuse the task; 1 goes on knowingly. null: .1 where pretraining and task name
    one source, whose splits are its own (emoji-pairs has .06: clocks and arrows that are each other's mirror
    images), .01 elsewhere. No part of the settings hash: the numbers stay the same."""

    @model_validator(mode="after")
    def _of_protocols(self) -> Self:
        if self.__pydantic_extra__:
            read = PROTOCOLS.read(self.__pydantic_extra__)
            self.__pydantic_extra__.clear()
            self.__pydantic_extra__.update(read)
        return self

    @classmethod
    def known_fields(cls) -> dict[str, FieldInfo]:
        """Its own, and the settings of all protocols."""
        return {**cls.model_fields, **PROTOCOLS.settings()}

    def of(self, config: type[C]) -> C:
        """The settings of a protocol: those given, and its defaults. config: its `Config`."""
        given = self.__pydantic_extra__ or {}
        return config.model_validate({key: given[key] for key in given if key in config.model_fields})

    def settled(self, device: str) -> EvaluationConfig:
        """With the precision that `auto` takes on a device."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": auto_precision(device)})

    @property
    def settled_precision(self) -> Precision:
        """The precision of a settled config."""
        assert self.precision != "auto"
        return self.precision


def _type_of(field: FieldInfo) -> tuple[str, str]:
    """What a setting may be, as texts that are equal where it may be the same."""
    return repr(field.annotation), repr(field.metadata)


def _optional(field: FieldInfo) -> bool:
    return field.annotation is Any or type(None) in getattr(field.annotation, "__args__", ())
