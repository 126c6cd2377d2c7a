"""What the learner of a routed run was asked, until it is on record with one of the legs; see `merging`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskmaster.bus.messages import KEPT, Order
from taskmaster.learners.looping.legs import Leg

__all__ = ["Notes"]


class _Note(NamedTuple):
    """An ask."""

    asked: int
    order: Order
    #: of each leg the last of its own events that had been told then
    told: tuple[int, ...]


class Notes:
    """Numbers asks and tasks over all legs, and notes them with the legs that tasks are put to.

    ``number``, ``after`` and ``task`` are of the last ask that is on record, and of the task that is put next.
    """

    def __init__(self, legs: Sequence[Leg], number: int, after: int, task: int) -> None:
        self._legs = legs
        self._number = number
        self._after = after
        self._task = task
        #: asks that are not known to be on record, by their numbers; up to this one they are
        self._notes: dict[int, _Note] = {}
        self._recorded = self._dropped = number
        #: the legs of what has been told since the last ask
        self._told: list[int] = []
        for leg in legs:
            leg.noted, leg.following = number, -1

    def __len__(self) -> int:
        return len(self._notes)

    def on_told(self, leg: Leg) -> None:
        """A result of a leg was told."""
        self._told.append(leg.number)

    def on_ask(self, after: int, asked: int) -> None:
        """The learner was asked for ``asked`` points, when event ``after`` of all was the last that it was told."""
        self._number += 1
        self._after = after
        order = Order(self._number, after, self._task, tuple(self._told))
        self._notes[self._number] = _Note(asked, order, tuple(leg.told for leg in self._legs))
        self._told.clear()

    def before_put(self, leg: Leg) -> None:
        """A task is about to be put to a leg: what was asked before it is noted there, unless it is on disk already."""
        self._forget_recorded()
        self._note(leg)
        if (leg.noted, leg.following) != (self._number, self._task):
            leg.run.tasks.new_ask(leg.told, KEPT, Order(self._number, self._after, self._task))
            leg.noted, leg.following = self._number, self._task
        leg.behind.append((leg.run.next_index, self._number))

    def on_put(self, leg: Leg) -> None:
        """It was."""
        self._task += 1
        leg.following = self._task

    def hand_over(self) -> None:
        """Note what is not noted with any leg, though nothing is put, and the order of what was told since.

        It can be noted behind a task only: so it waits where there is none yet.
        """
        legs = [leg for leg in self._legs if leg.run.next_index]
        if legs and self._told:
            self.on_ask(self._after, KEPT)
        if legs:
            self._note(max(legs, key=lambda leg: leg.noted))

    def on_recorded(self) -> None:
        """What was noted with any leg is on disk."""
        self._recorded = max([leg.noted for leg in self._legs if leg.run.next_index], default=self._recorded)
        for leg in self._legs:
            leg.behind.clear()
        self._drop()

    def _note(self, leg: Leg) -> None:
        for number in range(max(leg.noted, self._recorded) + 1, self._number + 1):
            note = self._notes[number]
            leg.run.tasks.new_ask(note.told[leg.number], note.asked, note.order)
            leg.noted, leg.following = number, note.order.first

    def _forget_recorded(self) -> None:
        for leg in self._legs:
            recorded = leg.run.acknowledged
            while leg.behind and leg.behind[0][0] < recorded:
                self._recorded = max(self._recorded, leg.behind.popleft()[1])
        self._drop()

    def _drop(self) -> None:
        while self._dropped < self._recorded:
            self._dropped += 1
            self._notes.pop(self._dropped, None)
