"""From a Master's driver and options to its heads: the one place where it is decided of which class a head is.

What only some heads need is imported by those: a worker that is started anew, or a process that is to make a head safe,
has no time to lose.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.fields import Field, Schema
from taskmaster.config.heads import heads_of
from taskmaster.drivers.instruments.claims import Claim
from taskmaster.drivers.instruments.commandhead import CommandHead
from taskmaster.drivers.instruments.commands import Commands
from taskmaster.drivers.instruments.head import Head, HeadContext
from taskmaster.drivers.instruments.sharing import Controller, SharedHead

__all__ = ["HeadMaker"]


class HeadMaker:
    """Makes the heads of a Master, as its options describe them."""

    def __init__(
        self,
        master: str,
        driver: str,
        options: Mapping[str, Any],
        parameters: Sequence[Field] = (),
        outputs: Sequence[Field] = (),
        controller: Controller | None = None,
    ) -> None:
        self.master = master
        self.driver = driver
        #: what all heads of this process have in common, if they are parts of one instrument
        self._controller = controller if options.get("shared") else None
        self.outputs = Schema(tuple(outputs), master, "output")
        self._parameters = Schema(tuple(parameters), master)
        self._options = {str(head["name"]): {"driver": driver, **head} for head in heads_of(options)}

    def options(self, head: str) -> Mapping[str, Any]:
        """A head's own options over the Master's. Raises ConfigError where there is no such head."""
        if head not in self._options:
            raise ConfigError(f"Master {self.master!r} has no head {head!r}; it has {', '.join(self._options)}")
        return self._options[head]

    def context(
        self,
        head: str,
        stopping: threading.Event | None = None,
        on_acting: Callable[[], None] = lambda: None,
        on_checkpoint: Callable[[bytes], None] = lambda token: None,
        on_between: Callable[[], float] = lambda: math.inf,
    ) -> HeadContext:
        """What a head gets from whoever hosts it."""
        return HeadContext(
            head,
            self.master,
            self.options(head),
            self._parameters,
            self.outputs,
            stopping or threading.Event(),
            on_acting,
            on_checkpoint,
            on_between,
            self._controller.claim if self._controller is not None else Claim,
        )

    def make(self, context: HeadContext) -> Head:
        """The head; nothing is connected yet. Raises ConfigError where the options do not fit."""
        if not context.options.get("programme"):
            return self._plain(context)
        from taskmaster.drivers.instruments.programme import ProgrammeHead

        return ProgrammeHead(context, self._plain)

    def _plain(self, context: HeadContext) -> Head:
        controller = self._controller
        if self.driver in ("visa", "serial"):
            if controller is None:
                return CommandHead(context)
            commands = Commands.from_options(context.options, context.outputs)
            return CommandHead(context, commands, controller.link(commands, context.master or context.label))
        if self.driver == "instrument":
            from taskmaster.drivers.instruments.classes import make_head

            head = make_head(context)
            return head if controller is None else SharedHead(head, controller)
        raise ConfigError(f"driver {self.driver!r} is none of an instrument's")
