"""Alarms that stand: raised once, told again only when they become worse, and cleared when what they are about is over.

An alarm is a *condition* that holds: tasks are in doubt, the disk is low, an interlock has tripped. Whoever knows of
such conditions is a source, asked once a second for all that hold now; nobody has to remember to say that one is over,
and after a restart those that hold still are raised anew. What must be said at once, by who notices it, comes as an
alarm of a kind among the turn's effects, and its condition holds it up from then on. Some have no condition, such as a
clock that has jumped: they stand for a while. Sans-I/O.

To add a kind: a row in :data:`KINDS`, from which the documents take it, and a source that yields its conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from taskmaster.bus import messages as m
from taskmaster.bus.status import AlarmInfo
from taskmaster.daemon.roles import LOCAL, Peer

__all__ = ["KINDS", "AlarmBook", "Condition", "Kind", "Source"]


class Kind(NamedTuple):
    """What sort of trouble an alarm is about: what that means, and what an operator is to do."""

    meaning: str
    remedy: str
    #: seconds that it stands after it was last said, where no condition holds it up
    stands: float = 0.0
    #: whether its subject is a Master; else it is the daemon's
    of_master: bool = False
    #: while it stands, it is not told again in other words: it is somebody else's word
    hearsay: bool = False


#: All there are.
KINDS: Mapping[str, Kind] = {
    "crash_loop": Kind(
        "worker processes of a Master end, or cannot be set up, again and again; past `restarts` none is started",
        "the message says what the last one died of, the log more. Mend that, then `taskmaster resume MASTER`: "
        "its tasks wait",
        of_master=True,
    ),
    "held_tasks": Kind(
        "tasks are in doubt: their worker was lost, and what they do must not be done twice",
        "`taskmaster held` lists them. Look at the instrument, then `taskmaster resolve RUN TASK "
        "done|retry|resume|fail`",
        of_master=True,
    ),
    "disk_low": Kind(
        "little room is left on the disk of the state directory (warning); submissions are refused (error); not even "
        "results have room, and the daemon waits (critical)",
        "make room: archive and delete old runs (`taskmaster journal prune`), or move other things away. All goes on "
        "by itself, nothing is lost",
    ),
    "interlock": Kind(
        "an interlock of an instrument has tripped: its head is kept safe, or the Master is paused or stopped, as "
        "declared",
        "see to the instrument. When the interlock holds again: the command that the message ends with",
        of_master=True,
    ),
    "unsafe_head": Kind(
        "a head is not known to be in its safe state; the longer that lasts, the louder it is said",
        "go to the instrument. It is tried again and again, and the alarm ends when the head says that it is safe",
        of_master=True,
    ),
    "clock_jump": Kind(
        "the machine's clock was set by more than seconds, or the machine slept, or its clock is behind what it was at "
        "an earlier start",
        "check the clock (`timedatectl`). Durations, time-outs and order do not depend on it, times on record do. The "
        "alarm ends after an hour",
        stands=3600.0,
    ),
    "journal_short": Kind(
        "a client was acknowledged more than the journal holds: it has lost its end, or an older copy was restored",
        "if nobody restored one: stop the daemon, `taskmaster journal check STATE`. The alarm ends an hour after a "
        "client has last said so. It is a client's word: if it is of one key's alone (the message names it), look at "
        "that program, too",
        stands=3600.0,
        hearsay=True,
    ),
    "authenticator": Kind(
        "the file of keys was changed and is refused, so the keys from before stay in force (error); or those who come "
        "by the network are not answered, and the daemon listens there no more (critical)",
        "the message names the line: mend the file, and it is read again by itself. With no answer: restart the daemon",
    ),
    "excess": Kind(
        "the owner of a key sends more than is borne (`max_rate`), or sends without end, and is kept out for a while; "
        "or makes thousands of connections and says nothing; "
        "or has put more within a day than is left free on the disk, and may put nothing more",
        "stop their program: it asks without waiting for answers. If it means it, set `max_rate` in `[daemon]`, or "
        "make room on the disk; if not, `taskmaster keys revoke NAME`",
    ),
    "retention": Kind(
        "runs that are due to be deleted cannot be archived, so they stay",
        "the message says why: no room in the folder of the archive, or a package is missing. It is tried again",
    ),
}
_LEVELS = {"warning": 1, "error": 2, "critical": 3}


@dataclass(frozen=True)
class Condition:
    """Something that holds now and that an operator should know."""

    kind: str
    level: str
    subject: str
    message: str
    #: which part of the subject; empty: all of it
    about: str = ""


#: Says what holds at a time: monotonic, and seconds since 1970.
Source: TypeAlias = Callable[[float, float], Iterable[Condition]]
_Key: TypeAlias = tuple[str, str, str]


@dataclass
class _Standing:
    condition: Condition
    since: float
    #: without a condition it stands until then (monotonic)
    until: float


class AlarmBook:
    """The alarms of one daemon. Each method returns what is to be told, in order."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._standing: dict[_Key, _Standing] = {}

    def __len__(self) -> int:
        return len(self._standing)

    def stands(self, kind: str) -> bool:
        """Whether there is an alarm of this kind."""
        return any(key[0] == kind for key in self._standing)

    def infos(self, peer: Peer = LOCAL) -> tuple[AlarmInfo, ...]:
        """Those that stand, oldest first; for who is granted some Masters only, those that are about one of them."""
        return tuple(
            AlarmInfo(known.kind, known.level, known.subject, known.message, standing.since, known.about)
            for standing in self._standing.values()
            for known in (standing.condition,)
            if not peer.is_bounded or (KINDS[known.kind].of_master and peer.sees(known.subject))
        )

    def note(self, alarms: Sequence[m.Alarm], now: float) -> list[m.Alarm]:
        """Alarms as they come: those of a kind begin to stand, unless they do; events are told as they are."""
        told = []
        for alarm in alarms:
            if not alarm.kind:
                told.append(alarm)
            elif (news := self._hold(_condition_of(alarm), now, alarm.time, said=True)) is not None:
                told.append(news)
        return told

    def look(self, now: float, wall: float) -> list[m.Alarm]:
        """Once a second: what has come to hold, and what holds no longer."""
        told = []
        held: set[_Key] = set()
        for condition in self._conditions(now, wall):
            held.add(_key(condition))
            if (news := self._hold(condition, now, wall, said=False)) is not None:
                told.append(news)
        over = [key for key, known in self._standing.items() if key not in held and now >= known.until]
        return told + [_told(self._standing.pop(key).condition, wall, "cleared") for key in over]

    def _conditions(self, now: float, wall: float) -> Iterator[Condition]:
        for source in self.sources:
            yield from source(now, wall)

    def _hold(self, condition: Condition, now: float, wall: float, *, said: bool) -> m.Alarm | None:
        """Have it stand; what is to be told of that, if anything is."""
        until = now + KINDS[condition.kind].stands
        known = self._standing.get(_key(condition))
        if known is None:
            self._standing[_key(condition)] = _Standing(condition, wall, until)
            return _told(condition, wall, "raised")
        before = known.condition
        is_worse = _LEVELS[condition.level] > _LEVELS[before.level]
        if not said and _LEVELS[condition.level] < _LEVELS[before.level] and condition.kind not in _EASES:
            return None  # it was said louder, and is as it was
        known.until = until
        if KINDS[condition.kind].hearsay and not is_worse:
            return None
        known.condition = condition
        return _told(condition, wall, "raised") if is_worse or (said and condition != before) else None


#: Kinds that may become less bad without being over.
_EASES = frozenset({"disk_low"})


def _key(condition: Condition) -> _Key:
    return condition.kind, condition.subject, condition.about


def _condition_of(alarm: m.Alarm) -> Condition:
    return Condition(alarm.kind, alarm.level, alarm.subject, alarm.message, alarm.about)


def _told(condition: Condition, wall: float, state: str) -> m.Alarm:
    return m.Alarm(condition.level, condition.subject, condition.message, wall, condition.kind, condition.about, state)
