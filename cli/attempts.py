"""Heads, tried in processes of their own, several at a time: one that hangs is ended alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from taskmaster.bus.text import format_duration
from taskmaster.cli.attempt import Attempt, Kind, Report
from taskmaster.config.heads import heads_of, normal_resource
from taskmaster.config.instruments import InstrumentOptions
from taskmaster.config.settings import MasterSettings
from taskmaster.daemon.service import options_for_wire
from taskmaster.drivers.simulated.described import DescribedHead

__all__ = ["attempt_all", "described"]

#: Processes at a time. Most of what they do is wait.
_AT_A_TIME = 8

#: What to add to an error of this class, for whoever checks a configuration.
_REMEDIES: Mapping[str, str] = {
    "Claimed": "a running daemon keeps its instruments (`taskmaster heads`): end it for this check",
    "TimedOut": "is the address that of this instrument, and are the terminators right?",
}


def described(master: MasterSettings) -> tuple[DescribedHead, ...]:
    """The heads of an instrument's Master; none of another's."""
    if not isinstance(master.options, InstrumentOptions):
        return ()
    options = options_for_wire(master.options.model_dump(by_alias=True))
    return tuple(
        DescribedHead(
            master.name, str(head["name"]), master.driver, head, master.parameter_fields, master.output_fields
        )
        for head in heads_of(options)
    )


def attempt_all(
    heads: Sequence[tuple[Kind, DescribedHead]], seconds: float, seed: int = 0
) -> Iterator[tuple[DescribedHead, Report]]:
    """Try them all; each with what became of it, in the order given.

    A head has ``seconds``, then its process is ended. Those at one resource take turns, in one process; so do those of
    one Master where neither instrument nor library is anybody else's.
    """
    together: dict[object, list[tuple[Kind, DescribedHead]]] = {}
    for i, (kind, head) in enumerate(heads):
        resource = head.options.get("resource")
        place = (
            head.master
            if kind == "simulate" and head.driver != "instrument"
            else resource and normal_resource(resource)
        )
        together.setdefault((kind, place or i), []).append((kind, head))
    attempts = [Attempt(group[0][0], tuple(head for _, head in group), seed) for group in together.values()]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        found = {
            (head.master, head.name): report
            for attempt, reports in zip(attempts, pool.map(lambda one: _attempt(one, seconds), attempts))
            for head, report in zip(attempt.heads, reports)
        }
    return ((head, found[head.master, head.name]) for _, head in heads)


def _attempt(attempt: Attempt, seconds: float) -> list[Report]:
    """The reports of all heads of one process, which has ended or was ended."""
    patience = seconds * len(attempt.heads)
    with subprocess.Popen(
        [sys.executable, "-m", "taskmaster.cli.attempt"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **attempt.heads[0].options.get("env", {})},
    ) as process:
        try:
            said, _ = process.communicate(msgspec.msgpack.encode(attempt), timeout=patience)
            ended = _how(process.returncode)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            ended = f"nothing came of it in {format_duration(patience)}, so its process was ended"
        except BaseException:
            process.kill()
            raise
    latest = _latest(said.splitlines())
    return [_concluded(latest.get(i, Report(i, doing="starting")), ended) for i in range(len(attempt.heads))]


def _latest(lines: Iterable[bytes]) -> dict[int, Report]:
    """The last whole report of each head."""
    reports = {}
    for line in lines:
        try:
            report = msgspec.json.decode(line, type=Report)
        except msgspec.DecodeError:  # the last line of a process that was killed
            continue
        reports[report.head] = report
    return reports


def _how(status: int) -> str:
    return f"its process ended with {f'signal {-status}' if status < 0 else f'status {status}'}"


def _concluded(report: Report, ended: str) -> Report:
    """With what became of it where it could not say so itself, and what to do."""
    if report.doing:
        report.problem, report.error = f"while {report.doing}: {ended}", "NoResponse"
    elif remedy := _REMEDIES.get(report.error):
        report.problem = f"{report.problem}; {remedy}"
    return report
