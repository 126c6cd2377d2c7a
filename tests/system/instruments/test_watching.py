"""What is watched at the heads of a real daemon: interlocks that trip, the instrument's own watchdog, monitored values.

The simulated probe says what it was told and when, the daemon what it made of it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from helpers.places import StartDaemon
from helpers.waiting import eventually

from taskmaster.bus.errors import NotAllowed
from taskmaster.bus.status import HeadInfo
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab

HEADS = ("tip-1", "tip-2")
TEMPERATURE = {"query": "TEMP?", "every": "50 ms", "max": 60}
#: A wait that nothing but the end of its time, or a stop, brings to an end.
NEVER = {"query": "TIP?", "until": "NEVER", "timeout": "60 s", "every": "10 ms"}


@pytest.fixture
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=2, settling=0.01) as probe:
        yield probe


@dataclass
class Bench:
    """A daemon that has the probe, and a client of it."""

    probe: Laboratory
    start_daemon: StartDaemon
    stack: ExitStack

    def open(self, commands: Mapping[str, Any] | None = None, **keys: Any) -> Lab:
        """Start it, with these commands beside the usual ones and these keys of the Master's."""
        self.daemon = self.start_daemon({"stm": master(self.probe, commands or {}, keys)}, heartbeat="0.2 s")
        lab = self.stack.enter_context(self.daemon.connect())
        eventually(lambda: set(states(lab)) <= {"ready", "tripped", "stopped"}, "all heads to be there")
        return lab


@pytest.fixture
def here(probe: Laboratory, start_daemon: StartDaemon) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(probe, start_daemon, stack)


def master(probe: Laboratory, commands: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "driver": "visa",
        "query_timeout": "1 s",
        "heads": [{"name": h, "resource": probe[h].resource, "identity": probe[h].identity} for h in HEADS],
        "reconnect": {"first": "20 ms", "longest": "100 ms"},
        "parameters": {"x": {"min": 0, "max": 500}},
        "outputs": {"current": {"unit": "A"}},
        "commands": {
            "open": ["*CLS"],
            "set": ["POS {x:.3f},50"],
            "read": {"current": "MEAS:CURR?"},
            "safe": ["BIAS 0", "TIP:WITHDRAW"],
            **commands,
        },
        **keys,
    }


def head(lab: Lab, name: str) -> HeadInfo:
    return next(info for info in lab.heads() if info.head == name)


def states(lab: Lab) -> list[str]:
    return [info.state for info in lab.heads()]


def master_state(lab: Lab) -> str:
    return lab.status().masters[0].state


def asked(probe: Laboratory, query: str, name: str = "tip-1") -> int:
    return probe.control.actions(name).counts.get(query, 0)


def alarms(lab: Lab) -> list[str]:
    return [alarm.message for alarm in lab.alarms]


def cool_down(probe: Laboratory) -> None:
    probe.control.overheat(hot=False)
    for name in HEADS:
        eventually(lambda name=name: probe.control.truth(name)["temperature"] < 50, "it to cool")  # type: ignore[misc]


def test_a_head_too_hot_is_made_safe_at_once_and_stays_so_over_a_restart(probe: Laboratory, here: Bench) -> None:
    lab = here.open(interlocks={"temperature": TEMPERATURE})
    mark = probe.control.mark()
    probe.control.overheat("tip-1")
    safe_at = eventually(lambda: probe.control.first_safe("tip-1", mark), "it to be safe")
    # It takes 0.35 s to get that hot (35 K of 70 K, with a time constant of 0.5 s), and then a poll.
    assert 0.2 < safe_at - mark < 2.0
    info = eventually(lambda: (i := head(lab, "tip-1")).safe and i.state == "tripped" and i, "it to be told")
    assert info.reason.startswith("interlock temperature: ")
    assert "is above max = 60" in info.reason
    eventually(lambda: any("has tripped" in text for text in alarms(lab)), "an alarm")
    run = lab["stm"].open()
    run.tasks.put_many([{"x": float(x)} for x in range(10)])
    assert {result.worker for result in run.results} == {"tip-2"}, "the other goes on"
    with pytest.raises(NotAllowed, match=r"cannot be put back: .* does not hold"):
        lab.set_head("stm", "tip-1", inside=True)

    probe.control.overheat("tip-1", hot=False)
    here.daemon.restart()
    eventually(lambda: head(lab, "tip-1").safe, "it to be safe again")
    before = asked(probe, "TEMP?")
    eventually(lambda: asked(probe, "TEMP?") > before + 3, "it to be watched while it is safe")
    assert (head(lab, "tip-1").state, asked(probe, "TIP:APPR")) == ("tripped", 0)
    eventually(lambda: _put_back(lab), "it to be cool enough")
    eventually(lambda: head(lab, "tip-1").state == "ready", "it to be back")


