"""What can be wrong between a head and its instrument, by what has to be done about it.

A :class:`LinkError` says that nothing is known about the instrument any more: a task that has begun to act is in doubt
then, one that has not goes back to the queue, and the connection is opened anew before anything else is asked. Any
other error fails the task, and the connection is fine.

What :data:`CONNECTING` holds comes from opening a connection: the head cannot work, and no task is to blame.
"""

from __future__ import annotations

from taskmaster.bus.errors import ConfigError, TaskMasterError, WorkerError

__all__ = [
    "CONNECTING",
    "NOT_REACHED",
    "Claimed",
    "DeviceError",
    "Garbled",
    "InstrumentError",
    "InterlockTripped",
    "LinkError",
    "PermissionDenied",
    "Stopped",
    "TimedOut",
    "Unreachable",
    "WrongIdentity",
]


class InstrumentError(TaskMasterError):
    """Something is wrong with an instrument or the way to it."""

    code = "instrument"


class LinkError(InstrumentError):
    """The conversation broke off or is out of step: the connection has to be opened anew."""

    code = "instrument_link"
    retryable = True


class Unreachable(LinkError):
    """There is no connection to the instrument: it is unplugged, off, or elsewhere."""

    code = "instrument_unreachable"


class TimedOut(LinkError):
    """The instrument did not answer, or take what was sent, in time."""

    code = "instrument_timeout"


class Garbled(LinkError):
    """An answer that cannot be read, or that is another question's."""

    code = "instrument_garbled"


class WrongIdentity(InstrumentError):
    """Another instrument answers than the one declared; nothing is sent to it."""

    code = "instrument_identity"


class DeviceError(InstrumentError):
    """The instrument itself reports an error; the connection is fine."""

    code = "instrument_device"


class Stopped(InstrumentError):
    """The head was stopped in the middle of something."""

    code = "instrument_stopped"


class InterlockTripped(Stopped):
    """An interlock has tripped: what the head was doing is broken off, and it goes to its safe state."""

    code = "instrument_interlock"


class PermissionDenied(InstrumentError):
    """The operating system does not let this user at the device; the message names the group or udev rule to use."""

    code = "instrument_permission"


class Claimed(InstrumentError):
    """Another process has the resource."""

    code = "instrument_claimed"
    retryable = True


#: What opening a head may raise; before a task has begun to act, it goes back to the queue for all of these.
CONNECTING = (LinkError, WrongIdentity, PermissionDenied, Claimed)

#: What says that an instrument was not reached, so that nothing can have been sent to it. The last two: a package, a
#: library or a name is missing by which it would be.
NOT_REACHED = (Unreachable, WrongIdentity, PermissionDenied, Claimed, ConfigError, WorkerError)
