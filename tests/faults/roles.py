"""Every cell of role × verb × Master, over the network, at a daemon at work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zmq
from helpers.permissions import MAY, OWN, made

from faults.keys import keyed_site
from faults.nursery import Nursery
from faults.site import OFTEN, Site
from faults.tally import Tally
from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.keys import Credentials
from taskmaster.bus.table import pack_values
from taskmaster.daemon.roles import RIGHTS

__all__ = ["cells"]

_decode = msgspec.msgpack.Decoder(m.DaemonMessage).decode
#: What would take away what the others are about comes last.
_LAST = (m.Prune, m.Delete)


def cells(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """What each role may is not refused, and what it may not is; on the Master that its key is granted, and another."""
    site, ring = keyed_site(folder, nursery)
    granted = frozenset({"none"})
    for role in RIGHTS:
        ring.admit(role, role, masters=granted)  # type: ignore[arg-type]
    with site:
        site.start()
        with site.connect() as lab:
            other = lab[OFTEN].watch("run-0").number
        for _ in range(times):
            for role in RIGHTS:
                credentials = Credentials(ring.pairs[role], ring.own.public)
                for wrong in _misjudged(site, credentials, role, other, tally):
                    tally.complaints.append(wrong)
        site.await_progress()
        site.finish(tally)


def _misjudged(site: Site, credentials: Credentials, role: str, other: int, tally: Tally) -> Iterator[str]:
    with zmq.Context() as context:
        peer = sockets.dealer(context, credentials)
        peer.connect(site.addresses[0])
        with site.connect() as lab:
            theirs = lab["none"].open(_name(role, is_own=False)).number
        own = _own_run(peer, role) or theirs
        for kind in sorted(MAY, key=lambda kind: (kind in _LAST, kind.__name__)):
            about = {field.name for field in msgspec.structs.fields(kind)} & {"master", "run"}
            for master, run, may in (
                (OFTEN, other, role in MAY[kind].split() and (not about or (kind is m.Ping and role == "worker"))),
                ("none", theirs, role in MAY[kind].split() and not (kind in OWN and role == "learner")),
                ("none", own, role in MAY[kind].split()),
            ):
                message = made(kind, master, run)
                if kind is m.Open:
                    message = m.Open(1, master, _name(role, is_own=run == own))
                refusals = _refusals(peer, message, hidden=run == other)
                if bool(refusals) == may:
                    what = f"{kind.__name__} for Master {master}, run {run}"
                    yield f"a key of role {role} may {'not ' * may}{what}: {refusals}"
                tally.injected += 1
        peer.close(linger=0)


def _own_run(peer: zmq.Socket[bytes], role: str) -> int | None:
    for reply in _replies(peer, m.Open(1, "none", _name(role, is_own=True))):
        if isinstance(reply, m.Opened):
            return reply.run
    return None


def _name(role: str, *, is_own: bool) -> str:
    return f"of {role}" if is_own else f"of nobody, for {role}"


def _refusals(peer: zmq.Socket[bytes], message: Any, *, hidden: bool) -> list[str]:
    refused = [reply for reply in _replies(peer, message) if isinstance(reply, m.Refused)]
    # Other messages of this code are about what the Master is: it has no heads, or nobody answers it.
    barred = [reply for reply in refused if reply.code == "not_allowed" and reply.message.startswith("key ")]
    if hidden:  # of a Master that is not granted there is no run, as far as the key's owner may know
        barred += [reply for reply in refused if reply.code == "unknown_run"]
    return [reply.message for reply in barred]


def _replies(peer: zmq.Socket[bytes], message: Any) -> list[Any]:
    """All that is answered to it, before a question that everybody may ask is answered."""
    replies: list[Any] = []
    frames = pack_values([1.0]).frames if getattr(message, "layout", None) is not None else ()
    sockets.send(peer, [codec.encode(message), *frames])
    sockets.send(peer, [codec.encode(m.Ping(4711))])
    while peer.poll(30_000):
        reply = _decode(peer.recv_multipart()[0])
        if isinstance(reply, m.Pong) and reply.id == 4711:
            return replies
        replies.append(reply)
    raise AssertionError(f"{message} is not answered")
