"""Tasks in doubt: what is asked about them, and an operator's word on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, UnknownTask
from taskmaster.bus.fields import Schema, shown
from taskmaster.bus.status import HeldTask
from taskmaster.bus.table import Buffer
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.arguments import LARGEST, Whole, text, whole
from taskmaster.learners.core import ClientCore
from taskmaster.learners.people import login, pack_output

__all__ = ["ACTIONS", "Resolution", "held_message"]

#: What can become of a task in doubt.
ACTIONS = ("done", "retry", "resume", "fail")


def held_message(master: str | None, run: Whole | None, known: Sequence[HeldTask]) -> m.ListHeld:
    """The question for the tasks in doubt that follow those that are ``known``."""
    return m.ListHeld(
        0,
        master,
        None if run is None else whole(run, "the number of a run", 0, LARGEST),
        (known[-1].run, known[-1].index) if known else (0, -1),
    )


class Resolution:
    """An operator's word on one task. Raises CallerError for one that makes no sense."""

    def __init__(
        self, run: Whole, index: Whole, action: str, output: Any, reason: str, attempt: Whole, who: str | None = None
    ) -> None:
        self._run = whole(run, "the number of a run", 0, LARGEST)
        self._index = whole(index, "the index of a task", 0, LARGEST - 1)
        self._attempt = whole(attempt, "the number of an attempt", 0, LARGEST)
        self._reason = text(reason, "a reason")
        self._who = login(who)
        self._action, self._output = action, output
        if action not in ACTIONS:
            raise CallerError(
                f"a task in doubt is not resolved by {shown(action)}{did_you_mean_or(str(action), ACTIONS)}"
            )
        if output is not None and action != "done":
            raise CallerError(f"a task that is resolved by {action!r} has no output; only with 'done' one is given")
        if reason and action != "fail":
            raise CallerError(f"the reason becomes the error of a task that failed; {action!r} takes none")

    @property
    def question(self) -> m.ListHeld:
        """Whether the task is in doubt, and since which attempt."""
        return m.ListHeld(0, None, self._run, (self._run, self._index - 1))

    def request(self, found: m.HeldList, daemon: ClientCore) -> tuple[m.Resolve, Sequence[Buffer]]:
        """What the daemon is told, after it has answered the :attr:`question`.

        It names the attempt, also where the caller did not, so that a repetition cannot be about a later doubt. Raises
        UnknownTask if the task is not in doubt, InvalidOutput for an output that is none of its Master's.
        """
        task = next(iter(found.tasks), None)
        if task is None or task.index != self._index:
            raise UnknownTask(
                f"run {self._run}: task {self._index} is not in doubt; 'taskmaster held' lists those that are"
            )
        table = None
        if self._action == "done":
            table = pack_output(Schema(daemon.master(task.master).outputs, task.master, "output"), self._output)
        attempt = self._attempt or task.attempt
        layout = table.layout if table is not None else None
        message = m.Resolve(0, self._run, self._index, self._action, layout, self._reason, attempt, self._who)
        return message, table.frames if table is not None else ()
