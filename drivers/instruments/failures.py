"""What an exception of somebody else's library means: the connection is lost, or just this task has failed.

Drivers from other libraries raise what they like. The one thing that a head must know is whether it can go on asking
the instrument. :func:`meaning` decides it, by these rules, of which the first that fits counts:

=============================================================  ====================================================
an exception                                                   means
=============================================================  ====================================================
of ours (:class:`~taskmaster.bus.errors.TaskMasterError`)      what it says
``pyvisa.errors.VisaIOError``                                  by its status code, see :data:`VISA_MEANING`; a code
                                                               that is not there is a mistake in the call: failed
``pyvisa.errors.InvalidSession``                               :class:`Unreachable`
``TimeoutError``, a name that ends in ``TimeoutException``,    :class:`TimedOut`
``SerialTimeoutException`` or ``USBTimeoutError``
``EOFError``, ``ConnectionError``                              :class:`Unreachable`
an ``OSError`` that says not permitted, not about a file        :class:`PermissionDenied`
``OSError`` (``SerialException`` and ``USBError`` are ones)    :class:`Unreachable`, unless it is about a file (below)
``UnicodeDecodeError``                                         :class:`Garbled`: what came is no text
raised from or while handling one of these                     what that means; ``raise … from None`` breaks the chain
anything else                                                  the task failed, the connection is fine
=============================================================  ====================================================

An OSError is about a file where it names one outside ``/dev``, or says that a disk is full or read-only: an evaluation
that cannot open its calibration table has not lost its instrument. A library whose own exceptions mean a lost
connection, without being derived from or raised from any of these, is told by the option ``lost``.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType

from taskmaster.bus.errors import TaskMasterError
from taskmaster.drivers.instruments.errors import (
    Garbled,
    InstrumentError,
    LinkError,
    PermissionDenied,
    Stopped,
    TimedOut,
    Unreachable,
)
from taskmaster.drivers.instruments.permissions import denied

__all__ = ["VISA_MEANING", "Translated", "meaning"]

#: Status codes of VISA (VPP-4.3, by the names that PyVISA gives them) after which the connection cannot be relied on.
VISA_MEANING: dict[str, type[InstrumentError]] = {
    "error_timeout": TimedOut,
    "error_connection_lost": Unreachable,
    "error_io": Unreachable,
    "error_system_error": Unreachable,
    "error_abort": Unreachable,
    "error_bus_error": Unreachable,
    "error_closing_failed": Unreachable,
    "error_no_listeners": Unreachable,
    "error_not_cic": Unreachable,
    "error_invalid_object": Unreachable,
    "error_machine_not_available": Unreachable,
    "error_resource_not_found": Unreachable,
    "error_resource_busy": Unreachable,
    "error_resource_locked": Unreachable,
    "error_no_permission": PermissionDenied,
    "error_input_protocol_violation": Garbled,
    "error_output_protocol_violation": Garbled,
    "error_raw_read_protocol_violation": Garbled,
    "error_raw_write_protocol_violation": Garbled,
    "error_serial_framing": Garbled,
    "error_serial_overrun": Garbled,
    "error_serial_parity": Garbled,
    "error_queue_overflow": Garbled,
}

_TIMEOUTS = ("TimeoutException", "USBTimeoutError")
_OF_USERS = frozenset({errno.EACCES, errno.EPERM})
_DEVICE = re.compile(r"/dev/[\w/.-]*\w")
_OF_DISKS = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG})


def meaning(error: BaseException, lost: Sequence[type[BaseException]] = ()) -> type[InstrumentError] | None:
    """What ``error`` says of the connection; None where it says nothing: then the task failed.

    ``lost`` are further exceptions that mean a lost connection.
    """
    for one in _chain(error):
        if isinstance(one, TaskMasterError):
            return type(one) if isinstance(one, (LinkError, Stopped)) else None
        found = Unreachable if isinstance(one, tuple(lost)) else _meaning(one)
        if found is not None:
            return found
    return None


class Translated:
    """``with Translated(what): …`` raises what :func:`meaning` finds in an exception, from that exception.

    ``what`` was being done stands before the exception's own message. Exceptions that fail just the task, and those of
    ours, come through as they are.
    """

    def __init__(self, what: str, lost: Sequence[type[BaseException]] = ()) -> None:
        self._what = what
        self._lost = lost

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, TaskMasterError):
            return
        found = meaning(error, self._lost)
        if found is PermissionDenied and (device := _DEVICE.search(str(error))):
            raise denied(self._what, device[0]) from error
        if found is not None:
            raise found(f"{self._what}: {type(error).__name__}: {error}") from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and what a traceback shows that it came of, without going in circles."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _meaning(error: BaseException) -> type[InstrumentError] | None:
    visa = sys.modules.get("pyvisa.errors")  # where it is not imported, nobody can have raised one
    if visa is not None:
        if isinstance(error, visa.VisaIOError):
            return _of_visa(error.error_code)
        if isinstance(error, visa.InvalidSession):
            return Unreachable
    if isinstance(error, TimeoutError) or any(base.__name__.endswith(_TIMEOUTS) for base in type(error).__mro__):
        return TimedOut
    if isinstance(error, (EOFError, ConnectionError)):
        return Unreachable
    if isinstance(error, OSError):
        if _of_a_file(error):
            return None
        return PermissionDenied if error.errno in _OF_USERS else Unreachable
    if isinstance(error, UnicodeDecodeError):
        return Garbled
    return None


def _of_visa(code: int) -> type[InstrumentError] | None:
    codes = sys.modules["pyvisa.constants"].StatusCode
    try:
        return VISA_MEANING.get(codes(code).name)
    except ValueError:  # a vendor's own code: nothing is known of the connection
        return Unreachable


def _of_a_file(error: OSError) -> bool:
    if error.errno in _OF_DISKS:
        return True
    name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    return isinstance(name, str) and not name.startswith("/dev/")
