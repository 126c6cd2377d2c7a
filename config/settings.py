"""The settings of a daemon and its Masters: what a configuration file comes to when it has been read."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field as PydanticField,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from taskmaster.bus.places import default_state
from taskmaster.bus.text import format_duration
from taskmaster.config import addresses
from taskmaster.config.addresses import Addresses
from taskmaster.config.base import Conflict, Settings, setting
from taskmaster.config.builtin import BUILTIN_DRIVERS
from taskmaster.config.options import DriverOptions, FunctionOptions, ProcessOptions, ThreadOptions
from taskmaster.config.parameters import FieldSettings, OutputSettings, ParameterSettings
from taskmaster.config.values import NAME, FieldName, File, Folder, Label, base_folder, duration, show, size

if TYPE_CHECKING:
    from taskmaster.bus.fields import Field

__all__ = [
    "BUILTIN_DRIVERS",
    "MASTER_NAME",
    "Addresses",
    "DaemonSettings",
    "DriverOptions",
    "FieldSettings",
    "FunctionOptions",
    "MasterKeys",
    "MasterSettings",
    "OutputSettings",
    "ParameterSettings",
    "ProcessOptions",
    "Settings",
    "ThreadOptions",
]

#: What a Master may be called: its name stands in topics, file names and command lines.
MASTER_NAME = re.compile(NAME)

#: Heartbeats that may go missing before silence counts: one lost and one late must not cost a worker its lease.
HEARTBEATS_TO_LOSE = 3


def _read_address(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str) or "://" not in value:
        raise ValueError(f"expected an address such as 'tcp://127.0.0.1:5570', got {show(value)}")
    return addresses.read_address(value, base_folder(info))


Address = Annotated[
    str,
    BeforeValidator(_read_address),
    WithJsonSchema({"type": "string", "title": "address", "pattern": r"^(tcp://.+:(\d{1,5}|\*)|ipc://.+)$"}),
]
Positive = Annotated[int, PydanticField(ge=1)]


def _group(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", name):
        raise ValueError(f"expected the name of a group, such as 'lab', got {show(name)}")
    return name


class DaemonSettings(Settings):
    """The daemon itself."""

    name: Label = setting(
        "What the daemon is called in messages and on status pages.",
        default_factory=lambda: platform.node()[:64] or "taskmaster",
        shown="the host's name",
    )
    state: Folder = setting(
        "Folder of the journal, payload files, the lock and sockets; made if missing. Relative to this file. "
        "By default `$STATE_DIRECTORY`; else `/var/lib/taskmaster` for root and "
        "`$XDG_STATE_HOME/taskmaster` (`~/.local/state/taskmaster`) for others.",
        default_factory=default_state,
        shown="by platform",
        validate_default=True,
    )
    durability: Literal["power", "crash"] = setting(
        "What an acknowledged task or result survives: a `power` cut (the disk is synced before each acknowledgement), "
        "or a `crash` of programs only, which is faster.",
        default="power",
    )
    max_queued_tasks: Positive = setting(
        "Open tasks a Master takes before submissions have to wait. (Where none is open, a block is taken whatever its "
        "size: it could wait for ever.)",
        default=10_000_000,
    )
    max_queued_bytes: Annotated[int, size("1 kB")] = setting(
        "Bytes of open inputs a Master takes before submissions have to wait.", default=4 * 2**30, shown="4 GiB"
    )
    max_message: Annotated[int, size("4 kB")] = setting(
        "Largest message taken from a client or worker; larger inputs or outputs are refused.",
        default=64 * 2**20,
        shown="64 MiB",
    )
    keep_free: Annotated[int, size()] = setting(
        "Room kept back on the disk for results: with less left, submissions are refused.",
        default=256 * 10**6,
        shown="256 MB",
    )
    heartbeat: Annotated[float, duration("10 ms")] = setting(
        "How often worker hosts and the daemon tell each other that they are alive.", default=1.0, shown="1 s"
    )
    lost_after: Annotated[float, duration()] = setting(
        f"A worker host silent for this long is lost, with what it was evaluating. At least {HEARTBEATS_TO_LOSE} × "
        "`heartbeat`.",
        default=10.0,
        shown="10 s",
        validate_default=True,
    )
    grace: Annotated[float, duration()] = setting(
        "How long a graceful stop waits for evaluations under way.", default=10.0, shown="10 s"
    )
    group: Annotated[str, AfterValidator(_group)] | None = setting(
        "A group of this machine, such as `lab`, whose members may connect to the daemon's Unix sockets, and do there "
        "what its own user may. By default only that user may, and root; as a service, the group `taskmaster-users`.",
        default=None,
    )
    keys: File | None = setting(
        "The file that says who may talk to the daemon over the network (`taskmaster keys allow` writes it), which it "
        "then may listen to: all of it is encrypted. Relative to this file. By default nobody comes from elsewhere.",
        default=None,
    )
    key: File | None = setting(
        "With `keys`, the daemon's own pair of keys (`taskmaster keys new --daemon` makes it), by which others know "
        "it. Relative to this file. By default `daemon.key` beside `keys`.",
        default=None,
    )
    max_rate: Annotated[float, PydanticField(ge=10)] = setting(
        "With `keys`, messages a second that are borne of the owner of one key; two seconds' worth may come at once. "
        "(Programs that mean it send hundreds: clients gather tasks.) Whoever sends more is disconnected, and kept out "
        "for a while.",
        default=20_000.0,
    )
    max_connections: Positive = setting(
        "With `keys`, connections from one address of the network; further ones are ended.", default=4096
    )
    listen: Address | None = setting(
        "The control socket, from which clients learn the others' addresses: `ipc:///PATH` or `tcp://127.0.0.1:PORT` "
        "(`*`: any free port) on this machine only; with `keys` also `tcp://ADDRESS:PORT`, an IP address of this "
        "machine or 0.0.0.0 for all. Then, too, who may open the daemon's files comes by the default: `control` in "
        "`state`, or in `$RUNTIME_DIRECTORY` where a service manager sets that.",
        default=None,
    )
    results: Address | None = setting(
        "The socket that publishes results. By default the port after that of `listen`; beside ipc, `results` where "
        "`control` is by default.",
        default=None,
    )
    workers: Address | None = setting(
        "The socket that workers dial. By default the second port after that of `listen`; beside ipc, `workers` where "
        "`control` is by default.",
        default=None,
        validate_default=True,
    )

    @field_validator("lost_after")
    @classmethod
    def _outlast_heartbeats(cls, lost_after: float, info: ValidationInfo) -> float:
        least = HEARTBEATS_TO_LOSE * info.data.get("heartbeat", 0.0)
        if lost_after < least and not math.isclose(lost_after, least):
            raise ValueError(
                f"expected at least {HEARTBEATS_TO_LOSE} × heartbeat = {format_duration(least)}, "
                f"got {format_duration(lost_after)}"
            )
        return lost_after

    # On the last of the keys involved: `info.data` has those before it, as far as they are right by themselves.
    @field_validator("workers")
    @classmethod
    def _fit_together(cls, workers: str | None, info: ValidationInfo) -> str | None:
        data = {**info.data, "workers": workers}
        if not {"state", "listen", "results"} <= data.keys():
            return workers
        given = tuple(key for key in ("listen", "results", "workers") if data[key] is not None)
        resolved = addresses.resolve(data["listen"], data["results"], workers, data["state"])
        for key, message in addresses.problems(resolved, given, has_keys=data.get("keys") is not None):
            raise Conflict(key, message)
        if data.get("group") is not None and data.get("keys") is None and resolved.control.startswith("tcp://"):
            raise Conflict(
                "group",
                f"has no effect: whoever has an account on this machine may connect to {resolved.control}; leave "
                "listen out, for Unix sockets, or say by keys who may (docs/security.md)",
            )
        return workers

    @property
    def own_key(self) -> Path | None:
        """The file of the daemon's own pair of keys; None where it needs none."""
        return None if self.keys is None else self.key or self.keys.with_name("daemon.key")

    @property
    def addresses(self) -> Addresses:
        """Where the three sockets listen, with the defaults worked out."""
        return addresses.resolve(self.listen, self.results, self.workers, self.state)


