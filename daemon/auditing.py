"""What is put on record of those who run the daemon: who, when, what, from where, and what became of it. Sans-I/O.

An entry is a record like any other: it is decided with what it is about, committed in the same transaction, and nothing
of that leaves before. (The orders of an emergency stop are the exception, as they are to every commit.)

On record is

- every message that takes the right to operate or to administer, done or refused;
- what somebody with these rights does with another's run: to open it for writing, to close it; a priority above 0;
- that runs are deleted, and that all of a run is cancelled, by whomever;
- every message that somebody had no right to, whatever their role.

Of refusals, and of what has no effect and can be repeated without an end, not each has an entry of its own: see
:class:`Floods`. For all other messages it costs to look their type up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from taskmaster.bus import messages as m
from taskmaster.bus.keys import fingerprint, public_from_text
from taskmaster.bus.text import printable
from taskmaster.daemon.effects import Audited, Effects, Recheck, Sender
from taskmaster.daemon.master import Master
from taskmaster.daemon.roles import RULES, Right
from taskmaster.daemon.runs import Runs

__all__ = ["LEFT_OUT", "ON_RECORD", "SAID", "Account", "Auditor", "Floods", "by_daemon", "cut", "in_words", "put"]

#: Messages that may leave an entry when they are carried out, or refused for another reason than want of rights.
ON_RECORD = frozenset(kind for kind, rule in RULES.items() if rule.right in (Right.OPERATE, Right.ADMINISTER)) | {
    m.Open,
    m.Cancel,
    m.Close,
    m.Delete,
}
#: What of a message is said in its entry, by the names of its fields, …
SAID = (
    "run", "name", "first", "n", "index", "intervals", "attempt", "action", "count", "priority", "head", "inside",
    "queued", "events", "edits", "seconds", "who", "reason", "after", "since", "until", "user",
)  # fmt: skip
#: … and what is not: what is in columns of its own, secret, without a bound, or of no interest.
LEFT_OUT = frozenset({"id", "master", "layout", "claim", "write", "create", "seed", "metadata", "writer"})
#: Characters of a text in an entry, and intervals of tasks, or Masters, that are named one by one.
LONGEST = 500
INTERVALS = 20
#: What becomes of these is a number of tasks, of requests, or of Masters.
_COUNTED = (m.Cancel, m.Approve, m.Reject, m.Release, m.Stop, m.Reset)
#: Commands of one key that are refused though it may give them, and that are on record one by one; those that follow
#: are counted, but for one a second.
FAILURES = 10
#: Seconds in which it is put on record once that a key reads the record, from one place.
READING_SECONDS = 600.0
#: Seconds between two entries of a flood at most: they become fewer, from one a second on.
_LONGEST_WAIT = 60.0


@dataclass(slots=True)
class _Spell:
    """What one key is refused, just now."""

    #: entries that were made lately
    made: int
    missed: int = 0
    last: Audited | None = None
    #: of the missed ones by their kinds
    kinds: dict[str, int] = field(default_factory=dict)
    due: float = -math.inf
    wait: float = 0.0


class Floods:
    """Lets so many entries of a key through at once, then one a second and ever fewer, each for all that came since."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._spells: dict[str, _Spell] = {}

    def note(self, key: str, entry: Audited, out: Effects) -> None:
        """Put it on record, or count it."""
        spell = self._spells.setdefault(key, _Spell(0))
        if spell.made < self._at_once and not spell.wait:
            spell.made += 1
            put(entry, out)
            return
        spell.missed += 1
        spell.last = entry
        spell.kinds[entry.what] = spell.kinds.get(entry.what, 0) + 1

    def look(self, now: float, out: Effects) -> None:
        """Once a second: put on record what was counted."""
        for key, spell in list(self._spells.items()):
            if now < spell.due:
                continue
            if spell.missed:
                self._tell(spell, out)
                spell.wait = min(_LONGEST_WAIT, 2 * spell.wait or 1.0)
                spell.due = now + spell.wait
                continue
            spell.wait = 0.0
            spell.made -= 1
            if spell.made <= 0:
                del self._spells[key]

    def flush(self, out: Effects) -> None:
        """The same, now: the daemon stops."""
        for spell in self._spells.values():
            if spell.missed:
                self._tell(spell, out)

    @staticmethod
    def _tell(spell: _Spell, out: Effects) -> None:
        assert spell.last is not None
        about = spell.last.about if len(spell.kinds) == 1 else {**spell.last.about, "of": spell.kinds}
        put(replace(spell.last, about=about, times=spell.missed), out)
        spell.missed, spell.last, spell.kinds = 0, None, {}


