"""What people say to the daemon of heads, and what they are told: stop, reset, take out. Sans-I/O, see `core`."""

from __future__ import annotations

from collections.abc import Mapping

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError
from taskmaster.bus.table import Table
from taskmaster.daemon.effects import Effects, Query, Reply, Sender
from taskmaster.daemon.master import Master
from taskmaster.daemon.people import who_says
from taskmaster.daemon.roles import Peer
from taskmaster.daemon.series import SeriesBook
from taskmaster.daemon.workforce import known_master

__all__ = ["Operators"]


class Operators:
    """Where the messages of those who look after heads are taken, for all Masters of a daemon."""

    def __init__(self, masters: Mapping[str, Master], series: SeriesBook) -> None:
        self._masters = masters
        self._series = series

    def head_list(self, question: m.ListHeads, peer: Peer, wall: float) -> m.HeadList:
        """How heads are, at ``wall`` seconds since 1970: of one Master, or of all that somebody may see."""
        everywhere = [master for name, master in self._masters.items() if peer.sees(name)]
        masters = everywhere if question.master is None else [self._master(question.master)]
        infos = tuple(
            self._series.shown(info, master.spec.monitors.get(info.head, {}))
            for master in masters
            for info in master.heads.infos(wall)
        )
        return m.HeadList(question.id, infos)

    def set_head(self, sender: Sender, message: m.SetHead, table: Table | None, out: Effects) -> None:
        """Somebody takes a head out of service, or puts it back."""
        self._master(message.master).set_head(
            message.head, message.inside, who_says(sender, message.who), message.reason, out
        )
        out.replies.append(Reply(sender.address, m.Done(message.id)))

    def stop(self, sender: Sender, message: m.Stop | m.Reset, table: Table | None, out: Effects) -> None:
        """Somebody stops the heads of one Master, or of all, or undoes that."""
        if message.master is not None:
            masters = [self._master(message.master)]
            masters[0].require_heads()
        else:
            masters = [master for master in self._masters.values() if master.heads]
        if isinstance(message, m.Reset):
            for master in masters:
                master.interlocks.require("stop", "reset")  # all of them or none
        try:
            user = who_says(sender, message.who)
        except CallerError:
            if isinstance(message, m.Reset):
                raise
            user = sender.user  # no stop fails by a name
        for master in masters:
            (master.stop if isinstance(message, m.Stop) else master.reset)(user, message.reason, out)
        out.replies.append(Reply(sender.address, m.Done(message.id, len(masters))))

    def read_samples(self, sender: Sender, message: m.ReadSamples, table: Table | None, out: Effects) -> None:
        """Somebody wants to see what was monitored."""
        master = self._master(message.master)
        master.require_heads()
        if message.head is not None:
            master.heads.named(message.head)
        out.queries.append(Query(sender.address, message, sender.peer))

    def _master(self, name: str) -> Master:
        return known_master(self._masters, name)
