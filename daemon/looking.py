"""Questions that are answered from what the daemon has in mind: who it is, its runs, its heads.

They are answered as those are that take a look into the journal, see `daemon.answering`: such an answer can have half a
megabyte, too. So is whoever has opened or forked a run of which much is recorded.
"""

from __future__ import annotations

from typing import TypeAlias

from taskmaster.bus import messages as m
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import WasForked, WasOpened
from taskmaster.daemon.opening import opened
from taskmaster.daemon.roles import Peer
from taskmaster.daemon.runs import no_run, run_info
from taskmaster.daemon.status import master_info

__all__ = ["Glance", "look_up"]

Glance: TypeAlias = m.Describe | m.ListRuns | m.ListHeads | WasOpened | WasForked
Seen: TypeAlias = m.Described | m.RunList | m.HeadList | m.Opened | m.Forked

#: Bytes of a list of runs in one message: thousands, and a few milliseconds' work.
_LISTED_BYTES = 512 << 10


def look_up(core: Core, question: Glance, peer: Peer, wall: float) -> Seen:
    """The answer, as far as it concerns somebody, at ``wall`` seconds since 1970.

    Raises UnknownRun where a run was deleted since it was opened.
    """
    if isinstance(question, (WasOpened, WasForked)):
        run = core.runs.look(question.run)
        if run is None:
            raise no_run(question.run)
        if isinstance(question, WasForked):
            return m.Forked(question.id, run_info(run))
        return opened(question, run)
    if isinstance(question, m.Describe):
        return _described(core, question, peer)
    if isinstance(question, m.ListHeads):
        return core.operators.head_list(question, peer, wall)
    infos, more = core.runs.infos(question.master, question.after, _LISTED_BYTES, peer.sees)
    return m.RunList(question.id, infos, more)


def _described(core: Core, question: m.Describe, peer: Peer) -> m.Described:
    me = core.identity
    results = me.near_results if peer.is_local and me.near_results else me.results
    masters = tuple(master_info(master) for name, master in core.masters.items() if peer.sees(name))
    return m.Described(question.id, m.PROTOCOL_VERSION, me.name, me.epoch, results, me.workers, masters, me.max_message)