class MasterKeys(Settings):
    """A Master's keys that do not depend on its driver."""

    driver: str = setting("The kind of evaluator: one of the drivers below.", example="process")
    description: str = setting("What the Master evaluates, for people.", default="")
    timeout: Annotated[float, duration("1 ms")] | None = setting(
        "Longest time one evaluation may take; past it the worker is replaced and the task ends by `on_lost`. "
        "By default no limit.",
        default=None,
    )
    on_lost: Literal["retry", "fail", "hold"] = setting(
        "What happens to a task whose worker was lost: `retry` it, `fail` it, or `hold` it, in doubt, "
        "for an operator (`taskmaster held`, `taskmaster resolve`).",
        default="retry",
    )
    approval: bool = setting("Whether tasks wait until somebody approves them (`taskmaster approve`).", default=False)
    max_attempts: Positive = setting("How often a task is started at most, with `on_lost` = `retry`.", default=3)
    max_queued_tasks: Positive | None = setting(
        "As in `[daemon]`, for this Master. By default the daemon's.", default=None
    )
    max_queued_bytes: Annotated[int, size("1 kB")] | None = setting(
        "As in `[daemon]`, for this Master. By default the daemon's.", default=None
    )
    parameters: Mapping[FieldName, ParameterSettings] = setting(
        "The parameters of a point, by name. None declared: inputs of any form are passed on as they are.", default={}
    )
    outputs: Mapping[FieldName, OutputSettings] = setting(
        "What an evaluation returns, by name. None declared: outputs of any form.", default={}
    )

    @property
    def output_fields(self) -> tuple[Field, ...]:
        """The outputs in the order of the file."""
        return tuple(settings.field(name) for name, settings in self.outputs.items())


class MasterSettings(MasterKeys):
    """One Master: its common keys, with the daemon's limits filled in, its ``name`` and its driver's ``options``."""

    max_queued_tasks: Positive
    max_queued_bytes: int
    name: str
    options: DriverOptions

    @property
    def parameter_fields(self) -> tuple[Field, ...]:
        """The parameters in the order of the file."""
        finite = not self.options.takes_infinity
        return tuple(settings.field(name, finite=finite) for name, settings in self.parameters.items())

    @classmethod
    def assemble(cls, name: str, keys: MasterKeys, options: DriverOptions, daemon: DaemonSettings) -> MasterSettings:
        """From parts that have each been validated."""
        values: dict[str, Any] = dict(keys)
        for limit in ("max_queued_tasks", "max_queued_bytes"):
            values[limit] = getattr(daemon, limit) if values[limit] is None else values[limit]
        return cls.model_construct(keys.model_fields_set, name=name, options=options.completed(keys), **values)
