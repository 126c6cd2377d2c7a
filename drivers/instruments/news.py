"""What a head's thread tells whoever talks to the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from taskmaster.bus import messages as m
from taskmaster.bus.table import Buffer, Table
from taskmaster.drivers.instruments.polling import Seen
from taskmaster.drivers.protocol import Assignment, Question

__all__ = ["Ended", "Found", "Kept", "Left", "News", "Reported", "Said", "Unusable"]

Reported: TypeAlias = Literal["connecting", "ready", "faulty", "safe", "unsafe"]


@dataclass(frozen=True)
class Ended:
    """Tasks of an assignment have ended: ``n`` of them, from ``position`` on, with an output or an error each.

    With ``doubt`` it is one, and nobody knows how; then, and where it is none, the rest is given back, not begun.
    """

    assignment: Assignment
    position: int = 0
    n: int = 1
    outputs: Table | None = None
    errors: tuple[m.TaskError, ...] = ()
    started: float = 0.0
    finished: float = 0.0
    #: when each has ended, in seconds after ``started``, as of an outcome
    times: Buffer | None = None
    doubt: bool = False
    #: it is the last word on the assignment
    final: bool = True

    @property
    def given_back(self) -> bool:
        """Whether it says nothing but that what is left was not begun."""
        return not self.n


@dataclass(frozen=True)
class Said:
    """How the head is, and which order that is in answer to."""

    state: Reported
    order: m.LeaseId
    identity: str = ""
    error: str = ""


@dataclass(frozen=True)
class Kept:
    """The evaluation of the task at ``position`` of an assignment can go on from here; ``number`` counts these."""

    assignment: Assignment
    position: int
    number: int
    token: bytes


@dataclass(frozen=True)
class Found:
    """What the head has found out about a task in doubt; ``reason`` why it cannot tell."""

    question: Question
    state: Literal["done", "not_begun", "unknown"]
    outputs: Table | None = None
    reason: str = ""


@dataclass(frozen=True)
class Unusable:
    """There can be no head: its class cannot be imported, say."""

    error: BaseException


@dataclass(frozen=True)
class Left:
    """The thread has ended."""


News: TypeAlias = Ended | Said | Found | Unusable | Left | Seen | m.Progress
