"""``taskmaster check --connect`` and ``--simulate``: every head of the instruments, tried, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from taskmaster.bus.errors import UnknownMaster
from taskmaster.bus.text import did_you_mean_or
from taskmaster.cli.attempt import Kind, Report, Value
from taskmaster.cli.attempts import attempt_all, described
from taskmaster.cli.dialogue import Exchange
from taskmaster.cli.output import Cell, Table, print_table, say
from taskmaster.config.load import Config
from taskmaster.drivers.simulated.bench import not_simulated, simulated
from taskmaster.drivers.simulated.described import DescribedHead

__all__ = ["Tried", "connect", "print_tried", "simulate"]


@dataclass(frozen=True)
class Tried:
    """A head and what became of it."""

    head: DescribedHead
    report: Report
    #: as the file has it, whatever stood in its place
    resource: str

    @property
    def problems(self) -> list[str]:
        """What is wrong, if anything."""
        values = [f"{value.role} {value.name}: {value.problem}" for value in self.report.values if value.problem]
        return ([self.report.problem] if self.report.problem else []) + values

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        report = msgspec.to_builtins(self.report)
        del report["head"], report["doing"]
        head = self.head
        named = {"master": head.master, "head": head.name, "driver": head.driver, "resource": self.resource}
        return {**named, "ok": not self.problems, **report}


def connect(config: Config, masters: Sequence[str], seconds: float) -> list[Tried]:
    """Connect to every head of these Masters (of all, if none is named), identify it, read it; nothing is set.

    A head is given up after ``seconds``. Raises UnknownMaster.
    """
    heads = [head for name in _chosen(config, masters) for head in described(config.masters[name])]
    return [_tried(head, report) for head, report in attempt_all([("connect", head) for head in heads], seconds)]


def simulate(config: Config, masters: Sequence[str], seconds: float, seed: int) -> list[Tried]:
    """Have simulators in the place of all resources, and every head evaluate a task at a random point.

    Of a class, whose instrument cannot be simulated, it is looked whether it can be made and has what is named.
    Raises UnknownMaster, PeerError if the simulators do not start.
    """
    chosen = _chosen(config, masters)
    kept = Config(config.path, config.daemon, {name: config.masters[name] for name in chosen})
    real = {(head.master, head.name): head for name in chosen for head in described(kept.masters[name])}
    only_made = not_simulated(kept)
    with simulated(kept, seed) as (on_bench, _):
        heads: list[tuple[Kind, DescribedHead]] = []
        for name in chosen:
            made = name in only_made
            master = kept.masters[name] if made else on_bench.masters[name]
            heads += [("import" if made else "simulate", head) for head in described(master)]
        found = list(attempt_all(heads, seconds, seed))
    for head, report in found:
        if head.master in only_made:
            report.notes.insert(0, f"not simulated: {only_made[head.master]}; its class and tables were looked at")
    return [_tried(real[head.master, head.name], report) for head, report in found]


def _tried(head: DescribedHead, report: Report) -> Tried:
    return Tried(head, report, str(head.options.get("resource") or ""))


def _chosen(config: Config, masters: Sequence[str]) -> list[str]:
    for name in masters:
        if name not in config.masters:
            raise UnknownMaster(f"there is no Master {name!r}{did_you_mean_or(name, config.masters)}")
    return list(dict.fromkeys(masters)) or list(config.masters)


# -- what is printed --------------------------------------------------------------------------------------------------


def print_tried(config: Config, tried: Sequence[Tried]) -> None:
    """A table of heads, what is wrong with them, and a task's dialogue for each Master that has one."""
    say()
    if tried:
        print_table(_table(tried))
    else:
        drivers = ", ".join(dict.fromkeys(master.driver for master in config.masters.values()))
        say(f"there are no instruments to try among the Masters asked for (drivers: {drivers})")
    for one in tried:
        who = f"Master {one.head.master!r}" + (f", head {one.head.name!r}" if one.head.name else "")
        for line in (*one.problems, *_remarks(one)):
            say(f"\n{who}: {line}")
        if one.report.traceback:
            say(one.report.traceback.rstrip())
    for name in dict.fromkeys(one.head.master for one in tried):
        first = next((one for one in tried if one.head.master == name and one.report.dialogue), None)
        if first is not None:
            _print_dialogue(first)


def _table(tried: Sequence[Tried]) -> Table:
    headings = ["master", "head", "resource", "identity", "well", ">time", "values"]
    table = Table(headings, [], ("values", "identity", "resource", "head", "master"), ("time",))
    for one in tried:
        well = Cell("no", "bold red") if one.problems else Cell("yes", "green")
        # An interlock mostly looks at what is monitored, too.
        shown = {value.name: _shown(value) for value in reversed(one.report.values) if value.text}
        values = "  ".join(reversed(shown.values()))
        head, report = one.head, one.report
        table.rows.append(
            [head.master, head.name, one.resource, report.identity, well, f"{report.seconds:.2f} s", values]
        )
    return table


def _shown(value: Value) -> str:
    return f"{value.name}={value.text or '–'}{f' {value.unit}' if value.unit and value.text else ''}"


def _remarks(one: Tried) -> Iterator[str]:
    yield from one.report.notes
    yield from (f"{value.role} {value.name} {value.note}" for value in one.report.values if value.note)


def _print_dialogue(one: Tried) -> None:
    head = f", head {one.head.name!r}" if one.head.name else ""
    say(f"\nMaster {one.head.master!r}{head}: one task, at {one.report.point or 'no parameters'}")
    exchanges: list[Exchange] = one.report.dialogue
    width = max(len(exchange.sent) for exchange in exchanges)
    before = ""
    for exchange in exchanges:
        during = exchange.during if exchange.during != before else ""
        answer = "" if exchange.answer is None else f"  → {exchange.answer}"
        say(f"  {during:<6}{exchange.sent:<{width}}{answer}".rstrip())
        before = exchange.during
