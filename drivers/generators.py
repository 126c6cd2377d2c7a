"""Evaluations that take their time: a function that returns its output, or a generator that yields progress."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import closing
from threading import Event
from typing import Any

from taskmaster.bus.errors import InvalidOutput
from taskmaster.drivers.instruments.errors import Stopped

__all__ = ["drive"]

#: Most outputs, of which no questions need be asked.
_PLAIN = frozenset({float, int, dict, tuple, list, str, type(None)})


def drive(
    evaluation: Any,
    progress: Callable[[Any], None],
    stopping: Event,
    between: Callable[[], object] = lambda: None,
) -> Any:
    """The output of what ``evaluate`` gave: either the output itself, or a generator that returns it at its end.

    A generator is advanced in the caller's thread; each value that it yields goes to ``progress``, and ``between`` is
    called after it. Before each step, ``stopping`` is looked at: once set, the generator is closed (its ``finally``
    blocks run) and `Stopped` raised. It is closed as well where ``progress`` or ``between`` raises; what the generator
    itself raises comes through.

    Raises InvalidOutput for what ``async def`` gives: nothing here would run it.
    """
    if type(evaluation) in _PLAIN:
        return evaluation
    if inspect.iscoroutine(evaluation):
        evaluation.close()
        raise InvalidOutput("evaluate is an async function; it has to be def evaluate, with its own event loop")
    if inspect.isasyncgen(evaluation):
        raise InvalidOutput("evaluate is an async generator; it has to be def evaluate, with its own event loop")
    if not isinstance(evaluation, Generator):
        return evaluation
    with closing(evaluation):
        while not stopping.is_set():
            try:
                value = next(evaluation)
            except StopIteration as end:
                return end.value
            progress(value)
            between()
    raise Stopped("the evaluation was stopped between two steps")
