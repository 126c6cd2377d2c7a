"""When submissions are acknowledged: at once, or in a moment, if events do not do it before. Sans-I/O, see `core`."""

from __future__ import annotations

import math

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Effects, Reply
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Runs

__all__ = ["Acknowledging"]

#: Tasks this short are acknowledged by their events …
QUICK_SECONDS = 0.001
#: … and by a message of its own this long after they were submitted.
ACKNOWLEDGE_SECONDS = 0.005


class Acknowledging:
    """The acknowledgements that are due to clients.

    Tasks that are out with workers and quickly done are acknowledged by their own events, which carry ``next_index``; a
    message of its own would only wake the client between its put and its result. In case no event comes through, one
    follows all the same.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        #: runs that took submissions, where to acknowledge them, and by when (None: not decided yet)
        self._owed: dict[int, tuple[bytes, float | None]] = {}
        #: when the next one that was put off is due
        self.due = math.inf

    def owe(self, run: Run, address: bytes) -> None:
        """A run has taken a submission from this address."""
        put_off = self._owed.get(run.id)
        self._owed[run.id] = (address, put_off[1] if put_off is not None else None)

    def forget(self, run_id: int) -> None:
        """A run is deleted."""
        self._owed.pop(run_id, None)

    def end_turn(self, now: float, out: Effects) -> None:
        """Acknowledge what is due."""
        self.due = math.inf  # also where the run to be acknowledged was deleted in this turn
        for run_id, (address, due) in list(self._owed.items()) if self._owed else ():
            run = self._runs[run_id]
            if due is None:
                quick = not run.queued and 0 < run.estimate.seconds < QUICK_SECONDS
                due = now + ACKNOWLEDGE_SECONDS if quick else now
            if due <= now:
                del self._owed[run_id]
                out.replies.append(Reply(address, m.Ack(run_id, run.next_index, run.writer)))
            else:
                self._owed[run_id] = (address, due)
                self.due = min(self.due, due)
