"""``taskmaster scan``: which instruments can be reached from here?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from taskmaster.bus.errors import TaskMasterError, WorkerError
from taskmaster.bus.text import parse_duration
from taskmaster.cli.base import Command, json_option
from taskmaster.cli.exits import InstrumentTrouble
from taskmaster.cli.output import Cell, Table, print_json, print_table, say

__all__ = ["command"]

#: Where SCPI instruments listen for bare lines.
_SCPI_PORT = 5025
#: Seconds that a VISA library may look around, and a process beyond what it waits for.
_LISTING, _STARTING = 60.0, 15.0
_PLACE = re.compile(r"(?P<host>[^\s:,]+|\[[0-9A-Fa-f:.]+\])(:(?P<ports>\d{1,5}(,\d{1,5})*))?")
#: Serial ports, and interfaces that are no instruments.
_NOT_ASKED = re.compile(r"ASRL|.*::INTFC$", re.IGNORECASE)


@dataclass
class _Found:
    """A place where an instrument is, or may be."""

    resource: str
    driver: str
    identity: str = ""
    #: of a serial port, what it says of itself
    description: str = ""
    problem: str = ""
    #: whether it was named on the command line, and asked who it is
    named: bool = False
    asked: bool = False
    #: what to write into the configuration
    lines: tuple[str, ...] = ()


@click.command("scan", cls=Command)
@click.option(
    "--tcp", "places", metavar="HOST[:PORT,...]", multiple=True,
    help=f"Also ask at these ports of this host ({_SCPI_PORT} by default). May be repeated.",
)  # fmt: skip
@click.option(
    "--ask", "baud", metavar="BAUD", type=click.IntRange(50, 4_000_000),
    help="Also ask at serial ports (those of --port, else all), at so many bits per second.",
)  # fmt: skip
@click.option("--port", "ports", metavar="PATH", multiple=True, help="A serial port, listed or not. May be repeated.")
@click.option("--backend", metavar="NAME", default="@py", show_default=True, help="The VISA library, as in the file.")
@click.option("--local", is_flag=True, help="Do not look around the network.")
@click.option("--timeout", metavar="TIME", default="2 s", show_default=True, help="How long an answer may take.")
@json_option
def command(
    places: tuple[str, ...],
    baud: int | None,
    ports: tuple[str, ...],
    backend: str,
    local: bool,
    timeout: str,
    as_json: bool,
) -> None:
    """List the instruments that can be reached from here, and who they are.

    VISA resources on USB, GPIB and the network are asked '*IDN?'; those that a daemon uses are left alone. Serial ports
    are listed only, unless --ask is given: to a device that does not know the question it may mean something else.

    A place that is named, and is not there or does not answer, is an error.
    """
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    asked = [resource for place in places for resource in _sockets(place)]
    found, notes = _listed(backend, local=local)
    for one in found:
        one.named = one.resource in asked
    listed = {one.resource for one in found}
    found += [_Found(resource, "visa", named=True) for resource in asked if resource not in listed]
    serial, more = _serial(ports)
    notes += more
    missed = [one for one in serial if one.problem]
    missed += _ask([one for one in found if not _NOT_ASKED.match(one.resource)], backend, seconds, None)
    if baud is not None:
        whom = [one for one in serial if not one.problem and (one.named or not ports)]
        missed += _ask(whom, backend, seconds, baud)
    _suggest([*found, *serial], baud)
    if as_json:
        print_json({"resources": [asdict(one) for one in (*found, *serial)], "notes": notes})
    else:
        _print([*found, *serial], notes)
    if named := [one.resource for one in missed if one.named]:
        raise InstrumentTrouble(f"{' and '.join(named)} cannot be asked, or did not answer: see above")


# -- what there is ----------------------------------------------------------------------------------------------------


def _sockets(place: str) -> Iterator[str]:
    match = _PLACE.fullmatch(place)
    if match is None or any(int(port) > 65535 for port in (match["ports"] or "").split(",") if port):
        raise click.BadParameter(f"expected HOST or HOST:PORT,PORT, got {place!r}", param_hint="--tcp")
    for port in (match["ports"] or str(_SCPI_PORT)).split(","):
        yield f"TCPIP0::{match['host']}::{int(port)}::SOCKET"


def _listed(backend: str, *, local: bool) -> tuple[list[_Found], list[str]]:
    """The VISA resources, but for serial ports, which have their own list."""
    from taskmaster.drivers.instruments.visa import resource_manager

    try:
        resource_manager(backend)
    except WorkerError as error:  # said here, before a process is started for it
        raise TaskMasterError(str(error)) from error
    arguments = [sys.executable, "-m", "taskmaster.drivers.instruments.scan", backend, *(["local"] if local else [])]
    try:
        done = subprocess.run(arguments, stdout=subprocess.PIPE, timeout=_LISTING, check=False)
    except subprocess.TimeoutExpired:
        return [], [f"the VISA library {backend} did not come to an end of looking around in {_LISTING:g} s"]
    if done.returncode:
        raise TaskMasterError(f"the VISA library {backend} could not look around, see above")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    resources = [resource for resource in answer["resources"] if not resource.upper().startswith("ASRL/")]
    return [_Found(resource, "visa") for resource in resources], answer["notes"]


def _serial(paths: Sequence[str]) -> tuple[list[_Found], list[str]]:
    from taskmaster.drivers.instruments.scan import serial_port, serial_ports

    try:
        ports = serial_ports()
    except WorkerError as error:
        return [], [str(error)]
    named = set(paths)
    ports += [serial_port(path) for path in paths if not any(path in (port.path, port.by_id) for port in ports)]
    found = [
        _Found(
            port.by_id or port.path, "serial", "", port.description, port.problem, bool(named & {port.path, port.by_id})
        )
        for port in ports
    ]
    return found, []


# -- who it is --------------------------------------------------------------------------------------------------------


def _ask(found: Sequence[_Found], backend: str, seconds: float, baud: int | None) -> list[_Found]:
    """Connect to each and ask who it is, as a check of a configuration does. Those that did not answer."""
    from taskmaster.cli.attempt import Kind
    from taskmaster.cli.attempts import attempt_all
    from taskmaster.drivers.instruments.errors import Claimed
    from taskmaster.drivers.instruments.permissions import LISTED
    from taskmaster.drivers.simulated.described import DescribedHead

    heads: list[tuple[Kind, DescribedHead]] = []
    for i, one in enumerate(found):
        options: dict[str, Any] = {"resource": one.resource, "query_timeout": seconds, "connect_timeout": seconds}
        options |= {"backend": backend} if baud is None else {"baud_rate": baud}
        heads.append(("connect", DescribedHead("scan", f"{i}", one.driver, options)))
    reports = attempt_all(heads, 3 * seconds + _STARTING)
    missed = []
    for one, (_, report) in zip(found, reports):
        one.asked = True
        one.identity, one.problem = report.identity, report.problem.replace(LISTED, "").rstrip("; ")
        if report.problem and report.error != Claimed.__name__:  # who uses it, had its answer
            missed.append(one)
    return missed


def _suggest(found: Sequence[_Found], baud: int | None) -> None:
    from taskmaster.drivers.instruments.scan import identity_pattern

    for one in found:
        if one.identity:
            lines = [f"driver = {_quoted(one.driver)}", f"resource = {_quoted(one.resource)}"]
            lines += [f"baud_rate = {baud}"] if one.driver == "serial" and baud is not None else []
            one.lines = (*lines, f"identity = {_quoted(identity_pattern(one.identity))}")


def _quoted(text: str) -> str:
    """As TOML has it; literally where that can be, as backslashes are not doubled then."""
    return f"'{text}'" if "\\" in text and "'" not in text else json.dumps(text, ensure_ascii=False)


def _print(found: Sequence[_Found], notes: Sequence[str]) -> None:
    if found:
        table = Table(["resource", "driver", "identity", "remark"], [], ("remark", "identity", "resource"))
        for one in found:
            remark = one.problem or one.description or ("" if one.identity else "not asked" if not one.asked else "")
            cell = Cell(one.identity, "green") if one.identity else Cell("–")
            table.rows.append([one.resource, one.driver, cell, " ".join(remark.split())])
        print_table(table)
    else:
        say("no instrument and no serial port was found")
    known = [one for one in found if one.lines]
    if known:
        say("\nfor the table of a Master:")
    for one in known:
        say("\n" + "\n".join(one.lines))
    for note in notes:
        click.echo(f"note: {note}", err=True)
