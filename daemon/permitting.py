"""Whether a message may be carried out: what it is about, looked up for `daemon.roles`.

Whoever is granted some Masters only learns nothing of the others: a run of theirs is to them what a run is that there
is not, and so is told in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import NotAllowed
from taskmaster.daemon.master import Master
from taskmaster.daemon.roles import Peer, Right, require, require_code
from taskmaster.daemon.runs import Runs, no_run

__all__ = ["Permitting"]


class Permitting:
    """Permits messages of clients that come over the network, for all Masters of a daemon."""

    def __init__(self, masters: Mapping[str, Master], runs: Runs) -> None:
        self._masters = masters
        self._runs = runs

    def check(self, peer: Peer, message: Any) -> None:
        """Raise NotAllowed where somebody may not do this, of the Master and of the run that it is about.

        A message can name both, and nothing says yet that they belong together: so it needs the right to either.
        Raises UnknownRun where they may, and know of no such run.
        """
        master: str | None = getattr(message, "master", None)
        number: int | None = getattr(message, "run", None)
        run = self._runs.look(number) if number else None
        is_hidden = bool(number) and peer.is_bounded and (run is None or not peer.sees(run.master))
        if is_hidden:
            run = None
        if isinstance(message, m.Open):
            run = self._runs.find(message.master, message.name)
        if run is not None:
            require(peer, message, run.master, run.user)
        if run is None or master not in (None, run.master):
            require(peer, message, master)
        if is_hidden and peer.may(Right.SEE):
            raise no_run(number or 0)
        if isinstance(message, (m.Submit, m.Edit, m.Fork)) and run is not None:  # what has inputs evaluated
            known = self._masters.get(run.master)
            if known is not None and known.spec.code:
                require_code(peer, run.master)
        elif isinstance(message, m.Open) and (message.priority or 0) > 0 and not peer.may(Right.OPERATE):
            raise NotAllowed(
                f"key {peer.name!r} ({peer.role}) may not give a run a priority above 0; leave it to an operator"
            )