def test_a_trip_that_has_passed_before_the_daemon_is_back_is_as_good_as_any(probe: Laboratory, here: Bench) -> None:
    here.open(interlocks={"temperature": TEMPERATURE})
    mark = probe.control.mark()
    here.daemon.kill()
    probe.control.overheat("tip-1")
    probe.control.unplug("tip-2")
    eventually(lambda: probe.control.first_safe("tip-1", mark), "the one to be safe")
    probe.control.replug("tip-2")
    cool_down(probe)
    before = asked(probe, "TEMP?")
    eventually(lambda: asked(probe, "TEMP?") > before + 3, "it to be in order again")
    here.daemon.start()
    lab = here.stack.enter_context(here.daemon.connect())
    eventually(lambda: states(lab) == ["tripped", "ready"], "both to be told of")
    assert head(lab, "tip-1").reason.startswith("interlock temperature: ")
    lab.set_head("stm", "tip-1", inside=True)
    eventually(lambda: states(lab) == ["ready", "ready"], "it to be back")


def _put_back(lab: Lab) -> bool:
    try:
        lab.set_head("stm", "tip-1", inside=True)
    except NotAllowed:
        return False
    return True


def test_a_trip_breaks_off_what_the_head_is_doing(probe: Laboratory, here: Bench) -> None:
    lab = here.open({"wait": NEVER}, interlocks={"temperature": TEMPERATURE})
    run = lab["stm"].open()
    run.tasks.put_many([{"x": 1.0}, {"x": 2.0}])
    for name in HEADS:
        probe.control.wait(name, "POS", 1)
    mark = probe.control.mark()
    probe.control.overheat("tip-2")
    assert eventually(lambda: probe.control.first_safe("tip-2", mark), "it to be safe") - mark < 2.0
    (held,) = eventually(lambda: lab.held(), "its task to be in doubt")
    assert (held.worker, "interlock 'temperature' has tripped" in held.reason) == ("tip-2", True)
    assert probe.control.first_safe("tip-1", mark) is None
    assert head(lab, "tip-1").state == "busy"
    assert head(lab, "tip-2").state == "tripped"


def test_a_query_that_fails_trips_and_the_head_comes_back_by_itself(probe: Laboratory, here: Bench) -> None:
    """Unplugged, it cannot be told whether it is too hot; plugged in again, it can."""
    lab = here.open(interlocks={"temperature": TEMPERATURE})
    probe.control.unplug("tip-1")
    info = eventually(lambda: (i := head(lab, "tip-1")).state == "tripped" and i, "it to be missed")
    assert "cannot be had" in info.reason
    eventually(
        lambda: any("NOT KNOWN TO BE SAFE" in text for text in alarms(lab)), "an alarm, for it cannot be made safe"
    )
    assert "(not known to be safe: " in head(lab, "tip-1").reason
    mark = probe.control.mark()
    probe.control.replug("tip-1")
    eventually(lambda: head(lab, "tip-1").state == "ready", "it to be back")
    assert probe.control.first_safe("tip-1", mark), "before anything else"
    assert sum("NOT KNOWN TO BE SAFE" in text for text in alarms(lab)) == 1
    probe.control.fault("garbage", "tip-1", match="TEMP?", count=1)
    eventually(lambda: sum("has tripped" in text for text in alarms(lab)) == 2, "it to trip by garbage")
    eventually(lambda: head(lab, "tip-1").state == "ready", "it to be back")


def test_an_interlock_stops_all_heads_until_it_holds_and_is_reset(probe: Laboratory, here: Bench) -> None:
    lab = here.open(interlocks={"temperature": {**TEMPERATURE, "head": "tip-1", "action": "stop"}})
    assert asked(probe, "TEMP?", "tip-2") == 0, "it is polled where it was declared"
    mark = probe.control.mark()
    probe.control.overheat()
    for name in HEADS:
        eventually(lambda name=name: probe.control.first_safe(name, mark), "all to be safe")  # type: ignore[misc]
    eventually(lambda: states(lab) == ["stopped"] * 2, "it to be told")
    assert head(lab, "tip-2").reason.startswith("by interlock temperature: head 'tip-1': ")
    with pytest.raises(NotAllowed, match="cannot be reset: interlock 'temperature' of head 'tip-1' does not hold"):
        lab.reset()
    cool_down(probe)
    eventually(lambda: _done(lab.reset), "the interlock to hold")
    eventually(lambda: states(lab) == ["ready"] * 2, "them to be back")


def _done(request: Callable[[], None]) -> bool:
    try:
        request()
    except NotAllowed:
        return False
    return True


def test_an_interlock_pauses_the_master(probe: Laboratory, here: Bench) -> None:
    lab = here.open({"wait": NEVER}, interlocks={"temperature": {**TEMPERATURE, "action": "pause"}})
    run = lab["stm"].open()
    run.tasks.put({"x": 1.0})
    eventually(lambda: "busy" in states(lab), "a head to be at it")
    mark = probe.control.mark()
    probe.control.overheat()
    eventually(lambda: master_state(lab) == "paused", "the Master to be paused")
    assert "busy" in states(lab), "what is being evaluated goes on"
    assert all(probe.control.first_safe(name, mark) is None for name in HEADS)
    with pytest.raises(NotAllowed, match="cannot be resumed: interlock 'temperature'"):
        lab["stm"].resume()
    cool_down(probe)
    eventually(lambda: _done(lab["stm"].resume), "the interlock to hold")
    assert master_state(lab) == "ready"


