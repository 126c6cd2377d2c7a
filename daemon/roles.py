"""What each role may do: one table, from which the daemon decides and the documents are made.

Who somebody is, the transport says (`daemon.gatehouse`); never a message. A role grants rights, a key grants a role for
some Masters or all, and every message of a client needs one right on one Master. Workers are no clients: a worker's
key gives access to the workers socket alone, and nobody else's does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from taskmaster.bus import messages as m, topics
from taskmaster.bus.errors import NotAllowed

__all__ = [
    "LOCAL",
    "RIGHTS",
    "RULES",
    "Peer",
    "Right",
    "Rule",
    "as_markdown",
    "may_follow",
    "require",
    "require_code",
    "require_work",
]


class Right(enum.Enum):
    """What a role may have the right to."""

    GREET = "greet"
    SEE = "see"
    LEARN = "learn"
    OPERATE = "operate"
    ADMINISTER = "administer"
    WORK = "work"


#: The rights of each role.
RIGHTS: Mapping[str, frozenset[Right]] = {
    "observer": frozenset({Right.GREET, Right.SEE}),
    "learner": frozenset({Right.GREET, Right.SEE, Right.LEARN}),
    "operator": frozenset({Right.GREET, Right.SEE, Right.LEARN, Right.OPERATE}),
    "admin": frozenset({Right.GREET, Right.SEE, Right.LEARN, Right.OPERATE, Right.ADMINISTER}),
    "worker": frozenset({Right.GREET, Right.WORK}),
}


@dataclass(frozen=True)
class Peer:
    """Who a message comes from, as the transport knows them."""

    #: the name of their key; ``local`` for whoever comes by a Unix socket, which its file's mode admits them to
    name: str
    role: str
    #: the Masters for which that holds, None for all
    masters: frozenset[str] | None = None
    #: the Masters to which they may send code, None for all
    code: frozenset[str] | None = frozenset()
    is_local: bool = False

    def may(self, right: Right) -> bool:
        """Whether their role has this right, on the Masters that they are granted."""
        return right in RIGHTS[self.role]

    def sees(self, master: str) -> bool:
        """Whether they may know of this Master."""
        return self.masters is None or master in self.masters

    @property
    def is_bounded(self) -> bool:
        """Whether there are Masters that they may not know of."""
        return self.masters is not None


#: Whoever reaches the daemon by a Unix socket: its user, or its group's. Also, as long as a daemon has no keys, whoever
#: comes by loopback.
LOCAL = Peer("local", "admin", None, None, is_local=True)


@dataclass(frozen=True)
class Rule:
    """What a message needs."""

    right: Right
    #: in words, for the documents
    what: str
    #: without the right to operate, only of runs that are one's own
    own: bool = False
    #: what it means where it names no Master, so for the whole daemon: needs all Masters
    whole: bool = False


_SEE, _LEARN, _OPERATE, _ADMINISTER = Right.SEE, Right.LEARN, Right.OPERATE, Right.ADMINISTER

RULES: Mapping[type[m.Message], Rule] = {
    m.Describe: Rule(Right.GREET, "ask who the daemon is, and for its Masters"),
    m.Ping: Rule(Right.GREET, "ask whether it is there"),
    m.Status: Rule(_SEE, "see its status"),
    m.ListRuns: Rule(_SEE, "list runs"),
    m.Replay: Rule(_SEE, "read results"),
    m.ReadAsks: Rule(_SEE, "read what a learner was asked"),
    m.ReadWriters: Rule(_SEE, "read which learners have asked"),
    m.ReadProgress: Rule(_SEE, "read the progress of evaluations"),
    m.ReadSamples: Rule(_SEE, "read monitored values"),
    m.ListHeads: Rule(_SEE, "list heads"),
    m.ListHeld: Rule(_SEE, "list tasks in doubt"),
    m.ListRequests: Rule(_SEE, "list requests to people"),
    m.ListProposed: Rule(_SEE, "list tasks that wait for approval"),
    m.ListAlarms: Rule(_SEE, "list alarms that stand"),
    m.Open: Rule(_LEARN, "open runs for writing (for reading: as an observer)", own=True),
    m.Submit: Rule(_LEARN, "submit tasks", own=True),
    m.NoteWriter: Rule(_LEARN, "record which learner asks", own=True),
    m.NoteAsks: Rule(_LEARN, "record what the learner was asked", own=True),
    m.Cancel: Rule(_LEARN, "cancel tasks", own=True),
    m.Close: Rule(_LEARN, "close runs", own=True),
    m.Delete: Rule(_LEARN, "delete runs", own=True),
    m.Fork: Rule(_LEARN, "fork runs"),
    m.Prioritise: Rule(_OPERATE, "give runs another priority"),
    m.Pause: Rule(_OPERATE, "pause"),
    m.Resume: Rule(_OPERATE, "resume"),
    m.Stop: Rule(_OPERATE, "stop heads at once", whole=True),
    m.Reset: Rule(_OPERATE, "undo a stop", whole=True),
    m.SetHead: Rule(_OPERATE, "take heads out of service, and put them back"),
    m.SetWorkers: Rule(_OPERATE, "have more or fewer worker processes"),
    m.Resolve: Rule(_OPERATE, "resolve tasks in doubt"),
    m.Approve: Rule(_OPERATE, "approve tasks"),
    m.Reject: Rule(_OPERATE, "reject tasks"),
    m.Edit: Rule(_OPERATE, "edit tasks before they are approved"),
    m.Claim: Rule(_OPERATE, "take requests to people"),
    m.Release: Rule(_OPERATE, "give requests back"),
    m.Answer: Rule(_OPERATE, "answer requests"),
    m.Prune: Rule(_ADMINISTER, "prune the journal: delete runs that are archived"),
    m.ReadAudit: Rule(_ADMINISTER, "read what operators and admins have done", whole=True),
}


def require(peer: Peer, message: m.ClientMessage, master: str | None, owner: str | None = None) -> None:
    """Raise NotAllowed where ``peer`` may not do this.

    ``master`` is the one that the message is about, itself or by its run, None where it is about no single one;
    ``owner`` the name of who made the run that it is about, None where it is about none.
    """
    rule = RULES[type(message)]
    right = rule.right
    if isinstance(message, m.Open) and not message.write:
        right = Right.SEE
    if not peer.may(right):
        raise NotAllowed(f"{_who(peer)} may not {rule.what}: that takes {_roles(right)}; ask the daemon's operator")
    if master is not None and not peer.sees(master):
        raise NotAllowed(f"{_who(peer)} is not granted Master {master!r}; ask the daemon's operator")
    if rule.whole and master is None and peer.is_bounded:
        raise NotAllowed(
            f"{_who(peer)} is granted {', '.join(sorted(peer.masters or ()))} only, and may not {rule.what} of the "
            "whole daemon; name the Master"
        )
    if rule.own and right is not Right.SEE and owner not in (None, peer.name) and not peer.may(Right.OPERATE):
        raise NotAllowed(
            f"{_who(peer)} may {rule.what} of runs of its own only, and this one is {owner}'s; take a run of another "
            "name, or fork it"
        )


def require_code(peer: Peer, master: str) -> None:
    """Raise NotAllowed where ``peer`` may not send code to this Master."""
    if peer.code is not None and master not in peer.code:
        raise NotAllowed(
            f"{_who(peer)} may not send code to Master {master!r}; its operator can allow it: "
            f"taskmaster keys allow {peer.name} --code {master}"
        )


def require_work(peer: Peer, master: str | None) -> None:
    """Raise NotAllowed where ``peer`` may not evaluate tasks of this Master, or (None) of any."""
    if peer.is_local:
        return
    if not peer.may(Right.WORK):
        raise NotAllowed(f"{_who(peer)} may not evaluate tasks: that takes the role worker; ask the daemon's operator")
    if master is not None and not peer.sees(master):
        raise NotAllowed(f"{_who(peer)} is not granted Master {master!r}; ask the daemon's operator")


def may_follow(peer: Peer, topic: bytes) -> bool:
    """Whether ``peer`` may hear what is published under a topic: of a Master that they may see, and no prefix of many.

    Alarms can be of any Master.
    """
    if peer.is_local:
        return True
    if not peer.may(Right.SEE):
        return False
    if topic == topics.ALARMS:
        return not peer.is_bounded
    master = topics.master_of(topic)
    return master is not None and peer.sees(master)


def as_markdown() -> str:
    """The table of `docs/security.md`: who may do what."""
    roles = list(RIGHTS)
    lines = [f"| | {' | '.join(roles)} |", f"|---|{'---|' * len(roles)}"]
    for rule in RULES.values():
        cells = [
            "" if rule.right not in RIGHTS[role] else "own" if rule.own and Right.OPERATE not in RIGHTS[role] else "yes"
            for role in roles
        ]
        lines.append(f"| {rule.what} | {' | '.join(cells)} |")
    lines.append(f"| evaluate tasks | {' | '.join('yes' if Right.WORK in RIGHTS[role] else '' for role in roles)} |")
    return "\n".join(lines) + "\n"


def _who(peer: Peer) -> str:
    return f"key {peer.name!r} ({peer.role})"


def _roles(right: Right) -> str:
    return "the role " + " or ".join(role for role, rights in RIGHTS.items() if right in rights)
