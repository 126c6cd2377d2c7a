"""``python -m taskmaster.drivers.simulated``: starts a simulator and runs it until it is told to end."""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from taskmaster.bus.errors import TaskMasterError
from taskmaster.drivers.simulated.actions import ActionLog
from taskmaster.drivers.simulated.chambers import ChamberOptions, make_chambers
from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.control import ControlChannel
from taskmaster.drivers.simulated.described import DescribedInstrument, Description
from taskmaster.drivers.simulated.endpoints import PtyEndpoint, TcpEndpoint
from taskmaster.drivers.simulated.loop import Loop
from taskmaster.drivers.simulated.probe import ProbeOptions, make_probe
from taskmaster.drivers.simulated.scpi import Instrument
from taskmaster.drivers.simulated.station import Station

__all__ = ["main", "parser"]

_PROGRAM = "python -m taskmaster.drivers.simulated"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a simulator; returns the exit status."""
    options = parser().parse_args(arguments)
    # A collection looks through all remembered actions, which has clients wait for 50 ms, and finds hardly anything.
    gc.disable()
    clock = Clock(options.factor)
    loop = Loop(clock)
    loop.stop_on_signals()
    if options.parent is not None:
        loop.stop_with(options.parent)
    with ExitStack() as stack:
        stack.callback(loop.close)
        try:
            stations = _stations(loop, _instruments(options, clock), options)
            for station in stations:
                stack.callback(station.close)
                station.plug()
            control = ControlChannel(loop, stations, *options.control)
        except (TaskMasterError, OSError) as error:
            sys.stderr.write(f"{_PROGRAM}: {error}\n")
            return 1
        _announce(options.simulator, control, stations)
        loop.run()
    return 0


def _instruments(options: argparse.Namespace, clock: Clock) -> Sequence[Instrument]:
    if options.simulator == "described":
        described = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=tuple[Description, ...])
        return [DescribedInstrument(one, clock, ActionLog(options.remember)) for one in described]
    if options.simulator == "chambers":
        room = ChamberOptions(options.count, options.seed, options.noise, options.variation)
        return make_chambers(room, clock, options.remember)
    probe = ProbeOptions(
        options.heads, options.seed, options.size, options.settling, options.noise, options.drift, options.crosstalk
    )
    return make_probe(probe, clock, options.remember)


def _stations(loop: Loop, instruments: Sequence[Instrument], options: argparse.Namespace) -> list[Station]:
    host, port = options.listen
    stations = []
    for i, instrument in enumerate(instruments):
        station = Station(loop, instrument, options.seed + i)
        station.endpoints.append(TcpEndpoint(loop, station, host, port + i if port else 0))
        if options.pty is not None:
            options.pty.mkdir(parents=True, exist_ok=True)
            station.endpoints.append(PtyEndpoint(station, options.pty.absolute() / instrument.name))
        stations.append(station)
    return stations


def _announce(simulator: str, control: ControlChannel, stations: Sequence[Station]) -> None:
    """One line of JSON that says where everything is; whoever reads it can connect at once."""
    heads = []
    for station in stations:
        head = {"name": station.instrument.name, "identity": station.instrument.identity}
        for endpoint in station.endpoints:
            head |= endpoint.address()
        heads.append(head)
    line = json.dumps({"simulator": simulator, "pid": os.getpid(), "control": control.address, "heads": heads})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# -- the command line -------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="A simulated laboratory; see docs/simulated.md.")
    simulators = parser.add_subparsers(dest="simulator", required=True, metavar="SIMULATOR")
    probe = simulators.add_parser("probe", help="a scanning probe with several heads over one surface")
    _add(probe, "heads", _from(int, 1), ProbeOptions.heads, "how many heads")
    _add(probe, "size", _from(float, 1), ProbeOptions.size, "side of the surface, in nm")
    _add(probe, "settling", _from(float, 0), ProbeOptions.settling, "seconds until a tip stands still after a move")
    _add(probe, "noise", _from(float, 0), ProbeOptions.noise, "rms of the 1/f noise, relative to the current")
    _add(probe, "drift", _from(float, 0), ProbeOptions.drift, "speed of the drift, in nm/s")
    _add(probe, "crosstalk", _from(float, 0), ProbeOptions.crosstalk, "share of a neighbour's current that is seen")
    chambers = simulators.add_parser("chambers", help="a room of growth chambers")
    _add(chambers, "count", _from(int, 1), ChamberOptions.count, "how many chambers")
    _add(chambers, "noise", _from(float, 0), ChamberOptions.noise, "scales the noise of all sensors")
    _add(chambers, "variation", _from(float, 0), ChamberOptions.variation, "by how much chambers and plants differ")
    described = simulators.add_parser("described", help="instruments as described on standard input, in msgpack")
    for simulator in (probe, chambers, described):
        _add_common(simulator)
    return parser


def _add_common(simulator: argparse.ArgumentParser) -> None:
    any_port = ("127.0.0.1", 0)
    _add(simulator, "listen", _address, any_port, "host:port of the first head, the others follow; 0: any free ports")
    _add(simulator, "control", _address, any_port, "host:port of the control channel; 0: any free port")
    _add(simulator, "pty", Path, None, "folder in which each head gets a pseudo-terminal, too, by its name")
    _add(simulator, "factor", _from(float, 0), 1.0, "how much faster time passes; 0: only when told to")
    _add(simulator, "seed", _from(int, 0), 0, "of everything random")
    _add(simulator, "remember", _from(int, 1), 100_000, "actions of each head that are remembered one by one")
    _add(simulator, "parent", _from(int, 1), None, "id of a process with which to end")


def _add(
    simulator: argparse.ArgumentParser, name: str, kind: Callable[[str], object], default: object, what: str
) -> None:
    shown = default if not isinstance(default, tuple) else f"{default[0]}:{default[1]}"
    text = what if default is None else f"{what} ({shown})"
    simulator.add_argument(f"--{name}", type=kind, default=default, metavar=name.upper(), help=text)


def _from(kind: type[int] | type[float], low: float) -> Callable[[str], int | float]:
    def number(text: str) -> int | float:
        value = kind(text)
        if not (math.isfinite(value) and value >= low):
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low:g} on")
        return value

    return number


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, like 127.0.0.1:5025")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
