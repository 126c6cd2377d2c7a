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
        #: runs that took submissions in this turn, and where to acknowledge them
        self._owed: dict[int, bytes] = {}
        #: those that were put off, and until when: in this order
        self._put_off: dict[int, tuple[bytes, float]] = {}
        #: when the next one that was put off is due
        self.due = math.inf

    def owe(self, run: Run, address: bytes) -> None:
        """A run has taken a submission from this address."""
        self._owed[run.id] = address

    def forget(self, run_id: int) -> None:
        """A run is deleted."""
        self._owed.pop(run_id, None)
        self._put_off.pop(run_id, None)

    def end_turn(self, now: float, out: Effects) -> None:
        """Acknowledge what is due."""
        for run_id, address in self._owed.items():
            run, put_off = self._runs[run_id], self._put_off.get(run_id)
            if put_off is not None:
                self._put_off[run_id] = address, put_off[1]
            elif not run.queued and 0 < run.estimate.seconds < QUICK_SECONDS:
                self._put_off[run_id] = address, now + ACKNOWLEDGE_SECONDS
            else:
                out.replies.append(Reply(address, m.Ack(run_id, run.next_index, run.writer)))
        self._owed.clear()
        self.due = math.inf
        while self._put_off:
            run_id, (address, due) = next(iter(self._put_off.items()))
            if due > now:
                self.due = due
                return
            del self._put_off[run_id]
            run = self._runs[run_id]
            out.replies.append(Reply(address, m.Ack(run_id, run.next_index, run.writer)))
