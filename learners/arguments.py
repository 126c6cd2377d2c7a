"""What callers give, made into what can travel, or refused where it was given.

A daemon refuses what does not fit its protocol in the protocol's words. Here it is said in the caller's.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import shown
from taskmaster.bus.text import did_you_mean_or
from taskmaster.bus.wanted import require_head

__all__ = [
    "LARGEST",
    "Where",
    "Whole",
    "check_since",
    "duration",
    "heads_wanted",
    "moment",
    "rank",
    "text",
    "whole",
    "wholes",
    "words",
]

#: What callers write for a whole number: Python's, numpy's, whatever says of itself that it is one.
Whole: TypeAlias = int | Any


#: What the daemon, its journal and every client of any language can hold.
LARGEST = 2**53
_HIGHEST_RANK = 2**31 - 1


def check_since(since: str) -> None:
    """Raise CallerError unless it is one of the two words."""
    if since not in ("start", "now"):
        raise CallerError(f"since must be 'start' or 'now', not {since!r}")


def rank(priority: Whole) -> int:
    """The priority of a run. Raises CallerError for what is none."""
    return whole(priority, "a priority", -_HIGHEST_RANK - 1, _HIGHEST_RANK)


def text(value: str, what: str) -> str:
    """A string that can be encoded. Raises CallerError naming ``what`` it was meant for."""
    if not isinstance(value, str):
        raise CallerError(f"{what} must be a string, not {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CallerError(f"{what} has a character that cannot travel: {shown(value)} ({error.reason})") from None
    return value


def whole(value: Whole, what: str, low: int, high: int) -> int:
    """A whole number, ``low`` and ``high`` included. Raises CallerError naming ``what`` it was meant for."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if not low <= number <= high:
        raise CallerError(f"{what} must be a whole number from {low} to {high}, not {shown(value)}")
    return number


def duration(value: float | Any, what: str) -> float:
    """Seconds, 0 or more. Raises CallerError naming ``what`` they were meant for."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not number >= 0:
        raise CallerError(f"{what} must be a number of seconds, not {shown(value)}")
    return number


def moment(value: float | datetime | None, what: str) -> float | None:
    """Seconds since 1970, of a datetime, too (one without a time zone is local time). Raises CallerError."""
    if value is None:
        return None
    return duration(value.timestamp() if isinstance(value, datetime) else value, what)


def wholes(values: Iterable[Whole], what: str, low: int, high: int) -> list[int]:
    """Several whole numbers. Raises CallerError for anything else."""
    if not isinstance(values, Iterable):
        raise CallerError(f"{what}: expected several, in a list for instance, not {shown(values)}")
    return [whole(value, what, low, high) for value in values]


def words(values: Mapping[str, str] | None, what: str) -> dict[str, str]:
    """A dict of strings, which may be left out. Raises CallerError for anything else."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise CallerError(f"{what} must be a dict of strings, not {shown(values)}")
    return {text(key, f"a key of {what}"): text(value, f"{what} {key!r}") for key, value in values.items()}


#: Which heads a task asks for: keys ``head`` and ``capability``.
Where: TypeAlias = Mapping[str, str]


def heads_wanted(where: Where | None, master: str, heads: Sequence[m.HeadName]) -> m.Where | None:
    """What a caller gives as ``where``, for a Master with these heads. Raises CallerError for what is wrong with it."""
    if where is None:
        return None
    if not isinstance(where, Mapping):
        raise CallerError(f'where has to be {{"head": …}} or {{"capability": …}}, not {shown(where)}')
    for key, value in where.items():
        if key not in ("head", "capability"):
            raise CallerError(f"where has no key {key!r}{did_you_mean_or(str(key), ('head', 'capability'), 'it has')}")
        if not isinstance(value, str) or not value or len(value) > 200:
            raise CallerError(f"the {key} of where has to be a name, not {shown(value)}")
    if not where:
        return None
    wanted = m.Where(**where)
    require_head(master, heads, wanted)
    return wanted
