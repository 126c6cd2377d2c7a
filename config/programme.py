"""Programmes: setpoints over time as one long task, as the file declares them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field as PydanticField,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import CoreSchema

from taskmaster.bus.text import FIELD_NAME, parse_duration
from taskmaster.config.base import Settings, setting
from taskmaster.config.parameters import Kind, ParameterSettings
from taskmaster.config.values import Constant, FieldName, duration, show

__all__ = ["ProgrammeSettings", "SetpointSettings", "StepSettings", "StopSettings"]


def _read_moment(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(FIELD_NAME, value):
        return value
    try:
        return parse_duration(value)  # type: ignore[arg-type]  # what else it may be is refused there
    except ValueError:
        raise ValueError(f"expected a duration such as '16 h' or the name of a parameter, got {show(value)}") from None


#: Seconds, or the parameter whose value it is, in that one's unit.
Moment = Annotated[
    float | str,
    BeforeValidator(_read_moment),
    WithJsonSchema({"type": ["number", "string"], "title": "duration or name of a parameter", "minimum": 0}),
]


#: Under a name of its own: a programme has a key `duration`.
Period = Annotated[float, duration("10 ms")]


class SetpointSettings(ParameterSettings):
    """One setpoint of a programme, by name: what the instrument is told, within these limits."""

    @field_validator("kind")
    @classmethod
    def _can_be_set(cls, kind: Kind) -> Kind:
        if kind == "any":
            raise ValueError("expected 'float', 'int', 'bool' or 'str', got 'any'")
        return kind

    @field_validator("shape")
    @classmethod
    def _is_one_value(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape:
            raise ValueError("a setpoint is a single value; remove it")
        return shape


class StepSettings(Settings):
    """One step. Its other keys are setpoints: `temperature = 25`, or the name of the parameter that says how much."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Constant]

    at: Moment = setting(
        "When it begins, from the beginning of the programme or, with `cycle`, of each round. The first is at 0 and "
        "names every setpoint.",
        example="16 h",
    )
    ramp: Moment = setting(
        "How long its setpoints take to get there, along a straight line. By default they are set at once.",
        default=0.0,
        shown="0 s",
    )


class StopSettings(Settings):
    """An output that ends the programme early."""

    output: FieldName = setting("Which output; it is looked at with every sample.", example="mass")
    above: float | None = setting("Ends when it is more than this, in its unit.", default=None)
    below: float | None = setting("Ends when it is less than this.", default=None, validate_default=True)

    @field_validator("below")
    @classmethod
    def _bounds_something(cls, below: float | None, info: ValidationInfo) -> float | None:
        if below is None and "above" in info.data and info.data["above"] is None:
            raise ValueError("nothing would end it; add above or below")
        return below


@dataclass(frozen=True)
class _OrOne:
    """Annotates an array of tables of which a single one may stand alone."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(schema)
        return {"title": "table or array of tables", "anyOf": [several["items"], several]}


def _read_stops(value: object) -> object:
    return (value,) if isinstance(value, dict) else value


Stops = Annotated[tuple[StopSettings, ...], PydanticField(strict=False), BeforeValidator(_read_stops), _OrOne()]


class ProgrammeSettings(Settings):
    """A task is a whole programme: `setpoints` over time, of which parameters say how long and how much."""

    duration: Moment = setting("How long it takes.", example="14 d")
    cycle: Period | None = setting(
        "The steps repeat after so long, until the programme is over. By default they do not.", default=None
    )
    steps: Annotated[tuple[StepSettings, ...], PydanticField(strict=False, min_length=1)] = setting(
        "What happens when, in this order."
    )
    update: Period = setting("How often setpoints are sent while they are on a ramp.", default=60.0, shown="1 min")
    sample: Period = setting(
        "How often the outputs are read: they are the progress of the task, and stored with it.",
        default=60.0,
        shown="1 min",
    )
    stop_when: Stops = setting(
        "Ends the programme early: a table, or a list of tables of which one is enough.", default=()
    )
    interruption: Literal["counts", "pauses"] = setting(
        "What becomes of the time in which it is interrupted (a connection lost, a restart, a stop): it has passed for "
        "the programme, too, as it has for a plant (`counts`), or the programme goes on where it was (`pauses`).",
        default="counts",
    )
    speed: Annotated[float, PydanticField(gt=0)] = setting(
        "Seconds of the programme in one second: more than 1 for rehearsals at simulated instruments.", default=1.0
    )
