"""Which keys have come, gone or changed: what is put on record of the file of keys when it comes into force.

It is held against what was in force last, which the journal remembers: so what was changed while the daemon was stopped
is on record, too. Whoever has changed the file is known to the system alone; its owner is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.keys import fingerprint
from taskmaster.config.authorised import Grant
from taskmaster.daemon.auditing import by_daemon, cut
from taskmaster.daemon.effects import Effects, KeysNoted
from taskmaster.daemon.gatehouse import Gatehouse

__all__ = ["KeyWatch"]


class _Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key in force."""

    #: the fingerprint of the public one
    key: str
    role: str
    masters: tuple[str, ...] | None = None
    code: tuple[str, ...] = ()
    expires: float | None = None


_json = msgspec.json.Encoder().encode
_keys = msgspec.json.Decoder(dict[str, _Key]).decode


class KeyWatch:
    """Puts changes of the keys in force on record. ``noted`` is what the journal remembers of them.

    Without a gatehouse, no keys are in force.
    """

    def __init__(self, noted: str | None, gatehouse: Gatehouse | None = None) -> None:
        self._known: dict[str, _Key] = _keys(noted) if noted else {}
        self._gatehouse = gatehouse
        #: the keys of which the changes are on record, and until when they are all in force
        self._noted: tuple[Sequence[Grant], float] | None = None

    def look(self, out: Effects) -> bool:
        """Once in a while: whether keys have come, gone or expired; returns whether anybody may less now."""
        gatehouse = self._gatehouse
        if gatehouse is None:
            self.note((), out.wall, "the configuration", out)
            return False
        before = gatehouse.refusal
        narrowed = gatehouse.look(out.wall)
        gate = gatehouse.gate
        if self._noted != (noted := (gate.grants, gate.next_expiry)):
            self._noted = noted
            self.note(gate.grants, out.wall, gatehouse.file.origin, out)
        refusal = gatehouse.refusal
        if refusal and refusal != before:  # also where it is another mistake
            out.alarms.append(m.Alarm("error", "keys", refusal, out.wall, "authenticator"))
        return narrowed

    def note(self, grants: Sequence[Grant], now: float, origin: str, out: Effects) -> None:
        """These are in the file, which is at ``origin``; those that hold ``now`` are in force from this turn on."""
        holding = {grant.name: _of(grant) for grant in grants if grant.holds(now)}
        if holding == self._known:
            return
        for what, about in _changes(self._known, holding, {grant.name: grant for grant in grants}):
            by_daemon(what, out, about=about, origin=origin)
        self._known = holding
        out.records.append(KeysNoted(_json(holding).decode()))


def _of(grant: Grant) -> _Key:
    masters = None if grant.masters is None else tuple(sorted(grant.masters))
    return _Key(fingerprint(grant.key), grant.role, masters, tuple(sorted(grant.code)), grant.expires)


def _changes(
    before: Mapping[str, _Key], after: Mapping[str, _Key], grants: Mapping[str, Grant]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, key in before.items():
        if name not in after:
            grant = grants.get(name)
            what = "key_removed" if grant is None else "key_revoked" if grant.revoked else "key_expired"
            yield what, {"name": name, **_said(key)}
    for name, key in after.items():
        known = before.get(name)
        if known is None:
            yield "key_added", {"name": name, **_said(key)}
        elif known != key:
            said = _said(key)
            former = {f"{part}_before": value for part, value in _said(known).items() if said.get(part) != value}
            yield "key_changed", {"name": name, **said, **former}


def _said(key: _Key) -> dict[str, Any]:
    masters = "all" if key.masters is None else cut(", ".join(key.masters))
    return {
        "key": key.key,
        "role": key.role,
        "masters": masters,
        **({"code": cut(", ".join(key.code))} if key.code else {}),
        **({"expires": key.expires} if key.expires is not None else {}),
    }
