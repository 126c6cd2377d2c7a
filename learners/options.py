"""Options of learners as text: the ``key=value`` of a command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import did_you_mean_or, nearest

__all__ = ["Options", "literal", "names", "yes"]

T = TypeVar("T")


class Options:
    """The ``key=value`` options of one learner: each is taken once, and :meth:`end` refuses what nobody took.

    With a ``prefix``, which messages put before their names, they are not the learner's but of what is around it.
    """

    def __init__(self, learner: str, options: Mapping[str, str], prefix: str = "") -> None:
        #: the name of the learner that they are of
        self.learner = learner
        self._prefix = prefix
        self._options = dict(options)
        self._taken: list[str] = []

    def take(self, key: str, convert: Callable[[str], T], expected: str) -> T | None:
        """Option ``key`` as ``convert`` reads it, None if it is not given. ``expected`` says in words what it must be.

        Raises CallerError where ``convert`` raises ValueError.
        """
        self._taken.append(key)
        text = self._options.pop(key, None)
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError:
            whose = "" if self._prefix else f" of learner {self.learner!r}"
            raise CallerError(f"option {self._prefix + key!r}{whose} must be {expected}, got {text!r}") from None

    def some(self, **wanted: tuple[Callable[[str], Any], str]) -> dict[str, Any]:
        """Those of several options that are given: each ``key=(convert, expected)`` as :meth:`take` takes it."""
        taken = {key: self.take(key, convert, expected) for key, (convert, expected) in wanted.items()}
        return {key: value for key, value in taken.items() if value is not None}

    def rest(self) -> dict[str, str]:
        """All that nobody took, for a library that knows its own options; they are taken with it."""
        rest, self._options = self._options, {}
        return rest

    def end(self) -> None:
        """Raise CallerError if an option is left that the learner does not have."""
        for key in self._options:
            if not self._prefix:
                hint = did_you_mean_or(key, self._taken, "it takes")
                raise CallerError(f"learner {self.learner!r} has no option {key!r}{hint}")
            near = nearest(key, self._taken)  # without the prefix, by which all are near
            known = [self._prefix + name for name in ([near] if near else self._taken)]
            there_are = f"around a learner (here {self.learner!r}) there are"
            hint = (
                did_you_mean_or(self._prefix + key, known) if near else f"; {there_are} {', '.join(map(repr, known))}"
            )
            raise CallerError(f"there is no option {self._prefix + key!r}{hint}")


def literal(text: str) -> Any:
    """What the text of an option stands for: a number, true, false or null, a list of them, else itself."""
    words = {"True": True, "False": False, "None": None}
    try:
        return words[text] if text in words else json.loads(text)
    except ValueError:
        return text


def yes(text: str) -> bool:
    """Yes or no, as people write it. Raises ValueError for anything else."""
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def names(text: str) -> list[str]:
    """Parts between commas. Raises ValueError for an empty one."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(text)
    return parts
