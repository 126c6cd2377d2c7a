"""What `taskmaster check` says of a configuration that is right, but promises less than its reader may think."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any

from taskmaster.cli.attempts import described
from taskmaster.config.load import Config
from taskmaster.drivers.instruments.commands import Commands

__all__ = ["Caution", "cautions"]

_COMMANDS = (
    "nothing can be asked after these commands: the head counts as safe once they are sent, whatever the instrument "
    "makes of them. Declare `errors` or `identify`, or an `answer` of the last of them"
)
_STEPS = (
    "nothing is asked after these steps: the head counts as safe once none of them has raised. Declare `identity`, if "
    "the instrument can say what it is; and let the class raise where it is refused something"
)
_METRICS = (
    "whoever can reach this address, also from other machines, may read the names of Masters and heads, and counts; "
    "nobody is asked who they are"
)
_PARQUET = "to archive runs as Parquet needs pyarrow, which is not installed: until it is, no run is deleted"
_NOTHING = "runs are deleted without being archived: what was measured in them is gone"


@dataclass(frozen=True)
class Caution:
    """Something to know of a configuration; ``key`` is what to change."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


def cautions(config: Config) -> Iterator[Caution]:
    """All of them, each once: of the daemon, then of Masters in the order of the file."""
    yield from _of_operations(config)
    for name, master in config.masters.items():
        found = {key: text for head in described(master) for key, text in _of_head(head.driver, head.options)}
        yield from (Caution(f"masters.{name}.{key}", text) for key, text in found.items())


def _of_operations(config: Config) -> Iterator[Caution]:
    listen, rules = config.metrics.listen, config.retention
    if listen is not None and not ip_address(listen.rpartition(":")[0].strip("[]")).is_loopback:
        yield Caution("metrics.listen", _METRICS)
    prunes = rules.closed is not None or rules.size is not None
    if prunes and rules.archive == "parquet" and find_spec("pyarrow") is None:
        yield Caution("retention.archive", _PARQUET)
    if prunes and rules.archive == "none":
        yield Caution("retention.archive", _NOTHING)


def _of_head(driver: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if driver in ("visa", "serial"):
        if not Commands.from_options(options, driver=driver).shows_safe:
            yield "commands.safe", _COMMANDS
    elif driver == "instrument" and options.get("safe") and not options.get("identity"):
        yield "safe", _STEPS
