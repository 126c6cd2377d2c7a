"""A configuration on the bench: each of its resources in the place of a simulator that is made from the description.

:func:`descriptions` says which simulators that takes, :func:`on_the_bench` is the same configuration with their
resources; both are pure. :func:`simulated` starts the simulators, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from taskmaster.config.heads import heads_of, normal_resource
from taskmaster.config.instruments import CommandOptions, InstrumentClassOptions, SerialOptions
from taskmaster.config.load import Config
from taskmaster.config.settings import DaemonSettings, MasterSettings
from taskmaster.drivers.simulated.client import HeadAddress, Laboratory
from taskmaster.drivers.simulated.described import DescribedHead, Description

__all__ = ["descriptions", "has_own_simulation", "not_simulated", "on_the_bench", "simulated"]

#: What a pseudo-terminal does not take, and needs not.
_PLAIN_LINE: Mapping[str, Any] = {
    "data_bits": 8,
    "parity": "none",
    "stop_bits": 1.0,
    "xonxoff": False,
    "rtscts": False,
    "dsrdtr": False,
}
_MARK = " (simulated)"
_LONGEST_NAME = 64


def descriptions(config: Config) -> tuple[Description, ...]:
    """One for each resource of the instruments that are described by commands, in the order of the file."""
    at: dict[str, list[DescribedHead]] = {}
    names: dict[str, str] = {}
    for master in config.masters.values():
        if not isinstance(master.options, CommandOptions):
            continue
        heads = heads_of(master.options.model_dump(by_alias=True))
        for i, head in enumerate(heads):
            key = normal_resource(head["resource"])
            whole = master.options.shared or not head["name"]
            names.setdefault(key, master.name if whole else f"{master.name}.{head['name']}")
            at.setdefault(key, []).append(_described(master, head, _levels(i, heads)))
    return tuple(Description(names[key], tuple(found)) for key, found in at.items())


def _described(master: MasterSettings, head: Mapping[str, Any], levels: dict[str, float]) -> DescribedHead:
    options = {**head, **_terminated(head)}
    return DescribedHead(
        master.name, head["name"], master.driver, options, master.parameter_fields, master.output_fields, levels
    )


def _terminated(options: Mapping[str, Any]) -> dict[str, str]:
    """What ends lines where the real instrument's carrier does that by itself, and a simulator's does not."""
    return {key: "\n" for key in ("read_terminator", "write_terminator") if options.get(key) == ""}


def _levels(index: int, heads: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Where in its limits a head's value of each interlock is, so that those of all heads are in the order declared."""
    return {name: _level(index, name, heads) for name in heads[index].get("interlocks") or ()}


def _level(index: int, name: str, heads: Sequence[Mapping[str, Any]]) -> float:
    places = {head["name"]: i for i, head in enumerate(heads)}
    ranks = [0] * len(heads)
    for _ in heads:  # as often as a chain of heads can be long
        for i, head in enumerate(heads):
            interlock = head["interlocks"][name]
            if interlock.get("head") not in (None, head["name"]):
                continue
            above, below = (places.get(interlock.get(key) or "", i) for key in ("above", "below"))
            if above != i:
                ranks[i] = max(ranks[i], ranks[above] + 1)
            if below != i:
                ranks[below] = max(ranks[below], ranks[i] + 1)
    highest = max(ranks)
    return 0.2 + 0.6 * ranks[index] / highest if highest else 0.5


def on_the_bench(config: Config, benches: Mapping[str, HeadAddress]) -> Config:
    """The configuration with every resource of a description that of its simulator, by name of the description.

    The state folder is another one, ``…-simulated``: what was simulated does not get among what was measured. Masters
    that cannot be simulated are left out, see :func:`not_simulated`.
    """
    place = {
        normal_resource(head.options["resource"]): benches[description.name]
        for description in descriptions(config)
        for head in description.heads
    }
    left_out = not_simulated(config)
    masters = {
        name: master.model_copy(update={"options": _replaced(master.options, place)})
        if isinstance(master.options, CommandOptions)
        else master
        for name, master in config.masters.items()
        if name not in left_out
    }
    return Config(config.path, _aside(config.daemon), masters)


def _aside(daemon: DaemonSettings) -> DaemonSettings:
    state = daemon.state.with_name(f"{daemon.state.name}-simulated")
    name = daemon.name[: _LONGEST_NAME - len(_MARK)] + _MARK
    return daemon.model_copy(update={"state": state, "name": name})


def _replaced(options: CommandOptions, place: Mapping[str, HeadAddress]) -> CommandOptions:
    def of(resource: str | None) -> dict[str, Any]:
        return {} if resource is None else {"resource": _resource(resource, options, place[normal_resource(resource)])}

    line = {key: value for key, value in _PLAIN_LINE.items() if getattr(options, key, None) is not None}
    backend = {"backend": "@py"} if hasattr(options, "backend") else {}
    ends = _terminated({key: getattr(options, key) for key in ("read_terminator", "write_terminator")})
    heads = getattr(options, "heads", ())
    return options.model_copy(
        update={
            **of(options.resource),
            **line,
            **backend,
            **ends,
            "heads": tuple(head.model_copy(update={**of(head.resource), **_own(head)}) for head in heads),
        }
    )


def _own(head: Any) -> dict[str, Any]:
    """What of a head's own table does not hold on the bench."""
    plain = {key: None for key in (*_PLAIN_LINE, "backend") if getattr(head, key, None) is not None}
    return plain | _terminated({key: getattr(head, key) for key in ("read_terminator", "write_terminator")})


def _resource(real: str, options: CommandOptions, bench: HeadAddress) -> str:
    """A simulator's resource of the same kind: a terminal for a serial line, else a socket."""
    if isinstance(options, SerialOptions) or real.startswith("/"):
        assert bench.pty is not None
        return bench.pty
    if real.upper().startswith("ASRL"):
        assert bench.pty_resource is not None
        return bench.pty_resource
    return bench.resource


def not_simulated(config: Config) -> dict[str, str]:
    """The Masters that must not run on the bench, with the reason: their code would reach for the instrument itself."""
    return {
        name: f"its class {master.options.class_} reaches its instrument by itself, and cannot be given a simulated one"
        for name, master in config.masters.items()
        if isinstance(master.options, InstrumentClassOptions) and not has_own_simulation(master.options)
    }


def has_own_simulation(options: InstrumentClassOptions) -> bool:
    """Whether the class talks to PyVISA-sim at every head, as its table says."""
    return all(_names_pyvisa_sim(head) for head in heads_of(options.model_dump(by_alias=True)))


def _names_pyvisa_sim(head: Mapping[str, Any]) -> bool:
    kwargs = head.get("kwargs") or {}
    libraries = (head.get("backend"), *(kwargs.get(key) for key in ("visa_library", "visalib")))
    return "pyvisa_sim_file" in kwargs or any(str(library).endswith("@sim") for library in libraries)


@contextmanager
def simulated(config: Config, seed: int = 0) -> Iterator[tuple[Config, Laboratory | None]]:
    """The configuration on the bench, as long as the context lasts, and what controls the simulators, if there are any.

    Raises PeerError if they do not start.
    """
    needed = descriptions(config)
    if not needed:
        yield on_the_bench(config, {}), None
        return
    with tempfile.TemporaryDirectory(prefix="taskmaster-") as folder:
        description = msgspec.msgpack.encode(needed)
        with Laboratory("described", stdin=description, pty=Path(folder), seed=seed) as laboratory:
            yield on_the_bench(config, {head.name: head for head in laboratory.heads}), laboratory
