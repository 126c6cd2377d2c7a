"""Heads that are lost in their tasks, daemons that end, and what they find when they are back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.heart import Heart, spec
from helpers.tips import TIPS, Tip
from taskmaster.bus import messages as m
from taskmaster.daemon.journal import Journal

__all__ = ["Disk", "ahead", "back", "lost"]


class Disk:
    """A journal, and the daemons that take up where it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.journal = self._open()

    def _open(self) -> Journal:
        journal = Journal(self._folder, "crash")
        journal.begin_epoch(0.0)
        return journal

    def heart(self, **options: Any) -> Heart:
        """A daemon with two heads, and what else is declared of their driver."""
        return Heart(spec("stm", "hold", heads=TIPS, options=options), journal=self.journal)

    def restart(self, heart: Heart) -> None:
        """The daemon ends without a word, and another takes up."""
        self.journal.close(in_order=False)
        self.journal = heart.journal = self._open()
        heart.restart({})


def lost(tip: Tip, *, begun: bool = True, since: float = 0.0) -> None:
    """Its guardian says that its worker has died, in its task."""
    at = tip.assignments.pop(0)
    tip.say(m.WorkerLost(tip.token, "WorkerLost", "it died", True, at.lease, ((at.lease, int(begun)),), None, since))


def back(heart: Heart, head: str) -> Tip:
    """Another worker for a head, at work."""
    tip = Tip(heart, head)
    tip.obey()
    return tip


def ahead(heart: Heart) -> tuple[Any, Tip]:
    """A head at quick tasks, which has been given some together, and some ahead of time."""
    run = heart.open("stm")
    run.put(*range(10))
    tip = back(heart, "tip-1")
    assert [at.indices for at in tip.assignments] == [[0]], "nobody knows yet how long they take"
    tip.report(tip.assignments.pop(), seconds=0.005)
    assert [at.indices for at in tip.assignments] == [[1, 2], [3, 4]]
    return run, tip
