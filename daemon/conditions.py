"""What holds of Masters, the disk and the clock that an operator should know: the sources of alarms that stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from taskmaster.bus.text import count, format_duration, format_size, how_to_resolve
from taskmaster.daemon.alarms import Condition
from taskmaster.daemon.core import Core
from taskmaster.daemon.gatehouse import Gatehouse
from taskmaster.daemon.head import Head
from taskmaster.daemon.master import Master
from taskmaster.daemon.space import Space

__all__ = ["ClockWatch", "disk_condition", "gate_conditions", "master_conditions"]

#: What the clock may gain or lose between two looks, and the machine sleep, before it is told.
_JUMP_SECONDS = 5.0
#: An epoch counts milliseconds, and a start may come just behind the last.
_BEHIND_SECONDS = 60.0
_BY_INTERLOCK = "by interlock "


def master_conditions(core: Core) -> Iterator[Condition]:
    """Of every Master of a daemon."""
    for master in core.masters.values():
        yield from _crash_loop(master)
        yield from _held_tasks(master)
        yield from _interlocks(master)
        for head in master.heads:
            yield from _unsafe(master.spec.name, head)


def _crash_loop(master: Master) -> Iterator[Condition]:
    name = master.spec.name
    if master.heads:
        if master.trouble:
            yield Condition("crash_loop", "error", name, f"Master {name!r}: {master.trouble}")
    elif master.given_up:
        yield Condition("crash_loop", "error", name, master.given_up)
    elif master.lost_devices:
        why = "; ".join(why for _, why in sorted(master.lost_devices.items()))
        yield Condition("crash_loop", "error", name, f"Master {name!r}: {why}")
    elif master.remark[1] and master.remark[0] == master.ended:
        yield Condition("crash_loop", "warning", name, f"Master {name!r}: {master.remark[1]}")


def _held_tasks(master: Master) -> Iterator[Condition]:
    doubtful = [run for run in master.runs.values() if run.held]
    if doubtful:
        first = min(doubtful, key=lambda run: run.id)
        index, doubt = next(first.held.after(-1))
        n = sum(len(run.held) for run in doubtful)
        text = (
            f"Master {master.spec.name!r}: {count(n, 'task is', 'tasks are')} in doubt, first task {index} of run "
            f"{first.name!r}: {doubt.reason}; {how_to_resolve(first.id, index)}"
        )
        yield Condition("held_tasks", "warning", master.spec.name, text)


def _interlocks(master: Master) -> Iterator[Condition]:
    name = master.spec.name
    for head in master.heads:
        if head.kept_safe:
            where = f"Master {name!r}, head {head.spec.name!r}" if head.spec.name else f"Master {name!r}"
            text = f"{where} is kept safe by {head.kept_safe}; see 'taskmaster heads {name}'"
            yield Condition("interlock", "error", name, text, head.spec.name)
    trips = [
        f"interlock {interlock!r}: {trip.reason}"
        for head in master.heads
        for interlock, trip in head.trips.items()
        if trip.action in ("pause", "stop")
    ]
    stopped = master.heads.stopped if master.heads.stopped.startswith(_BY_INTERLOCK) else ""
    paused = master.paused_by if master.paused and master.paused_by.startswith(_BY_INTERLOCK) else ""
    if stopped or paused or trips:
        text = f"stopped {stopped}" if stopped else f"paused {paused}" if paused else trips[0]
        yield Condition("interlock", "error", name, f"Master {name!r}: {text}; see 'taskmaster heads {name}'")


def _unsafe(master: str, head: Head) -> Iterator[Condition]:
    told = head.stop_is_told and head.stop_since is not None
    if head.unsafe or told:
        where = f"Master {master!r}, head {head.spec.name!r}" if head.spec.name else f"Master {master!r}"
        why = head.unsafe or "it was told to stop, and has not said that it has"
        yield Condition("unsafe_head", "error", master, f"{where}: it is NOT KNOWN TO BE SAFE: {why}", head.spec.name)


def disk_condition(space: Space, low: int) -> Iterator[Condition]:
    """Of the disk: whether submissions are refused, or will be soon. (That the loop itself waits, it says itself.)"""
    if not space.room:
        yield Condition("disk_low", "error", "disk", str(space.error()))
    elif space.free < low:
        text = (
            f"the disk of {space.folder} has {format_size(space.free)} free beside what is kept back, less than "
            f"{format_size(low)}; with too little, no further tasks are taken"
        )
        yield Condition("disk_low", "warning", "disk", text)
    for user, reason in space.shares.refused.items():
        yield Condition("excess", "warning", user, f"the disk of {space.folder}: {reason}")


def gate_conditions(gatehouse: Gatehouse, now: float) -> Iterator[Condition]:
    """Of who is let in: whether the keys in force are those in the file, and whether anybody is answered."""
    if gatehouse.refusal:
        yield Condition("authenticator", "error", "keys", gatehouse.refusal)
    if gatehouse.trouble:
        yield Condition("authenticator", "critical", "authenticator", gatehouse.trouble)
    for user in gatehouse.bounds.barred(now):
        yield Condition("excess", "warning", user, f"key {user!r} sent more than is borne, and is kept out for a while")
    for user in gatehouse.bounds.silent(now):
        text = f"key {user!r} has made too many connections, or says nothing by thousands of them; further ones wait"
        yield Condition("excess", "warning", user, text, "silence")


class ClockWatch:
    """Notices that the clock is set. ``boot`` reads a clock that nobody sets, and that runs while the machine sleeps.

    ``epoch`` is the daemon's, which is no less than the time of its start and of every start before, in milliseconds.
    """

    def __init__(self, boot: Callable[[], float], epoch: int) -> None:
        self._boot = boot
        self._epoch = epoch
        #: wall minus boot clock, and boot minus monotonic clock, at the last look
        self._offset = self._slept = math.nan

    def look(self, now: float, wall: float) -> Iterator[Condition]:
        """At ``now`` of the monotonic clock, which stands while the machine sleeps."""
        boot = self._boot()
        offset, slept = wall - boot, boot - now
        behind = self._epoch / 1e3 - wall
        if math.isnan(self._offset):
            if behind > _BEHIND_SECONDS:
                yield _clock(f"the clock is {format_duration(behind)} behind what it was at an earlier start")
        elif abs(offset - self._offset) > _JUMP_SECONDS:
            change = offset - self._offset
            yield _clock(f"the clock was set {'on' if change > 0 else 'back'} by {format_duration(abs(change))}")
        elif slept - self._slept > _JUMP_SECONDS:
            yield _clock(f"the machine slept for {format_duration(slept - self._slept)}; nothing was evaluated")
        self._offset, self._slept = offset, slept


def _clock(text: str) -> Condition:
    return Condition("clock_jump", "warning", "clock", text)
