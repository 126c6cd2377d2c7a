"""Exit codes: what a script can tell from how the command ended. `docs/cli.md` prints this table."""

from __future__ import annotations

from taskmaster.bus.errors import (
    AddressInUse,
    CallerError,
    ConfigError,
    DaemonUnreachable,
    JournalDamaged,
    StateLocked,
    TaskMasterError,
    UnknownMaster,
    UnknownRun,
    UnknownTask,
)

__all__ = ["EXITS", "INTERRUPTED", "exit_code"]

INTERRUPTED = 130

#: code → (what it means, the errors that end a command with it)
EXITS: dict[int, tuple[str, tuple[type[TaskMasterError], ...]]] = {
    0: ("done", ()),
    1: ("something went wrong", (TaskMasterError,)),
    2: ("the command line is wrong", (CallerError,)),
    3: ("the configuration is wrong", (ConfigError,)),
    4: ("no daemon answers", (DaemonUnreachable,)),
    5: ("another daemon uses the state directory", (StateLocked,)),
    6: ("another program listens on the address", (AddressInUse,)),
    7: ("the journal is damaged", (JournalDamaged,)),
    8: ("no such Master, run or task", (UnknownMaster, UnknownRun, UnknownTask)),
    INTERRUPTED: ("interrupted", ()),
}


def exit_code(error: TaskMasterError) -> int:
    """The code of the nearest class in the table."""
    for kind in type(error).__mro__:
        for code, (_, kinds) in EXITS.items():
            if kind in kinds:
                return code
    return 1
