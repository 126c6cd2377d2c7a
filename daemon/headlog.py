"""What is said of a Master's heads: to people, louder where one is not safe for long, and on record. Sans-I/O."""

from __future__ import annotations

import math

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Effects, HeadChanged, HeadCounted
from taskmaster.daemon.head import Head

__all__ = ["HeadLog", "said_by"]

#: A head that cannot be brought to its safe state is told of again, louder, after so many seconds, and then whenever
#: that has lasted twice as long.
ESCALATE_SECONDS = 30.0
#: One that was told to stop is expected to have done so within this, …
STOP_SECONDS = 2.0
#: … and if it was ever reached, cannot be brought to its safe state after this.
SECURE_SECONDS = 30.0
#: What becomes of a head, as far as no alarm tells of it.
_SAID_OF = {"in": "put back", "out": "taken out of service", "quarantined": "put in quarantine"}
#: The kind of such alarms.
_UNSAFE = "unsafe_head"
#: Characters of an error that is kept.
_LONGEST_ERROR = 500


class HeadLog:
    """What is said of the heads of one Master."""

    def __init__(self, master: str) -> None:
        self._master = master

    def record(self, head: Head, what: str, reason: str, user: str, out: Effects) -> None:
        """What became of a head, and why, and who did it."""
        name, out_of = head.spec.name, (head.out, head.quarantined)
        if what in _SAID_OF:
            why = said_by(user, reason) if user else reason
            self.remark(head, f"{_SAID_OF[what]} {why}".rstrip(), out, good=what != "quarantined")
        out.records.append(HeadChanged(self._master, name, what, *out_of, reason, user, out.wall, head.tripped))

    def remark(self, head: Head, text: str, out: Effects, *, good: bool) -> None:
        """Say something of a head in the daemon's own log."""
        out.remarks.append((not good, f"{self._where(head)}: {text}"))

    def alarm(self, level: str, head: Head, text: str, out: Effects, kind: str = "", about: str | None = None) -> None:
        """Say it to everybody who listens, too. One of a ``kind`` stands, see `alarms`; it is ``about`` the head."""
        part = (head.spec.name if about is None else about) if kind else ""
        out.alarms.append(m.Alarm(level, self._master, f"{self._where(head)}: {text}", out.wall, kind, part))

    def _where(self, head: Head) -> str:
        return f"Master {self._master!r}, head {head.spec.name!r}" if head.spec.name else f"Master {self._master!r}"

    # -- what has gone wrong ------------------------------------------------------------------------------------------

    def note_error(self, head: Head, error: str, out: Effects) -> None:
        """Something has gone wrong, if it has; on record, where that is news."""
        if self.mark_error(head, error, out):
            self.count(head, out)

    def mark_error(self, head: Head, error: str, out: Effects) -> bool:
        """The same, to be put on record with what the head has done; whether it is news."""
        error = " ".join(error.split())[:_LONGEST_ERROR]
        if not error or error == head.last_error:
            return False
        head.last_error, head.last_error_time = error, out.wall
        head.is_counted = False
        return True

    def count(self, head: Head, out: Effects) -> None:
        """Record what it has done, and its last error, where that is not on record."""
        if not head.is_counted:
            head.is_counted = True
            counts = head.tasks, head.busy_seconds, head.last_error, head.last_error_time
            out.records.append(HeadCounted(self._master, head.spec.name, *counts))

    # -- heads that are not safe --------------------------------------------------------------------------------------

    def on_unsafe(self, head: Head, error: str, out: Effects) -> None:
        """Say once that a head cannot be brought to its safe state, whatever reasons that has by and by."""
        if not head.unsafe:
            head.unsafe_since = head.unsafe_again = math.inf
            self.record(head, "unsafe", error, "", out)
            self.alarm(
                "error", head, f"it is NOT KNOWN TO BE SAFE: {error}; that is tried again all the time", out, _UNSAFE
            )
        head.unsafe = error

    def mind(self, head: Head, now: float, out: Effects) -> None:
        """Once in a while: be louder about one that is not safe for long."""
        self._mind_stop(head, now, out)
        self._mind_unsafe(head, now, out)

    def _mind_stop(self, head: Head, now: float, out: Effects) -> None:
        """Say of one that was told to stop, and of which nothing is heard, that it is perhaps not safe."""
        if head.stop_since is None or head.is_safe:
            head.stop_since = None
            return
        head.stop_since = min(head.stop_since, now)
        late = now - head.stop_since
        error = f"{late:.0f} s after it was told to stop " + (
            "no worker has it" if head.worker is None else f"its worker (process {head.worker.pid}) has not said so"
        )
        if late >= STOP_SECONDS and not (head.stop_is_told or head.unsafe):
            head.stop_is_told = True
            self.alarm("error", head, f"it is NOT KNOWN TO BE SAFE: {error}", out, _UNSAFE)
        if late >= SECURE_SECONDS:
            head.stop_since = None
            if head.reached:
                self.on_unsafe(head, error, out)

    def _mind_unsafe(self, head: Head, now: float, out: Effects) -> None:
        """Say again, louder, that it is not safe."""
        if not head.unsafe:
            return
        if head.unsafe_since == math.inf:
            head.unsafe_since, head.unsafe_again = now, now + ESCALATE_SECONDS
        elif now >= head.unsafe_again:
            lasted = now - head.unsafe_since
            head.unsafe_again = now + lasted
            text = f"for {lasted:.0f} s it could not be made safe: {head.unsafe}; go and see to it"
            self.alarm("critical", head, text, out, _UNSAFE)


def said_by(user: str, reason: str) -> str:
    """Who has done something and why, for people."""
    return f"by {user or 'somebody'}" + (f": {reason}" if reason else "")
