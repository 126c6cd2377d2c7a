"""Everything that can go wrong, by who has to act on it.

One root, :class:`TaskMasterError`; below it one branch for each party that can break a rule: the caller's input
(:class:`CallerError`), the evaluation (:class:`EvaluationError`), the peer on the wire (:class:`PeerError`) and the
daemon with its journal (:class:`DaemonError`). A message says what happened, to which Master, run or task, and what to
do next.

An error that crosses the wire travels as ``(code, message)``; the code is the class's ``code`` and :func:`from_code`
makes the same class again on the other side.
"""

from __future__ import annotations

import queue
from typing import ClassVar

__all__ = [
    "BUSY",
    "AddressInUse",
    "CallerError",
    "ConfigError",
    "Conflict",
    "ConnectionClosed",
    "DaemonError",
    "DaemonUnreachable",
    "DiskFull",
    "EvaluationError",
    "Fenced",
    "Full",
    "Gap",
    "InvalidTask",
    "JournalDamaged",
    "JournalError",
    "KeyFileError",
    "NotAllowed",
    "PeerError",
    "ProtocolError",
    "RunClosed",
    "StateLocked",
    "StateUnwritable",
    "TaskCancelled",
    "TaskFailed",
    "TaskHeld",
    "TaskMasterError",
    "TooLarge",
    "UnknownHead",
    "UnknownMaster",
    "UnknownRun",
    "UnknownTask",
    "VersionMismatch",
    "WorkerError",
    "from_code",
]


class TaskMasterError(Exception):
    """Root of all errors that TaskMaster raises on purpose."""

    code: ClassVar[str] = "error"
    #: True where the same call may succeed later without any change by the caller.
    retryable: ClassVar[bool] = False


class CallerError(TaskMasterError):
    """The caller asked for something that cannot be done as asked."""

    code = "caller"


class InvalidTask(CallerError, ValueError):
    """An input that the Master does not take; nothing of its block was queued."""

    code = "invalid_task"


class ConfigError(CallerError):
    """The configuration is wrong; the message lists every mistake with file and line."""

    code = "config"


class UnknownMaster(CallerError, LookupError):
    """No Master of this name is exposed by the daemon."""

    code = "unknown_master"


class UnknownHead(CallerError, LookupError):
    """The instrument has no head of this name."""

    code = "unknown_head"


class UnknownRun(CallerError, LookupError):
    """No run of this name or number."""

    code = "unknown_run"


class UnknownTask(CallerError, LookupError):
    """The run has no task of this index, or the task is not in the state the request needs."""

    code = "unknown_task"


class RunClosed(CallerError):
    """The run was closed; open it again by name to go on."""

    code = "run_closed"


class Fenced(CallerError):
    """A newer writer has opened this run; this one may not submit any more."""

    code = "fenced"


class KeyFileError(CallerError):
    """A key, or a file of keys, is missing or wrong."""

    code = "key_file"


class Conflict(CallerError):
    """It contradicts what was said before: other tasks under the same numbers, another answer, another's claim."""

    code = "conflict"


class Gap(CallerError):
    """A submission does not start where the run ends: an earlier one is missing and must be sent again first."""

    code = "gap"
    retryable = True


class ConnectionClosed(CallerError):
    """This client's connection was closed; connect again."""

    code = "closed_here"


class NotAllowed(CallerError):
    """The caller may not do this."""

    code = "not_allowed"


class Full(CallerError, queue.Full):
    """The daemon (or this client's window) takes no further tasks just now; try again later."""

    code = "full"
    retryable = True


class TooLarge(CallerError):
    """More than a message can say; ask for less, or say it in several."""

    code = "too_large"


class EvaluationError(TaskMasterError):
    """A task ended without an output."""

    code = "evaluation"


class InvalidOutput(EvaluationError, ValueError):
    """An output that the Master does not declare so: the evaluation is wrong, not the task."""

    code = "invalid_output"


class TaskFailed(EvaluationError):
    """The evaluation raised, timed out, or its worker was lost more often than allowed.

    ``kind`` is the qualified name of the remote exception's type, ``traceback`` its remote traceback (may be empty),
    ``made_of`` what it held beside its message, encoded (may be empty).
    """

    code = "failed"

    def __init__(self, message: str, kind: str = "", traceback: str = "", made_of: bytes = b"") -> None:
        super().__init__(message)
        self.kind = kind
        self.traceback = traceback
        self.made_of = made_of

    def __str__(self) -> str:
        text = f"{self.kind}: {self.args[0]}" if self.kind else str(self.args[0])
        return f"{text}\n\nRemote traceback:\n{self.traceback.rstrip()}" if self.traceback else text


class TaskCancelled(EvaluationError):
    """The task was cancelled before it had an output."""

    code = "cancelled"


class TaskHeld(EvaluationError):
    """The task is in doubt: it may have acted on an instrument. An operator has to resolve it."""

    code = "held"


class WorkerError(EvaluationError):
    """A worker cannot evaluate at all: its function cannot be imported, its set-up failed."""

    code = "worker"


class PeerError(TaskMasterError):
    """The other side of a connection broke the protocol or cannot be reached."""

    code = "peer"


class ProtocolError(PeerError):
    """A message that does not fit its type or its limits."""

    code = "protocol"


class VersionMismatch(PeerError):
    """The other side speaks another version of the protocol."""

    code = "version"


class DaemonUnreachable(PeerError, TimeoutError):
    """No daemon answered at the address in time."""

    code = "unreachable"
    retryable = True


class DaemonError(TaskMasterError):
    """The daemon cannot do its work; the operator has to act."""

    code = "daemon"


class AddressInUse(DaemonError):
    """Another program listens on a configured address."""

    code = "address_in_use"


class StateLocked(DaemonError):
    """Another daemon uses the state directory."""

    code = "state_locked"


class StateUnwritable(DaemonError):
    """The state directory cannot be made or written."""

    code = "state_unwritable"


class JournalError(DaemonError):
    """The journal cannot be read or written."""

    code = "journal"


class JournalDamaged(JournalError):
    """The journal does not hold what was once acknowledged; see ``taskmaster check --journal``."""

    code = "journal_damaged"


class DiskFull(JournalError):
    """No room for further submissions; results are still taken. Make room: the daemon goes on by itself."""

    code = "disk_full"
    retryable = True


#: What a submission is answered with when it may be sent again later as it is.
BUSY = frozenset({Full.code, DiskFull.code})

_BY_CODE: dict[str, type[TaskMasterError]] = {}


def _register(cls: type[TaskMasterError]) -> None:
    _BY_CODE[cls.code] = cls
    for sub in cls.__subclasses__():
        _register(sub)


_register(TaskMasterError)


def from_code(code: str, message: str) -> TaskMasterError:
    """The error that the peer meant; an unknown code (a newer peer's) becomes the root class with its code named."""
    cls = _BY_CODE.get(code)
    return cls(message) if cls is not None else TaskMasterError(f"{message} [{code}]")