@dataclass(slots=True)
class Account:
    """A message that may be put on record, while it is carried out."""

    sender: Sender
    message: Any
    entry: Audited
    #: lengths of the turn's effects before
    records: int
    replies: int
    verifications: int


class Auditor:
    """Puts on record what is done to one daemon."""

    def __init__(self, masters: Mapping[str, Master], runs: Runs) -> None:
        self._masters = masters
        self._runs = runs
        self._denied = Floods(1)
        self._failed = Floods(FAILURES)
        #: when it was last put on record that somebody reads the record: seconds of :meth:`look`
        self._readers: dict[tuple[str, str], float] = {}
        self._now = 0.0

    def look(self, now: float, out: Effects) -> None:
        """Once a second."""
        self._now = now
        self._denied.look(now, out)
        self._failed.look(now, out)

    def flush(self, out: Effects) -> None:
        """The daemon stops: what was only counted is put on record."""
        self._denied.flush(out)
        self._failed.flush(out)

    # -- a message ----------------------------------------------------------------------------------------------------

    def denied(self, sender: Sender, message: Any, why: object, out: Effects) -> None:
        """Somebody may not do this."""
        entry = self._entry(sender, message, out, outcome="refused", why=cut(str(why)))
        self._denied.note(sender.user, entry, out)

    def stranger(self, user: str, origin: str, why: str, out: Effects) -> None:
        """A message of somebody whose key is not in force any more: whatever it is, it is not read.

        ``user`` is what ZeroMQ calls them: their name, and their public key.
        """
        name, _, key = user.partition(" ")
        about = {"key": fingerprint(public_from_text(key))} if key else {}
        self._denied.note(user, Audited(out.wall, name, "", origin, "message", "", about, "refused", cut(why)), out)

    def begin(self, sender: Sender, message: Any, out: Effects) -> Account | None:
        """A message of a kind that is ``ON_RECORD`` is about to be carried out; None where it leaves no entry."""
        if RULES[type(message)].right is Right.LEARN and not self._is_more_than_learning(sender, message):
            return None
        if isinstance(message, m.ReadAudit) and not self._is_first_reading(sender):
            return None
        effects = len(out.records), len(out.replies), len(out.verifications)
        return Account(sender, message, self._entry(sender, message, out), *effects)

    def end(self, account: Account, out: Effects) -> None:
        """It was carried out."""
        entry, message = account.entry, account.message
        if isinstance(message, m.Open) and len(out.records) == account.records:
            return  # asked again, by who has the answer
        if len(out.verifications) > account.verifications:
            said = out.verifications[-1]
            assert isinstance(said, Recheck)
            out.verifications[-1] = replace(said, entry=entry)
            return
        for reply in out.replies[account.replies :]:
            if isinstance(reply.message, m.Done) and isinstance(message, _COUNTED):
                if not reply.message.count and isinstance(message, m.Cancel) and self._is_own(account.sender, message):
                    return
                entry = replace(entry, about={**entry.about, "concerned": reply.message.count})
            elif isinstance(reply.message, m.Claimed):
                taken = reply.message.request
                if taken is None:  # which whoever waits for a request may ask again and again
                    self._failed.note(account.sender.user, replace(entry, why="nothing waits"), out)
                    return
                entry = replace(
                    entry, about={**entry.about, "run": taken.run, "name": taken.name, "index": taken.index}
                )
        put(entry, out)

    def failed(self, account: Account, why: object, out: Effects) -> None:
        """It could not be carried out."""
        entry = replace(account.entry, outcome="refused", why=cut(str(why)))
        self._failed.note(account.sender.user, entry, out)

    def of_fork(self, sender: Sender, message: m.Fork, wall: float) -> Audited | None:
        """The entry for a fork that is about to be made of another's run; None of one's own."""
        if self._is_own(sender, message):
            return None
        entry = self._entry(sender, message, Effects(wall=wall))
        return replace(entry, about={**entry.about, "fork": cut(message.name)})

    # -- what it is ---------------------------------------------------------------------------------------------------

    def _is_more_than_learning(self, sender: Sender, message: Any) -> bool:
        if isinstance(message, m.Delete):
            return True
        if isinstance(message, m.Open):
            known = self._runs.find(message.master, message.name)
            is_others = known is not None and known.user != sender.user
            return message.write and (is_others or (message.priority or 0) > 0)
        if not self._is_own(sender, message):
            return True
        return isinstance(message, m.Cancel) and not message.queued and self._is_all(message)

    def _is_own(self, sender: Sender, message: Any) -> bool:
        run = self._runs.look(message.run)
        return run is None or run.user == sender.user

    def _is_all(self, message: m.Cancel) -> bool:
        run = self._runs.look(message.run)
        if message.intervals is None or run is None:
            return True
        return any(low == 0 and high >= run.next_index for low, high in message.intervals)

    def _is_first_reading(self, sender: Sender) -> bool:
        reader = sender.user, sender.origin
        self._readers = {who: at for who, at in self._readers.items() if self._now < at + READING_SECONDS}
        if reader in self._readers:
            return False
        self._readers[reader] = self._now
        return True

    def _entry(self, sender: Sender, message: Any, out: Effects, outcome: str = "done", why: str = "") -> Audited:
        about = _said(message)
        master = getattr(message, "master", None)
        number = getattr(message, "run", None)
        run = self._runs.look(number) if number else None
        if run is not None:
            about["name"] = run.name
            master = master or run.master
        if master is None and isinstance(message, (m.Stop, m.Reset)):
            names = [name for name, known in self._masters.items() if known.heads]
            about["masters"] = _some(names[:INTERVALS], len(names))
        what = str(type(message).__struct_config__.tag)
        return Audited(
            out.wall, sender.user, sender.peer.role, sender.origin, what, cut(master or ""), about, outcome, why
        )


