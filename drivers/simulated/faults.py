"""What can be wrong with an instrument or the way to it, on command: decided here, carried out by its station.

A fault strikes lines that begin with ``match``, lets the first ``skip`` of them pass, and is over after ``count``
(never, if that is None). Several may hold at the same time; they act one after the other in the order in which they
were set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from taskmaster.bus.text import did_you_mean_or
from taskmaster.drivers.simulated.scpi import number

__all__ = ["FAULTS", "Delivery", "Fault", "FaultKind", "Faults", "shape"]

FaultKind = Literal[
    "latency", "silence", "late", "garbage", "half", "excess", "units", "identity", "stuck", "unplug", "power"
]

#: What each kind does.
FAULTS: dict[FaultKind, str] = {
    "latency": "the answer comes after `seconds`; what follows on the connection waits",
    "silence": "the command is carried out, no answer comes",
    "late": "the answer comes after `seconds`, among the answers to what follows",
    "garbage": "random bytes of the answer's length come in its place",
    "half": "the answer's first half comes, without terminator",
    "excess": "the answer comes twice, in two lines",
    "units": "the numbers of the answer are multiplied by `scale`, and followed by `text`",
    "identity": "`*IDN?` is answered with `text`",
    "stuck": "every answer is the first that was given to the same query",
    "unplug": "connections are closed at `at`, new ones refused for `seconds` or until replugged",
    "power": "the same, and the instrument has its power-on state when it is back",
}
#: Kinds that strike any line; the others strike queries that have an answer.
_CUTS = frozenset({"unplug", "power"})
_NUMBERS = re.compile(rb"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?:,[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)*")


@dataclass
class Fault:
    """Something wrong. Which attributes count depends on the kind, see ``FAULTS``."""

    kind: FaultKind
    #: what lines it strikes begin with, in any case; any, if empty
    match: str = ""
    skip: int = 0
    count: int | None = None
    seconds: float = 0.0
    text: str = ""
    scale: float = 1e3
    #: of a cut: `before` the command is carried out, `after` that and before its answer, or `within` the answer
    at: Literal["before", "after", "within"] = "after"
    #: a cut resets the connection instead of closing it
    reset: bool = False
    #: lines that it has struck
    struck: int = 0
    #: what it has answered, if it is stuck
    answered: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no fault {self.kind!r}{did_you_mean_or(self.kind, FAULTS)}")
        if self.at not in ("before", "after", "within"):
            raise ValueError(f"a cut is at 'before', 'after' or 'within', not {self.at!r}")
        if self.seconds < 0 or self.skip < 0 or (self.count is not None and self.count < 1):
            raise ValueError("a fault's seconds and skip are 0 or more, its count 1 or more, or null for no end")

    def strikes(self, line: bytes, answer: bytes | None) -> bool:
        """Whether it acts on this line, which then counts."""
        upper = line.strip().upper()
        if not upper.startswith(self.match.upper().encode()) or not self._concerns(upper, answer):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.struck += 1
        return True

    def _concerns(self, line: bytes, answer: bytes | None) -> bool:
        if self.kind in _CUTS:
            return True
        if answer is None:
            return False
        if self.kind == "identity":
            return line == b"*IDN?"
        if self.kind == "units":
            return _NUMBERS.fullmatch(answer) is not None and not line.startswith((b"*", b"SYST"))
        if self.kind == "stuck":
            return not line.startswith((b"*", b"SYST"))
        return True

    @property
    def over(self) -> bool:
        """It has struck as often as it was to."""
        return self.count is not None and self.struck >= self.count


@dataclass
class Delivery:
    """What is sent for an answer, and when."""

    #: None: nothing
    data: bytes | None
    #: real seconds to wait
    delay: float = 0.0
    #: whether what follows waits, too
    in_order: bool = True


class Faults:
    """What is wrong with one head."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._random = Random(seed)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def add(self, fault: Fault) -> None:
        """From now on."""
        self._faults.append(fault)

    def clear(self, kind: str | None = None) -> None:
        """End all, or those of a kind."""
        self._faults = [fault for fault in self._faults if kind is not None and fault.kind != kind]

    def cut(self, line: bytes, *, before: bool) -> Fault | None:
        """The cut that strikes now, ``before`` the line is carried out or after that."""
        for fault in self._faults:
            if fault.kind in _CUTS and (fault.at == "before") == before and fault.strikes(line, None):
                self._forget_what_is_over()
                return fault
        return None

    def deliver(self, line: bytes, answer: bytes) -> Delivery:
        """What comes of an answer."""
        delivery = Delivery(answer + b"\n")
        for fault in self._faults:
            if fault.kind not in _CUTS and fault.strikes(line, answer):
                shape(fault, line, answer, delivery, self._random.randbytes)
        self._forget_what_is_over()
        return delivery

    def _forget_what_is_over(self) -> None:
        self._faults = [fault for fault in self._faults if not fault.over]


def shape(fault: Fault, line: bytes, answer: bytes, delivery: Delivery, random_bytes: Callable[[int], bytes]) -> None:
    """Let a fault that is no cut act on the delivery of an answer."""
    data = delivery.data
    if fault.kind in ("latency", "late"):
        delivery.delay += fault.seconds
        delivery.in_order = fault.kind == "latency"
    elif fault.kind == "silence" or data is None:
        delivery.data = None
    elif fault.kind == "garbage":
        # No terminator among it: it is one line of nonsense.
        delivery.data = random_bytes(len(data) - 1).replace(b"\n", b"?") + b"\n"
    elif fault.kind == "half":
        delivery.data = data[: (len(data) - 1) // 2]
    elif fault.kind == "excess":
        delivery.data = data * 2
    elif fault.kind == "units":
        scaled = b",".join(number(float(part) * fault.scale) for part in answer.split(b","))
        delivery.data = scaled + fault.text.encode() + b"\n"
    elif fault.kind == "identity":
        delivery.data = fault.text.encode() + b"\n"
    elif fault.kind == "stuck":
        delivery.data = fault.answered.setdefault(line.strip().upper(), data)
