"""What keeps an instrument safe and watched: interlocks, monitored values, watchdogs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as PydanticField, ValidationInfo, field_validator

from taskmaster.config.base import Conflict, Settings, setting
from taskmaster.config.sent import Commands
from taskmaster.config.values import Command, Constant, Member, Name, Regex, duration

__all__ = [
    "InterlockSettings",
    "MethodInterlock",
    "MethodMonitor",
    "MethodWatchdog",
    "MonitorSettings",
    "QueryInterlock",
    "QueryMonitor",
    "QueryWatchdog",
    "ReconnectSettings",
]

_QUERY = "What is asked."
_PATTERN = "Finds the value in the answer: its group, or all that matches. By default the whole answer."
_METHOD = "The property, parameter or method whose value is looked at."


class InterlockSettings(Settings):
    """A value that is polled, during a task between its commands. Out of bounds, or not to be had, it trips."""

    every: Annotated[float, duration("10 ms")] = setting("How often it is polled.", default=1.0, shown="1 s")
    head: Name | None = setting("The head where it is polled. By default each, for itself.", default=None)
    min: float | None = setting("Smallest value that does not trip.", default=None)
    max: float | None = setting("Largest value that does not trip.", default=None)
    equals: Constant | None = setting("The only value that does not trip, instead of limits.", default=None)
    below: Name | None = setting("A head: the value must be less than the same value there.", default=None)
    above: Name | None = setting("A head: the value must be more than the same value there.", default=None)
    action: Literal["pause", "safe", "stop"] = setting(
        "What happens when it trips: the Master starts no more tasks until `taskmaster resume` (`pause`), the head "
        "breaks off what it does and stays in its safe state until `taskmaster heads --in` (`safe`), or all heads of "
        "the Master do, as by `taskmaster stop`, until `taskmaster reset` (`stop`).",
        default="safe",
        validate_default=True,
    )

    @field_validator("max")
    @classmethod
    def _above_min(cls, maximum: float | None, info: ValidationInfo) -> float | None:
        minimum = info.data.get("min")
        if minimum is not None and maximum is not None and maximum < minimum:
            raise ValueError(f"expected at least min = {minimum:g}, got {maximum:g}")
        return maximum

    @field_validator("equals")
    @classmethod
    def _instead_of_limits(cls, equals: object, info: ValidationInfo) -> object:
        if equals is not None and (info.data.get("min") is not None or info.data.get("max") is not None):
            raise ValueError("cannot stand beside min or max; remove one of them")
        return equals

    @field_validator("below", "above")
    @classmethod
    def _another_head(cls, other: str | None, info: ValidationInfo) -> str | None:
        if other is not None and other == info.data.get("head"):
            raise ValueError(f"{other!r} is the head itself; name another one")
        return other

    # On the last of the keys: `info.data` has the others, where they are right by themselves.
    @field_validator("action")
    @classmethod
    def _bounds_something(cls, action: str, info: ValidationInfo) -> str:
        bounds = ("min", "max", "equals", "below", "above")
        if all(bound in info.data and info.data[bound] is None for bound in bounds):
            raise Conflict("min", "nothing would trip this interlock; add min, max, equals, below or above")
        return action


class QueryInterlock(InterlockSettings):
    """A value that is polled, during a task between its commands. Out of bounds, or not to be had, it trips."""

    query: Command = setting(_QUERY, example="TEMP?")
    pattern: Regex | None = setting(_PATTERN, default=None)


class MethodInterlock(InterlockSettings):
    """A value that is polled, during a task between its commands. Out of bounds, or not to be had, it trips."""

    method: Member = setting(_METHOD, example="temperature")


class MonitorSettings(Settings):
    """A value that is recorded, whatever else the head does; a task waits for one query at most."""

    every: Annotated[float, duration("50 ms")] = setting("How often it is recorded.", default=5.0, shown="5 s")
    retention: Annotated[float, duration("1 s")] = setting(
        "How long the journal keeps it.", default=7 * 86400.0, shown="7 d"
    )
    unit: str = setting("Its unit, for people and exports.", default="")


class QueryMonitor(MonitorSettings):
    """A value that is recorded, whatever else the head does; a task waits for one query at most."""

    query: Command = setting(_QUERY, example="TEMP?")
    pattern: Regex | None = setting(_PATTERN, default=None)


class MethodMonitor(MonitorSettings):
    """A value that is recorded, whatever else the head does; a task waits for one call at most."""

    method: Member = setting(_METHOD, example="temperature")


class ReconnectSettings(Settings):
    """Pauses between attempts to reach an instrument that has gone: each twice as long as the one before."""

    first: Annotated[float, duration("10 ms")] = setting("The first pause.", default=0.5, shown="0.5 s")
    longest: Annotated[float, duration("10 ms")] = setting(
        "The longest pause.", default=30.0, shown="30 s", validate_default=True
    )

    @field_validator("longest")
    @classmethod
    def _not_shorter(cls, longest: float, info: ValidationInfo) -> float:
        first = info.data.get("first", 0.0)
        if longest < first:
            raise ValueError(f"expected at least first = {first:g} s, got {longest:g} s")
        return longest


class _WatchdogSettings(Settings):
    every: Annotated[float, duration("10 ms")] = setting(
        "How often it is kept from acting; a third of the time that it waits, or less.", default=1.0, shown="1 s"
    )


class QueryWatchdog(_WatchdogSettings):
    """The instrument's own watchdog, which makes it safe when it hears nothing more."""

    arm: Annotated[Commands, PydanticField(min_length=1)] = setting(
        "Sent after `open`, to switch it on.", example="WDOG 5"
    )
    keep: Command | None = setting(
        "Sent as often as `every` says, for as long as the head may work. By default what stands in `arm`; a query "
        "(with a `?`) is answered.",
        default=None,
    )
    any_command: bool = setting(
        "Whether anything that is sent keeps it from acting, so that `keep` is needed only after so long a silence.",
        default=False,
    )
    disarm: Commands = setting("Sent once the head is known to be safe, and not before.", default=())


class MethodWatchdog(_WatchdogSettings):
    """The instrument's own watchdog, which makes it safe when it hears nothing more."""

    arm: Member = setting("The method that switches it on, called after `init`.", example="arm_watchdog")
    keep: Member | None = setting("The method called as often as `every` says. By default that of `arm`.", default=None)
    disarm: Member | None = setting("The method called before the head is closed.", default=None)
