"""Instruments that speak SCPI: commands declared where they are handled, arguments checked, errors queued.

After IEEE 488.2 and SCPI-1999: headers in long and short form and in any case, several commands in a line separated by
semicolons, an error queue that overflows with -350, the standard event status register, definite-length blocks. A query
that is refused gets no answer; the error queue says why.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, TypeAlias, TypeVar

from taskmaster.drivers.simulated.actions import ActionLog, Kind
from taskmaster.drivers.simulated.clock import Clock

__all__ = ["ERRORS", "Answer", "Command", "Instrument", "Number", "Pending", "Refused", "block", "command", "number"]

#: The errors that the instruments report (SCPI-1999, volume 2, chapter 21).
ERRORS = {
    0: "No error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -221: "Settings conflict",
    -222: "Data out of range",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}
#: How many errors the queue holds.
_QUEUE_LENGTH = 30
#: Bits of the standard event status register.
_POWER_ON, _COMMAND_ERROR, _EXECUTION_ERROR, _DEVICE_ERROR = 128, 32, 16, 8

_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


class Refused(Exception):
    """The instrument does not do what it was told; the code goes to its error queue."""

    def __init__(self, code: int) -> None:
        super().__init__(ERRORS[code])
        self.code = code


@dataclass(frozen=True)
class Pending:
    """The answer will be complete at a simulated time: the parts of it so far, and the commands still to execute."""

    until: float
    parts: tuple[bytes, ...]
    rest: tuple[bytes, ...] = ()


Answer: TypeAlias = bytes | Pending | None


@dataclass(frozen=True)
class Number:
    """A numeric argument with its bounds."""

    name: str
    unit: str
    low: float
    high: float
    whole: bool = False

    def parse(self, text: bytes) -> float:
        """The argument's value. Raises Refused."""
        if _NUMBER.fullmatch(text) is None:
            raise Refused(-104)
        value = float(text)
        if not self.low <= value <= self.high:
            raise Refused(-222)
        if self.whole and value != int(value):
            raise Refused(-104)
        return value

    def __str__(self) -> str:
        return f"{self.name}: {self.low:g} … {self.high:g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Command:
    """One command of an instrument: how it is written, what it takes, what it does."""

    #: in SCPI's notation, the short form in capitals: ``MEASure:CURRent?``
    header: str
    takes: tuple[Number, ...]
    kind: Kind
    #: what the answer is, in words; empty if there is none
    answers: str
    #: whether it makes or keeps the instrument safe, by its arguments
    safe: Callable[..., bool]
    does: str
    handler: Callable[..., Answer]

    @property
    def short(self) -> str:
        """The short form: ``MEAS:CURR?``."""
        return "".join(letter for letter in self.header if not letter.islower())

    def spellings(self) -> Iterator[bytes]:
        """Every form that is understood, in capitals."""
        parts = re.split(r"([:?])", self.header)
        forms = [sorted({part.upper(), "".join(c for c in part if not c.islower())}) for part in parts]
        for form in product(*forms):
            yield "".join(form).encode()

    def parse(self, text: bytes) -> tuple[float, ...]:
        """The values of the arguments. Raises Refused."""
        parts = [part.strip() for part in text.split(b",")] if text.strip() else []
        if len(parts) < len(self.takes):
            raise Refused(-109)
        if len(parts) > len(self.takes):
            raise Refused(-108)
        return tuple(number.parse(part) for number, part in zip(self.takes, parts, strict=True))


_Handler = TypeVar("_Handler", bound=Callable[..., Answer])


def _never(*_: float) -> bool:
    return False


def command(
    header: str, *takes: Number, kind: Kind = "query", answers: str = "", safe: Callable[..., bool] = _never
) -> Callable[[_Handler], _Handler]:
    """Declare a method as the handler of a command. It gets the simulated time, then the arguments; what the command
    does is the first paragraph of its docstring."""

    def declare(handler: _Handler) -> _Handler:
        does = " ".join((handler.__doc__ or "").partition("\n\n")[0].split())
        handler.__dict__["declares"] = Command(header, takes, kind, answers, safe, does, handler)
        return handler

    return declare


