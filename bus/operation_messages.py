"""Messages about the daemon itself: which alarms stand, and runs that are not kept any longer."""

from __future__ import annotations

from taskmaster.bus.status import AlarmInfo
from taskmaster.bus.wire import Count, Message

__all__ = ["Alarm", "AlarmList", "ListAlarms", "Prune"]


class Alarm(Message, tag="alarm"):
    """Something an operator should know.

    One with a ``kind`` stands until it is over: ``state`` is ``raised`` when that begins, or becomes worse, and
    ``cleared`` when it ends. Others are events, and their kind and state are empty.
    """

    level: str
    subject: str
    message: str
    time: float
    kind: str = ""
    about: str = ""
    state: str = ""


class ListAlarms(Message, tag="list_alarms"):
    """Which alarms stand?"""

    id: Count


class AlarmList(Message, tag="alarm_list"):
    """Answer to ListAlarms: those that stand, oldest first."""

    id: int
    alarms: tuple[AlarmInfo, ...] = ()


class Prune(Message, tag="prune"):
    """Forget a closed run, with everything measured in it, if it has just so many ``events``: so many were archived."""

    id: Count
    run: Count
    events: Count
