"""What a Master's parameters and outputs are, as the file declares them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field as PydanticField,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from taskmaster.config.base import Settings, setting
from taskmaster.config.values import show

if TYPE_CHECKING:
    from taskmaster.bus.fields import Field

__all__ = ["FieldSettings", "Kind", "OutputSettings", "ParameterSettings"]

Kind = Literal["float", "int", "bool", "str", "any"]
Choice = str | float | bool

_NUMBERS = ("float", "int")


def _kind_of(choices: object) -> Kind | None:
    """The kind whose values are listed; None where they have none in common, or there is no list."""
    if not isinstance(choices, (list, tuple)) or not choices:
        return None
    types = {type(choice) for choice in choices}
    kinds: dict[frozenset[type], Kind] = {
        frozenset({str}): "str",
        frozenset({bool}): "bool",
        frozenset({int}): "int",
        frozenset({float}): "float",
        frozenset({int, float}): "float",
    }
    return kinds.get(frozenset(types))


def _read_choices(value: Any) -> tuple[Choice, ...]:
    kind = _kind_of(value)
    if kind is None:
        raise ValueError(f"expected a list of values, all numbers, all text or all true/false, got {show(value)}")
    if kind == "float" and not all(map(math.isfinite, value)):
        raise ValueError(f"expected finite numbers, got {show(value)}")
    if len(set(value)) != len(value):
        twice = next(choice for i, choice in enumerate(value) if choice in value[:i])
        raise ValueError(f"{show(twice)} is listed twice")
    return tuple(value)


_CHOICES_SCHEMA = {
    "type": "array",
    "items": {"type": ["string", "number", "boolean"]},
    "minItems": 1,
    "uniqueItems": True,
}


class FieldSettings(Settings):
    """What parameters and outputs have in common. An empty table, `{}`, is any number."""

    kind: Kind = setting(
        "What a value is: a `float`, an `int`, a `bool`, a `str`, or `any` value that can be sent. "
        "With `choices` it follows from them.",
        default="float",
    )
    unit: str = setting("Its unit, for people and exports; `min` and `max` are in it.", default="")
    choices: Annotated[tuple[Choice, ...], PlainValidator(_read_choices), WithJsonSchema(_CHOICES_SCHEMA)] = setting(
        "The only values it may take, instead of `min` and `max`.", default=()
    )
    min: float | None = setting("Smallest value, inclusive.", default=None)
    max: float | None = setting("Largest value, inclusive.", default=None)
    shape: Annotated[tuple[Annotated[int, PydanticField(ge=-1)], ...], PydanticField(strict=False)] = setting(
        "Shape of one value that is an array: the length along each axis, -1 for any length. Empty: a single value.",
        default=(),
    )
    description: str = setting("What it is, for people.", default="")

    # The default is the subclasses' to say.
    nan: bool

    @model_validator(mode="before")
    @classmethod
    def _follow_choices(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            raise ValueError(f"expected a table such as {{ min = 0, max = 1 }}, got {show(table)}")  # noqa: TRY004
        kind = _kind_of(table.get("choices"))
        return {"kind": kind, **table} if kind else table

    @field_validator("choices")
    @classmethod
    def _fit_kind(cls, choices: tuple[Choice, ...], info: ValidationInfo) -> tuple[Choice, ...]:
        kind = info.data.get("kind")
        if not choices or kind is None:
            return choices
        if kind == "float" and _kind_of(choices) == "int":
            return tuple(float(choice) for choice in choices)
        if kind != _kind_of(choices):
            raise ValueError(f"expected values of kind {kind!r}, got {show(choices)}")
        return choices

    @field_validator("min", "max")
    @classmethod
    def _limit_a_number(cls, limit: float | None, info: ValidationInfo) -> float | None:
        kind = info.data.get("kind")
        if limit is None or kind is None:
            return limit
        if info.data.get("choices"):
            raise ValueError("cannot stand beside choices, which are all the values there are; remove one of the two")
        if kind not in _NUMBERS:
            raise ValueError(f"only numbers have limits, and kind is {kind!r}")
        if kind == "int" and limit != int(limit):
            raise ValueError(f"expected a whole number, as kind is 'int', got {show(limit)}")
        return limit

    @field_validator("max")
    @classmethod
    def _above_min(cls, maximum: float | None, info: ValidationInfo) -> float | None:
        minimum = info.data.get("min")
        if minimum is not None and maximum is not None and maximum < minimum:
            raise ValueError(f"expected at least min = {minimum:g}, got {maximum:g}")
        return maximum

    @field_validator("shape")
    @classmethod
    def _array_of_numbers(cls, shape: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if shape and info.data.get("choices"):
            raise ValueError("cannot stand beside choices: a choice is a single value")
        if shape and info.data.get("kind") in ("str", "any"):
            raise ValueError(f"only arrays of numbers or true/false have a shape, and kind is {info.data['kind']!r}")
        if 0 in shape:
            raise ValueError(f"an array of shape {show(list(shape))} has no values; write -1 for an axis of any length")
        return shape

    @field_validator("nan", check_fields=False)
    @classmethod
    def _nan_is_a_float(cls, nan: bool, info: ValidationInfo) -> bool:
        kind = info.data.get("kind")
        if nan and kind is not None and kind != "float":
            raise ValueError(f"only a 'float' can be NaN, and kind is {kind!r}")
        return nan

    def field(self, name: str, *, finite: bool = False) -> Field:
        """The same for the wire, under its name; if it is a number, a ``finite`` one."""
        from taskmaster.bus.fields import Field  # numpy with it, which a reader of settings does not need

        return Field(
            name=name,
            kind=self.kind,
            unit=self.unit,
            min=self.min,
            max=self.max,
            choices=self.choices,
            shape=self.shape,
            nan=self.nan and self.kind == "float",
            finite=finite and self.kind == "float",
            description=self.description,
        )


class ParameterSettings(FieldSettings):
    """One parameter, by name. An empty table, `{}`, is any number."""

    nan: bool = setting("Whether NaN is a value it may take.", default=False)


class OutputSettings(FieldSettings):
    """One output, by name. An empty table, `{}`, is any number."""

    nan: bool = setting("Whether NaN is a value it may take.", default=True)