class Instrument:
    """What every simulated instrument has: the common commands, errors, the record of what it did.

    A subclass declares its commands with :func:`command` and sets its state in :meth:`power_on`.
    """

    #: every command by declaration, the common ones first
    COMMANDS: ClassVar[tuple[Command, ...]] = ()
    _spelled: ClassVar[dict[bytes, Command]] = {}
    #: what ends a line to it, and one from it
    hears: bytes = b"\n"
    says: bytes = b"\n"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        members = (member for base in reversed(cls.__mro__) for member in vars(base).values())
        cls.COMMANDS = tuple(member.declares for member in members if hasattr(member, "declares"))
        cls._spelled = {spelling: declared for declared in cls.COMMANDS for spelling in declared.spellings()}

    def __init__(self, name: str, identity: str, clock: Clock, log: ActionLog) -> None:
        self.name = name
        self.identity = identity
        self.clock = clock
        self.log = log
        #: real seconds of silence after which the instrument makes itself safe; 0: never
        self.watchdog = 0.0
        self._errors: deque[int] = deque()
        self._events = 0
        self.power_cycle()

    # -- what a subclass provides -------------------------------------------------------------------------------------

    def power_on(self, now: float) -> None:
        """Take on the state of an instrument that was just switched on."""

    def make_safe(self, now: float) -> None:
        """What the instrument's own watchdog does."""

    def overheat(self, now: float, *, hot: bool) -> None:
        """Something gets too hot, or no longer does."""

    def settings(self) -> dict[str, float]:
        """How it is set, as the record of a measurement names it."""
        return {}

    def done_at(self) -> float:
        """The simulated time at which everything that was begun will be done."""
        return 0.0

    def truth(self, now: float) -> dict[str, float]:
        """What is so, without noise or faults: for tests, not for clients."""
        return self.settings()

    # -- being told ---------------------------------------------------------------------------------------------------

    def execute(self, line: bytes) -> Answer:
        """Carry out a line; its answer without the terminator, None if it has none."""
        if b";" in line:
            return self.go_on((), tuple(line.split(b";")))
        return self._execute_one(line)

    def go_on(self, parts: tuple[bytes, ...], units: tuple[bytes, ...]) -> Answer:
        """Carry out the rest of a line with several commands; their answers are joined by semicolons."""
        for i, unit in enumerate(units):
            answer = self._execute_one(unit)
            if isinstance(answer, Pending):
                return Pending(answer.until, parts + answer.parts, units[i + 1 :])
            if answer is not None:
                parts += (answer,)
        return b";".join(parts) if parts else None

    def _execute_one(self, unit: bytes) -> Answer:
        declared = self._spelled.get(unit)
        text = b""
        if declared is None:
            head, _, text = unit.strip().partition(b" ")
            if not head:
                return None
            declared = self._spelled.get(head.upper().lstrip(b":"))
            if declared is None:
                self.log.counts["(undefined)"] += 1
                self.report(-113)
                return None
        return self._carry_out(declared, text)

    def _carry_out(self, declared: Command, text: bytes) -> Answer:
        name = declared.short
        self.log.counts[name] += 1
        now = self.clock.now()
        arrived = self.clock.real()
        arguments: tuple[float, ...] = ()
        answer: Answer = None
        error = 0
        # As it stood when it was told to measure, not as it was afterwards.
        at = self.settings() if declared.kind == "measure" else None
        try:
            arguments = declared.parse(text) if text or declared.takes else ()
            answer = declared.handler(self, now, *arguments)
        except Refused as refusal:
            error = refusal.code
            self.report(error)
        if declared.kind != "query":
            safe = not error and declared.safe(*arguments)
            self.log.add(arrived, now, declared.kind, name, arguments, at, safe=safe, error=error)
        return answer

    # -- errors and power ---------------------------------------------------------------------------------------------

    def report(self, code: int) -> None:
        """Queue an error."""
        self._events |= _COMMAND_ERROR if code > -200 else _EXECUTION_ERROR if code > -300 else _DEVICE_ERROR
        if len(self._errors) < _QUEUE_LENGTH:
            self._errors.append(code)
        else:
            self._errors[-1] = -350

    def power_cycle(self) -> None:
        """Off and on again: settings and errors are lost, the record is not."""
        self._errors.clear()
        self._events = _POWER_ON
        self.watchdog = 0.0
        self.power_on(self.clock.now())

    def bark(self) -> None:
        """The watchdog has heard nothing for too long."""
        now = self.clock.now()
        self.make_safe(now)
        self.log.add(self.clock.real(), now, "set", "WDOG", safe=True, by="watchdog")

    # -- the common commands ------------------------------------------------------------------------------------------

    @command("*IDN?", answers="maker, model, serial number, version")
    def _identify(self, now: float) -> Answer:
        """Who it is."""
        return self.identity.encode()

    @command("*CLS", kind="set")
    def _clear(self, now: float) -> Answer:
        """Empties the error queue and the event register."""
        self._errors.clear()
        self._events = 0
        return None

    @command("*RST", kind="set", safe=lambda: True)
    def _reset(self, now: float) -> Answer:
        """Back to the settings of power-on; errors stay."""
        self.watchdog = 0.0
        self.power_on(now)
        return None

    @command("*OPC?", answers="`1`")
    def _complete(self, now: float) -> Answer:
        """Answers when everything that was begun is done."""
        done = self.done_at()
        return b"1" if done <= now else Pending(done, (b"1",))

    @command("*ESR?", answers="whole number")
    def _event_status(self, now: float) -> Answer:
        """The event register, which is emptied: 128 it was switched on, 32 command, 16 execution, 8 device error."""
        events, self._events = self._events, 0
        return b"%d" % events

    @command("SYSTem:ERRor?", answers='`0,"No error"` or code and text')
    def _next_error(self, now: float) -> Answer:
        """Takes the oldest error from the queue."""
        code = self._errors.popleft() if self._errors else 0
        return f'{code},"{ERRORS[code]}"'.encode()

    @command("WDOG", Number("silence", "s", 0, 86400), kind="set")
    def _set_watchdog(self, now: float, seconds: float) -> Answer:
        """Makes itself safe when nothing was heard for so many real seconds; 0 turns that off."""
        self.watchdog = seconds
        return None

    @command("WDOG?", answers="s")
    def _get_watchdog(self, now: float) -> Answer:
        """The watchdog's time."""
        return number(self.watchdog)


def number(value: float) -> bytes:
    """A number as instruments write it (NR3): ``+1.234567E-09``."""
    return b"%+.6E" % value


def block(data: bytes) -> bytes:
    """A definite-length arbitrary block (IEEE 488.2, 8.7.9): ``#``, digits of the length, length, data."""
    length = b"%d" % len(data)
    return b"#%d%s%s" % (len(length), length, data)