def put(entry: Audited, out: Effects) -> None:
    """Have an entry committed with the turn, and told in the log then."""
    out.records.append(entry)
    out.remarks.append((False, in_words(entry)))


def by_daemon(
    what: str, out: Effects, master: str = "", about: Mapping[str, Any] | None = None, origin: str = ""
) -> None:
    """Put on record what the daemon does by itself; ``origin``: what has moved it to."""
    put(Audited(out.wall, "", "daemon", cut(origin), what, master, dict(about or {})), out)


def in_words(entry: Audited) -> str:
    """An entry for the log, in a line."""
    about = ", ".join(f"{key} {value}" for key, value in entry.about.items())
    who = f"{entry.user or 'the daemon'}{f' ({entry.role})' if entry.user and entry.role else ''}"
    parts = (
        f"audit: {who}",
        f"from {entry.origin}" if entry.origin else "",
        entry.what,
        entry.master,
        f"[{about}]" if about else "",
        f"{entry.times} times" if entry.times > 1 else "",
    )
    became = entry.outcome if not entry.why else f"{entry.outcome}: {entry.why}"
    return printable(f"{' '.join(filter(None, parts))}: {became}")


def cut(text: str) -> str:
    """A text in an entry: not longer than there is room."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _said(message: Any) -> dict[str, Any]:
    """What a message says, as far as it is for the record."""
    about: dict[str, Any] = {}
    for name, default in _fields_said(type(message)):
        value = getattr(message, name)
        if value is None or (value == default and type(value) is type(default)):
            continue
        if name == "intervals":
            some = [f"{low}-{high - 1}" if high - low > 1 else str(low) for low, high in value[:INTERVALS]]
            about[name] = _some(some, len(value))
        elif isinstance(value, str):
            about[name] = cut(value)
        elif isinstance(value, (int, float)):
            about[name] = value
    return about


def _fields_said(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """The fields of a message that are for the record, and what they are where nothing was said."""
    known = _FIELDS_SAID.get(kind)
    if known is None:
        fields = msgspec.structs.fields(kind)
        known = _FIELDS_SAID[kind] = tuple((each.name, each.default) for each in fields if each.name in SAID)
    return known


_FIELDS_SAID: dict[type[Any], tuple[tuple[str, Any], ...]] = {}


def _some(words: Sequence[str], n: int) -> str:
    """The first of ``n`` words."""
    return cut(", ".join(words) + (f", … ({n} in all)" if n > len(words) else ""))
