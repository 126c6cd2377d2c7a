"""What a Loop tells of each of its steps, to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from taskmaster.bus.errors import CallerError, TaskCancelled, TaskFailed
from taskmaster.learners.results import Result

if TYPE_CHECKING:
    from taskmaster.learners.loop import Loop

__all__ = ["HookLike", "Hooks", "as_hooks"]


class Hooks:
    """Override what is of interest; a Loop calls each at the step it is named after, in its own thread.

    What a hook raises ends :meth:`Loop.run`; the loop can be run again and goes on behind that step.
    """

    def started(self, loop: Loop) -> None:
        """The loop begins, or goes on."""

    def asked(self, loop: Loop, wanted: int, points: Sequence[Any]) -> None:
        """The learner was asked for ``wanted`` points and gave these; where a run is gone on with, as then, too."""

    def put(self, loop: Loop, first: int, points: Sequence[Any]) -> None:
        """These points have become the tasks ``first``, ``first + 1``, …"""

    def told(self, loop: Loop, result: Result) -> None:
        """The learner was told the output of a result."""

    def failed(self, loop: Loop, result: Result, error: TaskFailed | TaskCancelled) -> None:
        """A point ended without an output, and will not be put again; the learner was told so if it has a ``fail``."""

    def retried(self, loop: Loop, result: Result, tries: int) -> None:
        """A point has failed for the ``tries``-th time and is put again."""

    def result(self, loop: Loop, result: Result) -> None:
        """After each result, whatever came of it: behind :meth:`told`, :meth:`failed` or :meth:`retried`."""

    def ended(self, loop: Loop, error: BaseException | None) -> None:
        """The loop ends: its goal is reached or it was interrupted, or by this error."""


class _Function(Hooks):
    """A function of the loop and a result."""

    def __init__(self, function: Callable[[Loop, Result], object]) -> None:
        self.function = function

    def result(self, loop: Loop, result: Result) -> None:
        self.function(loop, result)


class _Several(Hooks):
    """Several hooks, one after the other."""

    def __init__(self, hooks: Iterable[Hooks]) -> None:
        self._hooks = tuple(hooks)

    def started(self, loop: Loop) -> None:
        for hooks in self._hooks:
            hooks.started(loop)

    def asked(self, loop: Loop, wanted: int, points: Sequence[Any]) -> None:
        for hooks in self._hooks:
            hooks.asked(loop, wanted, points)

    def put(self, loop: Loop, first: int, points: Sequence[Any]) -> None:
        for hooks in self._hooks:
            hooks.put(loop, first, points)

    def told(self, loop: Loop, result: Result) -> None:
        for hooks in self._hooks:
            hooks.told(loop, result)

    def failed(self, loop: Loop, result: Result, error: TaskFailed | TaskCancelled) -> None:
        for hooks in self._hooks:
            hooks.failed(loop, result, error)

    def retried(self, loop: Loop, result: Result, tries: int) -> None:
        for hooks in self._hooks:
            hooks.retried(loop, result, tries)

    def result(self, loop: Loop, result: Result) -> None:
        for hooks in self._hooks:
            hooks.result(loop, result)

    def ended(self, loop: Loop, error: BaseException | None) -> None:
        for hooks in self._hooks:
            hooks.ended(loop, error)


#: A function is called as :meth:`Hooks.result` is.
HookLike: TypeAlias = "Hooks | Callable[[Loop, Result], object] | Sequence[Hooks | Callable[[Loop, Result], object]]"


def as_hooks(hook: HookLike | None) -> Hooks | None:
    """One object for all that a caller gave; None if that is nothing. Raises CallerError for what is no hook."""
    if hook is None or isinstance(hook, Hooks):
        return hook
    if isinstance(hook, type) and issubclass(hook, Hooks):
        raise CallerError(f"a hook is an object, not a class: give {hook.__name__}()")
    if callable(hook):
        return _Function(hook)
    given: Any = hook
    if isinstance(given, str) or not isinstance(hook, Sequence):
        raise CallerError(
            f"a hook is a function of the loop and a result, or Hooks, or several in a list; not {hook!r}"
        )
    several = [made for one in hook if (made := as_hooks(one)) is not None]
    return _Several(several) if several else None
