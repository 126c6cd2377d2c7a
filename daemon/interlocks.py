"""What follows when an interlock of an instrument trips; and those that bound one head's value by another's. Sans-I/O.

An interlock is polled and judged at its head, which acts at once, without asking anybody; what is decided here is the
rest: that the head stays safe, that the Master is paused, or that all its heads are stopped. Only where two heads have
to be compared it is decided here that it has tripped at all, by the values that both report.

What follows is latched: a head (action ``safe``) stays safe until it is put back in or the Master is reset, the Master
is stopped until it is reset, paused until it is resumed, all of them over restarts; and none can be done while the
interlock does not hold. But for this: a head whose value could not be had, say because it was unplugged, and was not
out of bounds before or after, stays safe for as long as that is so, and no longer.

Where all heads depend on what one of them is asked (``head``, with the action ``stop`` or ``pause``), none is given a
task while that one cannot be asked; and it has tripped when that lasts, if it could be asked before or any is in a
task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from taskmaster.bus import messages as m
from taskmaster.bus.errors import NotAllowed
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.head import Head, Trip
from taskmaster.daemon.heads import HeadBook
from taskmaster.daemon.leases import Worker
from taskmaster.daemon.spec import InterlockSpec
from taskmaster.drivers.instruments.watching import Condition

__all__ = ["Interlocks"]

#: A value that is older than so many polls cannot be had.
_FRESH = 3
#: The first value of a head that bounds another's is waited for: all are started at the same time, but not as fast.
_FIRST_SECONDS = 10.0


@dataclass
class _Values:
    """What a head has reported of one interlock."""

    value: m.Scalar
    error: str
    #: when the first and the latest came
    since: float
    at: float


@dataclass
class _Compared:
    """An interlock as it stands at one head that it compares with others."""

    condition: Condition = field(default_factory=Condition)
    #: when its own value was first heard of: from then on those of the others are waited for
    since: float = 0.0


class Interlocks:
    """The interlocks of one Master."""

    def __init__(
        self, master: str, specs: tuple[InterlockSpec, ...], heads: HeadBook, pause: Callable[[str, Effects], bool]
    ) -> None:
        """``pause`` pauses the Master, saying why; False: it is paused."""
        self._master = master
        self._specs: Mapping[str, InterlockSpec] = {spec.name: spec for spec in specs}
        self._heads = heads
        self._pause = pause
        #: (interlock, head) → what it has reported, and how the interlock stands there
        self._values: dict[tuple[str, str], _Values] = {}
        self._compared: dict[tuple[str, str], _Compared] = {}
        #: those on which all heads depend and that one is asked
        self._for_all = [(spec, heads.heads[spec.head]) for spec in specs if spec.head in heads.heads and spec.for_all]
        #: of these: those that could be asked since the daemon's start, since when the others cannot be, and how that
        #: was told, if it was
        self._seen: set[str] = set()
        self._unseen: dict[str, float] = {}
        self._lost: dict[str, Trip] = {}

    # -- what heads say -----------------------------------------------------------------------------------------------

    def on_tripped(self, worker: Worker, message: m.Tripped, out: Effects) -> None:
        """An interlock has tripped at a head, or holds again."""
        head, spec = self._heads.of(worker), self._specs.get(message.interlock)
        if head is None:
            return
        if spec is not None and self._heads.is_news(head, message.number):
            self._on_trip(head, spec, Trip(spec.action, message.reason, message.lost), out)
        self._heads.heard(head, message, out)

    def on_head(self, worker: Worker) -> None:
        """A head may be asked now that could not be before."""
        self._seen.update(spec.name for spec, head in self._for_all if head.worker is worker and head.is_watched)

    def on_polled(self, worker: Worker, message: m.Polled, now: float, out: Effects) -> None:
        """A value that bounds another head's, or is bounded by it."""
        head, spec = self._heads.of(worker), self._specs.get(message.interlock)
        if head is None or spec is None or not spec.bounding:
            return
        key = spec.name, head.spec.name
        known = self._values.get(key)
        since = known.since if known is not None and now - known.at <= _FRESH * spec.every else now
        self._values[key] = _Values(message.value, message.error, since, now)
        for name in self._bounded(spec):
            if head.spec.name == name or head.spec.name in spec.bounding:
                self._compare(self._heads.heads[name], spec, now, out)

    def on_tick(self, now: float, out: Effects) -> None:
        """Once in a while: notice values that have become old."""
        for spec in self._specs.values():
            for name in self._bounded(spec):
                self._compare(self._heads.heads[name], spec, now, out)
        for spec, head in self._for_all:
            self._see_to(spec, head, now, out)

    # -- what all heads depend on -------------------------------------------------------------------------------------

    @property
    def blind(self) -> str:
        """Why no head may be given a task: an interlock of all of them cannot be asked. Empty if each can be."""
        for spec, head in self._for_all:
            if not (head.is_watched or head.out):
                return f"interlock {spec.name!r} cannot be asked: head {head.spec.name!r} is {head.reported}"
        return ""

    def _see_to(self, spec: InterlockSpec, head: Head, now: float, out: Effects) -> None:
        """Notice that such an interlock cannot be asked for long, or can be again."""
        if head.is_watched or head.out:
            self._unseen.pop(spec.name, None)
            lost = self._lost.pop(spec.name, None)
            if lost is not None and head.trips.get(spec.name) is lost:  # else its worker has seen worse
                self._on_trip(head, spec, replace(lost, reason=""), out)
            return
        since = self._unseen.setdefault(spec.name, now)
        matters = spec.name in self._seen or any(other.worker and other.worker.leases for other in self._heads)
        if matters and now - since > _patience(spec) and spec.name not in head.trips:
            why = f"its value cannot be had: head {head.spec.name!r} is {head.reported}"
            trip = self._lost[spec.name] = Trip(spec.action, why, lost=True)
            self._on_trip(head, spec, trip, out)

    # -- one head's value bounding another's --------------------------------------------------------------------------

    def _bounded(self, spec: InterlockSpec) -> Iterator[str]:
        """The heads whose values others bound."""
        if spec.bounding:
            wanted = self._heads.heads if spec.head is None else (spec.head,)
            yield from (name for name in wanted if name in self._heads.heads and name not in spec.bounding)

    def _compare(self, head: Head, spec: InterlockSpec, now: float, out: Effects) -> None:
        key = spec.name, head.spec.name
        if head.worker is None or head.out or key not in self._values:
            self._compared.pop(key, None)  # nobody polls there, or has yet
            return
        compared = self._compared.setdefault(key, _Compared(since=self._values[key].since))
        reason, lost = self._verdict(head.spec.name, spec, compared.since, now)
        if compared.condition.hear(reason, lost=lost):
            condition = compared.condition
            self._on_trip(head, spec, Trip(spec.action, condition.reason, condition.lost), out)

    def _verdict(self, name: str, spec: InterlockSpec, since: float, now: float) -> tuple[str, bool]:
        """Why the values of this head and those that bound it are not as they should be, and whether one is lacking."""
        own, problem = self._fresh(spec, name, now)
        if problem:
            return problem, True
        for other, is_right, word in ((spec.below, float.__lt__, "below"), (spec.above, float.__gt__, "above")):
            if other is None:
                continue
            bound, problem = self._fresh(spec, other, now)
            if problem:
                waits = (spec.name, other) not in self._values and now - since <= _patience(spec)
                if not waits:
                    return problem, True
            elif not is_right(own, bound):
                return f"{own:g} is not {word} {bound:g}, the value of head {other!r}", False
        return "", False

    def _fresh(self, spec: InterlockSpec, name: str, now: float) -> tuple[float, str]:
        """A head's value; or why it cannot be had."""
        known = self._values.get((spec.name, name))
        if known is None or self._heads.heads[name].worker is None:
            return math.nan, f"the value of head {name!r} cannot be had: it is not connected"
        if now - known.at > _FRESH * spec.every:
            return math.nan, f"the value of head {name!r} is {now - known.at:.1f} s old"
        if isinstance(known.value, bool) or not isinstance(known.value, (int, float)) or math.isnan(known.value):
            return math.nan, f"head {name!r}: {known.error or f'{known.value!r} is no number'}"
        return float(known.value), ""

    # -- what follows -------------------------------------------------------------------------------------------------

    def _on_trip(self, head: Head, spec: InterlockSpec, trip: Trip, out: Effects) -> None:
        """Do what is declared; on record, and an alarm, where that changes anything."""
        is_kept = self._heads.note_trip(head, spec.name, trip, out)
        by, follows = f"interlock {spec.name}", ""
        if not trip.reason:
            return
        if spec.action == "safe":
            follows = "the head is brought to its safe state" if is_kept else ""
        elif spec.action == "pause":
            at = f" of head {head.spec.name!r}" if head.spec.name else ""
            follows = "the Master is paused" if self._pause(f"by {by}{at}: {trip.reason}", out) else ""
        elif not self._heads.stopped:
            self._heads.stop(by, f"head {head.spec.name!r}: {trip.reason}", out)
            follows = "all heads of the Master are stopped"
        if follows:
            self._heads.log.record(head, "tripped", f"{by}: {trip.reason}", by, out)
            text = f"interlock {spec.name!r} has tripped: {trip.reason}; {follows}{self._way_on(head, trip)}"
            about = head.spec.name if spec.action == "safe" else ""  # what else follows is the whole Master's
            self._heads.log.alarm("error", head, text, out, "interlock", about)

    def _way_on(self, head: Head, trip: Trip) -> str:
        if trip.action == "pause":
            return f". When it holds again: taskmaster resume {self._master}"
        if trip.action == "stop":
            return f". When it holds again: taskmaster reset {self._master}"
        if trip.lost:
            return " until it can be had again"
        return f". When it holds again: {put_back(self._master, head.spec.name)}"

    # -- what people want ---------------------------------------------------------------------------------------------

    def require(self, action: str, what: str, heads: Iterator[Head] | None = None) -> None:
        """Raise NotAllowed where an interlock with this action does not hold, naming ``what`` therefore cannot be."""
        for head in self._heads if heads is None else heads:
            for name, trip in head.trips.items():
                if trip.action == action:
                    at = f" of head {head.spec.name!r}" if head.spec.name else ""
                    raise NotAllowed(
                        f"Master {self._master!r} cannot be {what}: interlock {name!r}{at} does not hold: "
                        f"{trip.reason}. See to the instrument, or take the head out of service, first"
                    )


def _patience(spec: InterlockSpec) -> float:
    """How long a value is waited for that was never had, or that nobody asks for at present."""
    return max(_FIRST_SECONDS, _FRESH * spec.every)


def put_back(master: str, head: str) -> str:
    """The command that puts a head back into service."""
    return f"taskmaster heads {master} --in {head}" if head else f"taskmaster reset {master}"