def test_a_stop_in_the_middle_of_a_question_trips_nothing(probe: Laboratory, here: Bench) -> None:
    """The question is given up, and the poll that was due behind it is not asked over what is left of it."""
    lab = here.open(interlocks={"temperature": {**TEMPERATURE, "action": "pause"}})
    probe.control.fault("latency", match="MEAS:CURR", seconds=60.0)
    for attempt in range(5):
        before = asked(probe, "MEAS:CURR?", "tip-2")
        run = lab["stm"].open(f"stopped {attempt}")
        run.tasks.put({"x": float(attempt)}, where={"head": "tip-2"})
        eventually(lambda before=before: asked(probe, "MEAS:CURR?", "tip-2") > before, "it to be asked")  # type: ignore[misc]
        time.sleep(0.06 + 0.01 * attempt)  # until the poll is overdue
        lab.stop("stm")
        eventually(lambda: all(info.safe for info in lab.heads()), "all to be safe")
        lab.reset("stm")
        eventually(lab.held, "its task to be in doubt")
        lab.resolve(run.number, 0, "fail")
        eventually(lambda: states(lab) == ["ready"] * 2, "them to be back")
        assert master_state(lab) == "ready"
    assert not [text for text in alarms(lab) if "has tripped" in text]


def test_one_heads_value_bounds_anothers(probe: Laboratory, here: Bench) -> None:
    balance = {"query": "BIAS?", "every": "50 ms", "head": "tip-1", "below": "tip-2"}
    lab = here.open({"open": ["BIAS {start:.1f}"]}, values={"start": 0.5}, interlocks={"balance": balance})
    info = eventually(lambda: (i := head(lab, "tip-1")).state == "tripped" and i, "equal values to trip")
    assert "0.5 is not below 0.5, the value of head 'tip-2'" in info.reason
    assert head(lab, "tip-2").state == "ready"
    eventually(lambda: head(lab, "tip-1").safe, "it to be safe")
    eventually(lambda: _put_back(lab), "0 V to be below 0.5 V")


def test_a_head_out_of_service_is_left_alone(probe: Laboratory, here: Bench) -> None:
    lab = here.open(interlocks={"temperature": TEMPERATURE}, monitor={"bias": {"query": "BIAS?", "every": "50 ms"}})
    eventually(lambda: asked(probe, "BIAS?") > 2, "a value to be monitored")
    lab.set_head("stm", "tip-1", inside=False, reason="a new tip")
    eventually(lambda: probe.control.statistics("tip-1")["connections"] == 0, "its connection to be closed")
    probe.control.overheat("tip-1")
    before = asked(probe, "TEMP?", "tip-2")
    eventually(lambda: asked(probe, "TEMP?", "tip-2") > before + 10, "half a second")
    assert probe.control.statistics("tip-1")["connections"] == 0
    assert head(lab, "tip-1").state == "out"
    lab.set_head("stm", "tip-1", inside=True)
    eventually(lambda: head(lab, "tip-1").state == "tripped", "it to be looked at before it works")
    assert asked(probe, "POS") == 0


def test_monitors_cost_a_task_one_query_each_at_most(probe: Laboratory, here: Bench) -> None:
    monitor = {name: {"query": query, "every": "50 ms"} for name, query in (("bias", "BIAS?"), ("place", "POS?"))}
    lab = here.open(monitor=monitor)
    before, begun = asked(probe, "BIAS?") + asked(probe, "POS?"), time.monotonic()
    run = lab["stm"].open()
    run.tasks.put_many([{"x": x / 10} for x in range(4000)])
    assert len(list(run.results)) == 4000
    polls = asked(probe, "BIAS?") + asked(probe, "POS?") - before
    elapsed = time.monotonic() - begun
    assert 2 <= polls <= 2 * (elapsed / 0.05 + 2), "as often as declared, and not with each of the tasks"


def test_the_instruments_watchdog_is_kept_while_the_worker_lives(probe: Laboratory, here: Bench) -> None:
    watchdog = {"arm": ["WDOG 1"], "keep": "WDOG?", "every": "100 ms", "disarm": ["WDOG 0"]}
    lab = here.open({"watchdog": watchdog})
    kept = asked(probe, "WDOG?")
    eventually(lambda: asked(probe, "WDOG?") > kept + 12, "it to be kept for longer than it waits")
    assert not by_watchdog(probe)
    frozen = head(lab, "tip-1").pid
    os.kill(frozen, signal.SIGSTOP)
    try:
        eventually(lambda: by_watchdog(probe), "the instrument to make itself safe")
    finally:
        os.kill(frozen, signal.SIGCONT)
    lab.set_head("stm", "tip-1", inside=False)
    eventually(lambda: head(lab, "tip-1").safe, "it to be made safe")
    last = [action for action in probe.control.actions("tip-1").actions if action.by == "client"][-2:]
    assert [(action.command, action.arguments) for action in last] == [("TIP:WITH", ()), ("WDOG", (0.0,))]


def by_watchdog(probe: Laboratory) -> bool:
    return any(action.by == "watchdog" for action in probe.control.actions("tip-1").actions)
