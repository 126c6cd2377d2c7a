"""How ``taskmaster`` ends: its exit codes, and which error stands for which."""

from __future__ import annotations

from dataclasses import dataclass

from taskmaster.bus.errors import (
    AddressInUse,
    ConfigError,
    DaemonUnreachable,
    EvaluationError,
    InvalidTask,
    JournalDamaged,
    JournalTooNew,
    StateLocked,
    StateUnwritable,
    TaskMasterError,
    UnknownHead,
    UnknownMaster,
    UnknownRun,
    UnknownTask,
)

__all__ = ["BROKEN_PIPE", "ERROR", "EXITS", "INTERRUPTED", "OK", "USAGE", "Exit", "InstrumentTrouble", "exit_code"]


class InstrumentTrouble(TaskMasterError):
    """Something is wrong with the instruments that were looked at, or stopped."""

    code = "instrument_trouble"


@dataclass(frozen=True)
class Exit:
    """One way to end."""

    code: int
    meaning: str
    errors: tuple[type[TaskMasterError], ...] = ()


OK, ERROR, USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141

#: All of them. An error that is none of these ends with 1.
EXITS = (
    Exit(OK, "done"),
    Exit(ERROR, "an error that is none of these"),
    Exit(
        USAGE, "the command line is wrong, or names a command, learner, goal, demo, example or format that there is not"
    ),
    Exit(3, "the configuration is wrong, or what it names cannot be used", (ConfigError,)),
    Exit(4, "no daemon answers", (DaemonUnreachable,)),
    Exit(5, "another daemon uses the state directory", (StateLocked,)),
    Exit(6, "another program listens on the address", (AddressInUse,)),
    Exit(7, "the journal is damaged", (JournalDamaged,)),
    Exit(8, "there is no such Master, head, run or task", (UnknownMaster, UnknownHead, UnknownRun, UnknownTask)),
    Exit(9, "a task has no output: it failed or was cancelled, or no worker can evaluate", (EvaluationError,)),
    Exit(10, "the state directory cannot be written", (StateUnwritable,)),
    Exit(11, "a point is not as its Master declares them", (InvalidTask,)),
    Exit(
        12,
        "an instrument cannot be reached, is another one, does not answer as it should, or is not known to be safe",
        (InstrumentTrouble,),
    ),
    Exit(13, "the journal, or the backup, is of a newer release", (JournalTooNew,)),
    Exit(INTERRUPTED, "interrupted (Ctrl-C; of demo and learn, SIGTERM, too)"),
    Exit(BROKEN_PIPE, "whoever read the output did not want all of it"),
)


def exit_code(error: TaskMasterError) -> int:
    """What ``taskmaster`` ends with when this error has ended it."""
    return next((way.code for way in EXITS if isinstance(error, way.errors)), ERROR)
