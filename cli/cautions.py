"""What `taskmaster check` says of a configuration that is right, but promises less than its reader may think."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Caution:
    """Something to know of the Masters' heads; ``key`` is what to change."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


def cautions(config: Config) -> Iterator[Caution]:
    """All of them, each once, in the order of the file."""
    for name, master in config.masters.items():
        found = {key: text for head in described(master) for key, text in _of_head(head.driver, head.options)}
        yield from (Caution(f"masters.{name}.{key}", text) for key, text in found.items())


def _of_head(driver: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if driver in ("visa", "serial"):
        if not Commands.from_options(options, driver=driver).shows_safe:
            yield "commands.safe", _COMMANDS
    elif driver == "instrument" and options.get("safe") and not options.get("identity"):
        yield "safe", _STEPS
