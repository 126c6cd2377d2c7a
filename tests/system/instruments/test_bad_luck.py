"""What bad luck gets, by a real daemon: nothing is done twice, no answer is another's, and what is wrong is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from helpers.places import StartDaemon
from helpers.waiting import eventually

from taskmaster.bus import messages as m
from taskmaster.bus.status import HeadInfo
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab, Run

#: Each place is gone to by one task, and 10 nm from any other: what an instrument says shows whose answer it is.
PLACES = ({"x": float(k % 50 * 10), "y": float(k // 50 * 10)} for k in count())


@pytest.fixture(scope="module")
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=1, settling=0.002, drift=0) as probe:
        yield probe


def stm(probe: Laboratory, **more: Any) -> dict[str, Any]:
    return {
        "driver": "visa",
        "resource": probe["tip-1"].resource,
        "identity": probe["tip-1"].identity,
        "query_timeout": "0.3 s",
        "largest_answer": "1 kB",
        "reconnect": {"first": "10 ms", "longest": "50 ms"},
        "quarantine_after": 1000,
        "parameters": {"x": {"min": 0}, "y": {"min": 0}},
        "outputs": {"x": {}, "y": {}},
        "commands": {
            "open": ["*CLS", "TIP:APPROACH"],
            "set": ["POS {x:.3f},{y:.3f}"],
            "wait": {"query": "*OPC?", "until": "1", "timeout": "10 s"},
            "read": {"x": {"query": "POS?", "pattern": "(.*),"}, "y": {"query": "POS?", "pattern": ",(.*)"}},
            "safe": ["BIAS 0", "TIP:WITHDRAW"],
            "errors": {"query": "SYST:ERR?", "ok": "0,.*"},
        },
        **more,
    }


@pytest.fixture(scope="module")
def lab(probe: Laboratory, start_shared_daemon: StartDaemon) -> Iterator[Lab]:
    with start_shared_daemon({"stm": stm(probe)}).connect() as lab:
        eventually(lambda: head(lab).state == "ready", "the head to be ready")
        yield lab


def head(lab: Lab, master: str = "stm") -> HeadInfo:
    info: HeadInfo
    (info,) = (info for info in lab.ask(m.ListHeads(0)).heads if info.master == master)
    return info


def visits(probe: Laboratory) -> Counter[tuple[float, ...]]:
    actions = probe.control.actions("tip-1").actions
    return Counter(action.arguments for action in actions if action.command == "POS" and not action.error)


def settled(lab: Lab, run: Run, n: int) -> Counter[str]:
    """What became of ``n`` tasks; those in doubt are then said to have failed."""

    def through() -> Counter[str] | None:
        (info,) = (info for info in lab.runs() if info.run == run.number)
        seen = Counter(done=info.done, failed=info.failed, held=info.held)
        return +seen if seen.total() == n else None

    seen = eventually(through, "every task to end or to be in doubt")
    for held in lab.held():
        lab.resolve(held.run, held.index, "fail", reason="nobody knows")
    return seen


LUCK: dict[str, tuple[dict[str, Any], str]] = {
    "unplugged before a command is carried out": ({"kind": "unplug", "match": "POS ", "at": "before"}, "held"),
    "unplugged when it has been": ({"kind": "unplug", "match": "POS ", "at": "after"}, "held"),
    "unplugged within an answer": ({"kind": "unplug", "match": "POS?", "at": "within"}, "held"),
    "reset within an answer": ({"kind": "unplug", "match": "POS?", "at": "within", "reset": True}, "held"),
    "a power cycle": ({"kind": "power", "match": "*OPC?"}, "held"),
    "an answer that is slow, but in time": ({"kind": "latency", "match": "POS?", "seconds": 0.1}, "done"),
    "a late answer": ({"kind": "late", "match": "POS?", "seconds": 0.5}, "held"),
    "no answer": ({"kind": "silence", "match": "POS?"}, "held"),
    "garbage": ({"kind": "garbage", "match": "POS?"}, "held"),
    "half a line": ({"kind": "half", "match": "POS?"}, "held"),
    "too much": ({"kind": "excess", "match": "POS?"}, "held"),
    "another unit": ({"kind": "units", "match": "POS?", "skip": 1, "text": "um", "scale": 1e-3}, "held"),
}


@pytest.mark.parametrize("luck", LUCK)
def test_a_task_with_bad_luck(luck: str, probe: Laboratory, lab: Lab) -> None:
    fault, outcome = LUCK[luck]
    run = lab["stm"].open()
    if fault["kind"] in ("unplug", "power"):
        fault = {**fault, "seconds": 0.05}
    probe.control.fault(head="tip-1", count=1, **fault)
    run.tasks.put(next(PLACES))
    assert settled(lab, run, 1) == {outcome: 1}
    run.tasks.put_many([next(PLACES) for _ in range(3)])
    eventually(lambda: settled(lab, run, 4)["done"] >= 3, "the next ones to be done as if nothing had been")
    for result in run.results:
        if result.error is None:
            wanted, seen = result.input, result.output
            assert (seen["x"], seen["y"]) == pytest.approx((wanted["x"], wanted["y"]), abs=0.5)
    assert max(visits(probe).values()) == 1


def test_what_the_instrument_itself_refuses_fails_and_the_connection_stays(probe: Laboratory, lab: Lab) -> None:
    """It ends at 500 nm, which the file does not know."""
    before = probe.control.statistics("tip-1")["connected"]
    run = lab["stm"].open()
    run.tasks.put_many([{"x": 900.0, "y": 0.0}, next(PLACES)])
    assert settled(lab, run, 2) == {"failed": 1, "done": 1}
    failed, _ = sorted(run.results, key=lambda result: result.index)
    assert "the instrument says" in str(failed.error)
    assert probe.control.statistics("tip-1")["connected"] == before


def test_another_instrument_after_a_replug_is_told_nothing(probe: Laboratory, lab: Lab) -> None:
    probe.control.fault("identity", "tip-1", text="ACME,STM-HEAD,0666,6.6")
    probe.control.power_cycle("tip-1", seconds=0.02)
    run = lab["stm"].open()
    run.tasks.put_many([next(PLACES) for _ in range(3)])
    eventually(lambda: "0666" in head(lab).reason, "it to be found out")
    assert "nothing is sent to it" in head(lab).reason
    mark = len(probe.control.actions("tip-1").actions)
    eventually(lambda: probe.control.statistics("tip-1")["lines"], "it to be asked again")
    assert not [action for action in probe.control.actions("tip-1", mark).actions if action.kind == "set"]
    probe.control.clear("tip-1")
    assert settled(lab, run, 3) == {"done": 3}
    assert max(visits(probe).values()) == 1


def test_two_configurations_claim_one_resource(probe: Laboratory, lab: Lab, start_daemon: StartDaemon) -> None:
    """Written otherwise, too: the second daemon says who has it, and gets it when that one lets go."""
    host, port = probe["tip-1"].address.split(":")
    again = stm(probe, resource=f"tcpip::{host}::{port}::socket")
    with start_daemon({"again": again}, name="other").connect() as other:
        eventually(lambda: "in use by process" in head(other, "again").reason, "it to be refused")
        assert f"process {head(lab).pid}, stm" in head(other, "again").reason
        assert head(lab).state == "ready"
        lab.ask(m.SetHead(0, "stm", "", False, "for the other one"))
        eventually(lambda: head(other, "again").state == "ready", "it to be let go of")
    lab.ask(m.SetHead(0, "stm", "", True))


# -- what is missing --------------------------------------------------------------------------------------------------


def test_what_is_missing_is_named_with_the_extra_that_has_it(place: Path, start_daemon: StartDaemon) -> None:
    shadow = place / "shadow"
    for library in ("pymeasure", "qcodes"):
        (shadow / library).mkdir(parents=True)
        (shadow / library / "__init__.py").write_text(f"raise ModuleNotFoundError('gone', name={library!r})\n")
    by_class = {"driver": "instrument", "path": [str(shadow)], "outputs": {"y": {}}}
    masters = {
        "pymeasure": {**by_class, "class": "pymeasure.instruments.hp:HP34401A", "read": {"y": "reading"}},
        "qcodes": {**by_class, "class": "qcodes.instrument_drivers.weinschel:Weinschel8320", "read": {"y": "IDN"}},
        "nowhere": {**by_class, "class": "nobody:Head"},
        "vendor": {
            "driver": "visa",
            "backend": "/nowhere/libvisa.so",
            "resource": "GPIB0::1::INSTR",
            "commands": {"read": {"y": "Y?"}, "safe": []},
            "outputs": {"y": {}},
        },
    }
    with start_daemon(masters).connect() as lab:

        def reason(master: str) -> str:
            status = next(status for status in lab.status().masters if status.name == master)
            return f"{head(lab, master).reason} {status.reason}"

        for master, says in (
            ("pymeasure", "needs pymeasure: pip install pymeasure (it is in the extra 'pymeasure')"),
            ("qcodes", "needs qcodes: pip install qcodes (it is in the extra 'qcodes')"),
            ("nowhere", "class 'nobody:Head': no module 'nobody' in"),
            ("vendor", "the VISA library of backend '/nowhere/libvisa.so' cannot be loaded"),
        ):
            eventually(lambda: says in reason(master), f"{master} to say {says!r}; it says {reason(master)!r}", 10)  # noqa: B023
