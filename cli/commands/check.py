"""``taskmaster check``: is the configuration right, and can its functions be had? Is the journal whole?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from taskmaster.bus.errors import ConfigError, JournalDamaged
from taskmaster.bus.text import parse_duration
from taskmaster.cli.base import Command, json_option
from taskmaster.cli.exits import InstrumentTrouble
from taskmaster.cli.output import Cell, Table, count, print_json, print_table, record, say
from taskmaster.cli.probe import Finding, Question
from taskmaster.cli.states import print_report, state_of

if TYPE_CHECKING:
    from taskmaster.cli.devicecheck import Looked
    from taskmaster.cli.headcheck import Tried
    from taskmaster.config.load import Config, Evaluator, Reading
    from taskmaster.config.mistakes import Placed

__all__ = ["command"]

#: Seconds that importing a Master's modules may take.
PROBE_SECONDS = 120.0
_STDERR = 2
_FUNCTION = ("function", "functions")
#: What is looked for, in words: one, and several.
_KINDS = {
    **dict.fromkeys(("function", "setup", "teardown", "calls"), _FUNCTION),
    "class": ("class", "classes"),
    "driver": ("driver", "drivers"),
}
#: Options that a probe needs to know.
_LOOKED_AT = ("backend", "init", "set", "call", "read", "safe", "interlocks", "monitor", "watchdog")


@click.command("check", cls=Command)
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.argument("masters", metavar="[MASTER]...", nargs=-1)
@click.option(
    "--journal", metavar="STATE|CONFIG", type=click.Path(exists=True, path_type=Path),
    help="Look at the journal in a state folder, or that of a configuration, instead.",
)  # fmt: skip
@click.option(
    "--salvage", metavar="NEW", type=click.Path(path_type=Path),
    help="Write what can be kept of that journal to a new state folder.",
)  # fmt: skip
@click.option(
    "--copy", metavar="NEW", type=click.Path(path_type=Path),
    help="Copy that journal to a new state folder, also while its daemon is at work: a backup.",
)  # fmt: skip
@click.option(
    "--connect", is_flag=True,
    help="Also connect to every head of every instrument (of each MASTER), identify and read it, setting nothing; "
    "and look which devices there are for driver gpu.",
)  # fmt: skip
@click.option(
    "--simulate", is_flag=True,
    help="Also have each head evaluate a task with a simulator, made from its description, in the instrument's place.",
)  # fmt: skip
@click.option("--timeout", metavar="TIME", default="30 s", show_default=True, help="What one head may take in all.")
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of the point that is simulated.")
@json_option
def command(
    config: Path | None,
    masters: tuple[str, ...],
    journal: Path | None,
    salvage: Path | None,
    copy: Path | None,
    connect: bool,
    simulate: bool,
    timeout: str,
    seed: int,
    as_json: bool,
) -> None:
    """Check a configuration, or the journal.

    Reads CONFIG and the keys that it names, then imports every function of every Master as its workers would, and says
    everything that is wrong at once. Nothing is evaluated, and no daemon is needed or disturbed.

    With --connect, instruments are looked at as they are: no command of the file but queries is sent, and none that
    needs a task. (What a class of somebody's library sends when it is made, that sends.)
    """
    if (config is None) == (journal is None):
        raise click.UsageError("name either a configuration, or a journal by --journal")
    if config is not None and (salvage or copy) is not None:
        option = "--salvage" if salvage is not None else "--copy"
        raise click.UsageError(f"{option} NEW needs to be told from where, by --journal STATE")
    if salvage is not None and copy is not None:
        raise click.UsageError("--copy is for a journal that is whole, --salvage for one that is not: use one of them")
    if journal is not None and (connect or simulate):
        raise click.UsageError("a journal has no instruments: --connect and --simulate go with a configuration")
    if connect and simulate:
        raise click.UsageError("--connect is for the instruments, --simulate does without them: use one of them")
    if masters and not (connect or simulate):
        raise click.UsageError("a MASTER is named with --connect or --simulate; without, all are checked")
    if journal is not None and copy is not None:
        _copy(journal, copy, as_json=as_json)
    elif journal is not None and salvage is not None:
        _salvage(journal, salvage, as_json=as_json)
    elif journal is not None:
        _check_journal(journal, as_json=as_json)
    elif config is not None:
        heads = _heads_to_try(masters, _seconds(timeout), seed, connect=connect) if connect or simulate else None
        devices = _devices_to_look_at(masters, _seconds(timeout)) if connect else None
        _check_config(config, heads, devices, keys=not simulate, as_json=as_json)


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    if seconds <= 0:
        raise click.BadParameter("expected more than 0", param_hint="--timeout")
    return seconds


def _heads_to_try(
    masters: tuple[str, ...], seconds: float, seed: int, *, connect: bool
) -> Callable[[Config], list[Tried]]:
    from taskmaster.cli import headcheck

    if connect:
        return lambda config: headcheck.connect(config, masters, seconds)
    return lambda config: headcheck.simulate(config, masters, seconds, seed)


def _devices_to_look_at(masters: tuple[str, ...], seconds: float) -> Callable[[Config], list[Looked]]:
    from taskmaster.cli import devicecheck

    return lambda config: devicecheck.look(config, masters, seconds)


# -- the configuration ------------------------------------------------------------------------------------------------


def _check_config(
    path: Path,
    try_heads: Callable[[Config], list[Tried]] | None,
    look: Callable[[Config], list[Looked]] | None,
    *,
    keys: bool,
    as_json: bool,
) -> None:
    """Without ``keys`` those of the laboratory need not be there: its instruments are not, either."""
    from taskmaster.cli.cautions import cautions
    from taskmaster.cli.keycheck import mistaken_keys
    from taskmaster.config.load import read
    from taskmaster.config.mistakes import placed

    reading = read(path)
    told = [] if reading.config is None else list(cautions(reading.config))
    findings = {name: _probe(evaluator) for name, evaluator in reading.evaluators.items()}
    mistaken: list[Placed] = []
    if keys and reading.config is not None:
        mistaken += placed(mistaken_keys(reading.config.daemon), reading.lines, str(path))
    problems = sum(bool(finding.problem) for found in findings.values() for finding in found)
    ok = not problems and not mistaken and reading.config is not None
    tried = try_heads(reading.config) if ok and reading.config is not None and try_heads is not None else []
    troubled = sum(bool(one.problems) for one in tried)
    looked = look(reading.config) if ok and reading.config is not None and look is not None else []
    lacking = [one.master for one in looked if one.problem]
    if as_json:
        print_json(
            {
                "config": str(path),
                "ok": ok and not troubled and not lacking,
                "mistakes": [mistake._asdict() for mistake in _all_mistakes(path, reading, findings, mistaken)],
                "cautions": [asdict(caution) for caution in told],
                "masters": {name: [record(finding) for finding in found] for name, found in findings.items()},
                "heads": None if try_heads is None else [one.record() for one in tried],
                "devices": None if look is None else [one.record() for one in looked],
            }
        )
    elif findings:
        _print_findings(reading, findings)
    if not ok:
        unusable = [f"{path}: {_unusable(findings)} cannot be used, see above"] if problems else []
        raise ConfigError("\n".join([*map(str, reading.mistakes), *map(str, mistaken), *unusable]))
    if reading.config is None:
        return
    if not as_json:
        for caution in told:
            say(f"\n{path}: caution: {caution}")
        _print_heads(reading.config, try_heads is not None and (bool(tried) or not looked), tried)
        if looked:
            from taskmaster.cli.devicecheck import print_looked

            print_looked(looked)
    if troubled:
        raise InstrumentTrouble(f"{path}: {troubled} of {count(len(tried), 'head')} cannot be used, see above")
    if lacking:
        raise ConfigError(
            f"{path}: {count(len(lacking), 'Master has', 'Masters have')} no device to evaluate on, see above"
        )
    if not as_json:
        daemon = reading.config.daemon
        say(f"\n{path} is right\nstate    {daemon.state}\naddress  {daemon.addresses.control}")


def _unusable(findings: dict[str, list[Finding]]) -> str:
    """``1 function``, ``2 classes``; of several kinds, how many names."""
    roles = [finding.role for found in findings.values() for finding in found if finding.problem]
    kinds = {_KINDS.get(role.partition(".")[0], ("name", "names")) for role in roles}
    one, many = kinds.pop() if len(kinds) == 1 else ("name", "names")
    return count(len(roles), one, many)


def _print_heads(config: Config, asked: bool, tried: list[Tried]) -> None:
    if asked:
        from taskmaster.cli.headcheck import print_tried

        print_tried(config, tried)


def _all_mistakes(
    path: Path, reading: Reading, findings: dict[str, list[Finding]], mistaken: list[Placed]
) -> list[Placed]:
    """What is wrong with the file, and the keys and functions in it that cannot be had, in the order of their lines."""
    from taskmaster.config.mistakes import Mistake, placed

    unusable = [
        Mistake(("masters", name, *_key(finding.role)), finding.problem)
        for name, found in findings.items()
        for finding in found
        if finding.problem
    ]
    together = [*reading.mistakes, *mistaken, *placed(unusable, reading.lines, str(path))]
    return sorted(together, key=lambda mistake: mistake.line or 0)


def _key(role: str) -> tuple[str | int, ...]:
    """Where in the Master's table the name of a role stands."""
    key, *rest = role.split(".", 1)
    return key, *(int(part) if part.isdecimal() else part for part in rest)


def _print_findings(reading: Reading, findings: dict[str, list[Finding]]) -> None:
    table = Table(["master", "driver", "what", "name", "found"], [], ("name", "master"))
    for name, found in findings.items():
        for finding in found:
            well = Cell("no", "bold red") if finding.problem else Cell("yes", "green")
            table.rows.append([name, reading.evaluators[name].written, finding.role, finding.name, well])
    if table.rows:
        print_table(table)
    for name, found in findings.items():
        for finding in found:
            if finding.problem:
                say(f"\nMaster {name!r}, {finding.role}: {finding.problem}")
            if finding.traceback:
                say(f"{finding.traceback.rstrip()}")


def _probe(evaluator: Evaluator) -> list[Finding]:
    """What a worker of this Master would find, in a process with its environment."""
    question = _question(evaluator)
    if evaluator.written != evaluator.driver and not question.functions:
        return []  # that there is no such driver has been said
    environment = {**os.environ, **getattr(evaluator.options, "env", {})}
    reader, writer = os.pipe()
    with open(reader, "rb") as answer:
        # What the modules print is for people; it must not get between the lines of a program's JSON.
        process = subprocess.Popen(
            [sys.executable, "-m", "taskmaster.cli.probe", str(writer)],
            stdin=subprocess.PIPE,
            stdout=_STDERR,
            pass_fds=(writer,),
            env=environment,
        )
        os.close(writer)
        try:
            process.communicate(msgspec.msgpack.encode(question), timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return _all_of(question, f"importing it took more than {PROBE_SECONDS:g} s")
        found = answer.read()
    if process.returncode or not found:
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
        return _all_of(question, f"importing it ended the process with {how}")
    return msgspec.msgpack.decode(found, type=list[Finding])


def _question(evaluator: Evaluator) -> Question:
    options = evaluator.options.model_dump()
    keywords = options.get("call") == "keywords"
    return Question(
        evaluator.driver,
        tuple(map(str, options.get("path", ()))),
        evaluator.options.importables(),
        evaluator.parameters if keywords else None,
        {key: options[key] for key in _LOOKED_AT if key in options},
    )


def _all_of(question: Question, problem: str) -> list[Finding]:
    functions = question.functions or {"driver": question.driver}
    return [Finding(role, name, problem) for role, name in functions.items()]


# -- the journal ------------------------------------------------------------------------------------------------------


def _check_journal(place: Path, *, as_json: bool) -> None:
    from taskmaster.daemon.journal.check import report

    found = report(state_of(place))
    print_report(found, as_json=as_json)
    if not found.ok:
        raise JournalDamaged(f"the journal in {found.folder} is damaged, see above")


def _copy(place: Path, into: Path, *, as_json: bool) -> None:
    from taskmaster.daemon.journal.check import copy

    state = state_of(place)
    made = copy(state, into)
    print_report(made, as_json=as_json)
    if not made.ok:
        raise JournalDamaged(f"the copy of the journal in {state} is not whole, see above")
    if not as_json:
        say(
            f"\nThis is a copy of the journal in {state}. To go back to it, put this folder in its place.\n"
            "Its Masters are paused: what was evaluated since would be evaluated again. If it may be:\n"
            "taskmaster resume MASTER"
        )


def _salvage(place: Path, into: Path, *, as_json: bool) -> None:
    from taskmaster.daemon.journal.check import report, salvage

    state = state_of(place)
    kept = salvage(state, into)
    if not kept.runs and not report(state).ok:
        raise JournalDamaged(f"nothing could be kept of the journal in {state}: see taskmaster check --journal {state}")
    print_report(kept, as_json=as_json)
    if not as_json:
        say(
            f"\nThis is what could be kept of the journal in {state}. To go on with it, put this folder in its place,\n"
            f'or have the configuration say state = "{into.resolve()}".\n'
            "Its Masters are paused: tasks whose outcomes are lost would be evaluated again. If they may be:\n"
            "taskmaster resume MASTER"
        )
