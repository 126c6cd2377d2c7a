"""What is said between a head and its instrument while a task is tried, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import msgspec

from taskmaster.cli.output import value_text
from taskmaster.drivers.instruments.commandhead import CommandHead
from taskmaster.drivers.instruments.commands import Commands
from taskmaster.drivers.instruments.head import Head, HeadContext
from taskmaster.drivers.instruments.link import Link
from taskmaster.drivers.instruments.making import HeadMaker
from taskmaster.drivers.instruments.programme import ProgrammeHead
from taskmaster.drivers.instruments.replies import NO_VALUES, Reply

__all__ = ["Exchange", "recorded"]

#: Lines of each part of a dialogue: a ramp has very many, and a programme more.
_MOST_LINES = 100


class Exchange(msgspec.Struct, frozen=True):
    """One message to the instrument, in this part of its life, and what was made of the answer."""

    during: str
    sent: str
    answer: str | None = None


class _RecordedLink(Link):
    """Writes down what goes over it."""

    def __init__(self, commands: Commands, holder: str, dialogue: list[Exchange]) -> None:
        super().__init__(commands, holder)
        self._during = ""
        self._left = _MOST_LINES
        self._dialogue = dialogue

    def begin(self, during: str) -> None:
        """The next part of the dialogue."""
        self._during, self._left = during, _MOST_LINES

    def tell(self, message: bytes, *, acts: bool, more: bool = False) -> None:
        self._record(Exchange(self._during, message.decode()))
        super().tell(message, acts=acts, more=more)

    def ask(
        self,
        message: bytes,
        reply: Reply,
        values: Mapping[str, Any] = NO_VALUES,
        *,
        acts: bool = False,
        deadline: float | None = None,
        output: str = "",
    ) -> Any:
        found = super().ask(message, reply, values, acts=acts, deadline=deadline, output=output)
        self._record(Exchange(self._during, message.decode(), value_text(found)))
        return found

    def _record(self, exchange: Exchange) -> None:
        if self._left:
            self._left -= 1
            self._dialogue.append(exchange)


@contextmanager
def recorded(
    context: HeadContext, driver: str, dialogue: list[Exchange]
) -> Iterator[tuple[Head, Callable[[str], None]]]:
    """The head, closed with the context, and what says in which part of its life it is."""
    if driver == "instrument":
        with closing(HeadMaker(context.master, driver, {}).make(context)) as head:
            yield head, lambda _: None
        return
    commands = Commands.from_options(context.options, context.outputs, driver)
    link = _RecordedLink(commands, context.label, dialogue)

    def make(context: HeadContext) -> Head:
        return CommandHead(context, commands, link)

    programme = context.options.get("programme")
    with closing(link), closing(ProgrammeHead(context, make) if programme else make(context)) as command_head:
        yield command_head, link.begin
        link.begin("close")
