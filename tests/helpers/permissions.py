"""What each role may, as the documents promise it, written down a second time: what the code says is what is tested."""

from __future__ import annotations

from typing import Any

import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.layout import Layout
from taskmaster.bus.table import pack_values

__all__ = ["LAYOUT", "MAY", "OWN", "made"]

ALL = "observer learner operator admin"
LEARNING, OPERATING = "learner operator admin", "operator admin"

#: Who may say what.
MAY: dict[type[m.Message], str] = {
    **dict.fromkeys((m.Describe, m.Ping), f"{ALL} worker"),
    **dict.fromkeys((m.Status, m.ListRuns, m.ListHeads, m.ListHeld, m.ListRequests, m.ListProposed), ALL),
    m.ListAlarms: ALL,
    **dict.fromkeys((m.Replay, m.ReadAsks, m.ReadWriters, m.ReadProgress, m.ReadSamples), ALL),
    **dict.fromkeys((m.Open, m.Submit, m.NoteWriter, m.NoteAsks, m.Cancel, m.Close, m.Delete, m.Fork), LEARNING),
    **dict.fromkeys((m.Prioritise, m.Pause, m.Resume, m.Stop, m.Reset, m.SetHead, m.SetWorkers), OPERATING),
    **dict.fromkeys((m.Resolve, m.Approve, m.Reject, m.Edit, m.Claim, m.Release, m.Answer), OPERATING),
    **dict.fromkeys((m.Prune, m.ReadAudit), "admin"),
}
#: What a learner may do with its own runs only.
OWN = {m.Open, m.Submit, m.NoteWriter, m.NoteAsks, m.Cancel, m.Close, m.Delete}
LAYOUT: Layout = pack_values([1.0]).layout
#: What required fields hold that are neither texts nor numbers.
_KNOWN: dict[str, Any] = {"layout": LAYOUT, "intervals": (), "asks": (), "metadata": {}}


def made(kind: type[Any], master: str, run: int) -> Any:
    """A message about this Master, or about this run, or both."""
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name == "master":
            given["master"] = master
        elif field.name == "run":
            given["run"] = run
        elif field.required:
            given[field.name] = _KNOWN.get(field.name, _plain(field.type))
    return kind(**given)


def _plain(kind: Any) -> Any:
    return {str: "his", m.Name: "his", bool: True}.get(kind, 1)
