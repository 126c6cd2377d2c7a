"""Messages about the daemon itself: alarms that stand, runs that are not kept any longer, who has done what."""

from __future__ import annotations

from taskmaster.bus.status import AlarmInfo, AuditEntry
from taskmaster.bus.wire import Count, Message, Name, Seconds

__all__ = ["Alarm", "AlarmList", "AuditPage", "ListAlarms", "Prune", "ReadAudit"]


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


class ReadAudit(Message, tag="read_audit"):
    """What have operators and admins done? Entries behind number ``after``, of these times, this user, this Master."""

    id: Count
    after: Count = 0
    since: Seconds | None = None
    until: Seconds | None = None
    user: Name | None = None
    master: Name | None = None


class AuditPage(Message, tag="audit_page"):
    """Answer to ReadAudit: in the order of their numbers, as many as go into a message.

    If there may be ``more``, they are asked for with this ``after``: entries up to there were looked at.
    """

    id: int
    entries: tuple[AuditEntry, ...] = ()
    after: int = 0
    more: bool = False
