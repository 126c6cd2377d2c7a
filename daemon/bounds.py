"""What the owner of one key may take of a daemon's attention: a bucket of tokens that fills by the second.

Each message costs a token, and one for each 16 kB; what leaves traces in the journal for good costs more. Whoever has
none left is shown the door for a while, which doubles each time up to a minute, and comes back by itself: clients and
workers connect anew and send again whatever was not acknowledged. Bounded are the owners of keys, not the daemon's own
user, whose the machine is. Pure state: nothing here knows the time.

Of no message does the size, the header or the kind cost more than a second's tokens, however few these are, and it
passes where there is one token left, on credit: where the rate was set low, whoever has a large one to send gets it
through, and is not sent away each time. What it had the daemon do is paid in full, by debts if need be (`spend`).

The bounds are far above what programs do that mean it. Clients gather what they put, so a thousand messages a second
are many; what comes faster is a loop that never waits for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from taskmaster.bus import messages as m
from taskmaster.daemon.roles import RULES, Right

__all__ = ["MOST_TOPICS", "RATE", "Bounds"]

#: Tokens that each key gets in a second, by default.
RATE = 20_000.0
#: Seconds without a message fill a bucket.
BURST_SECONDS = 2.0
#: Bytes that cost as much as a message; …
TOKEN_BYTES = 16 << 10
#: … and those of a header, which is decoded whoever it is of, and may hold a word every few bytes.
HEADER_TOKEN_BYTES = 512
#: Workers that are vouched for, each of which is looked up.
TOKEN_WORKERS = 4
#: What costs more than a token: it stays in the journal, as what is on record of operators does, or has much read. (A
#: worker's hello has the daemon say all that there is to evaluate with. It is no dearer, for when the daemon has been
#: restarted, thousands of workers of one key say hello at once.)
COSTS: Mapping[type[m.Message], float] = {
    **{kind: 20.0 for kind, rule in RULES.items() if rule.right in (Right.OPERATE, Right.ADMINISTER)},
    m.Open: 20.0,
    m.Fork: 200.0,
    m.NoteWriter: 20.0,
    m.NoteAsks: 5.0,
    m.Delete: 20.0,
    m.Status: 10.0,
    m.ListRuns: 4.0,
    m.ListHeads: 4.0,
    m.WorkerHello: 2.0,
    m.WorkerLost: 5.0,
    m.WorkerFailed: 5.0,
    m.HeadReport: 5.0,
    m.Tripped: 5.0,
    m.Checkpoint: 2.0,
    m.Reconciled: 5.0,
    m.GuardianHello: 20.0,
    m.Guarded: 20.0,
}
#: Stretches of tasks that are cancelled, approved or rejected, each of which leaves rows in the journal.
TOKEN_INTERVALS = 2
#: Frames of a message of too many, which are read to be dropped.
TOKEN_FRAMES = 16
#: What something that is no message costs: programs do not send it by the hundred.
NONSENSE = 200.0
#: Seconds that fill the bucket of somebody who has been kept out, when they may come again.
SECOND_CHANCE = 0.1
#: Connections that have said nothing yet, of one key, and how many more they may become in a second. A worker that is
#: busy says nothing when the daemon is back, nor does a client that wants nothing; but those that hold many in silence
#: may be guessing, see `bus.origins`.
MOST_SILENT, MORE_SILENT = 4096.0, 1.0
#: Connections of one key in all: what a laboratory's workers make at once when the network is back, twice, and then how
#: many more in a second. Each takes a handshake, and a number that somebody may be guessing. Those of whom the network
#: is cut off again and again are to be back within minutes, and commands of a script not to wait.
MOST_ARRIVALS, MORE_ARRIVALS = 20_000.0, 50.0
#: Connections in silence of a key that are not looked at when one of somebody's was found to hold such a number.
FEW_SILENT = 16
#: How long somebody is kept out: at first, and at most.
FIRST_BAR, LAST_BAR = 1.0, 60.0
#: Whoever has behaved for so long is a stranger to it again.
FORGIVEN_SECONDS = 300.0
#: An account is forgotten that was not used for so long, in which all is made up for.
_LONG_SECONDS = 2 * 3600.0
#: What one key's owners may follow at a time; a long one counts more.
MOST_TOPICS = 20_000


@dataclass(slots=True)
class _Account:
    tokens: float
    at: float
    barred_until: float = 0.0
    bar: float = 0.0
    #: topics that are followed
    topics: int = 0
    #: connections that may still be made in silence, as of then
    knocks: float = MOST_SILENT
    arrivals: float = MOST_ARRIVALS
    knocked_at: float = 0.0


class Bounds:
    """The accounts of all who come with keys, by what ZeroMQ calls them. Times are monotonic, in seconds."""

    def __init__(self, rate: float = RATE) -> None:
        self._rate = rate
        self._most = rate * BURST_SECONDS
        self._accounts: dict[str, _Account] = {}

    def passes(self, user: str, size: int, now: float) -> bool:
        """Whether a message of so many bytes is still within bounds; it is paid for."""
        account = self._accounts.get(user)
        if account is None:
            account = self._accounts[user] = _Account(self._most, now)
        if now < account.barred_until:
            return False
        tokens = account.tokens + (now - account.at) * self._rate
        account.at = now
        tokens = min(tokens, self._most)
        account.tokens = tokens - min(1.0 + size / TOKEN_BYTES, self._rate)
        return tokens >= 1.0

    def knock(self, user: str, now: float) -> bool:
        """Whether somebody may connect once more, having done so often, or said nothing yet by so many connections."""
        account = self._accounts.get(user)
        if account is None:
            account = self._accounts[user] = _Account(self._most, now, knocked_at=now)
        passed = now - account.knocked_at
        account.knocks = min(MOST_SILENT, account.knocks + passed * MORE_SILENT)
        account.arrivals = min(MOST_ARRIVALS, account.arrivals + passed * MORE_ARRIVALS)
        account.knocked_at = now
        if min(account.knocks, account.arrivals) < 1.0:
            return False
        account.knocks -= 1.0
        account.arrivals -= 1.0
        return True

    def suspect(self, now: float) -> list[str]:
        """One of those who are silent means harm: keep out all who have many such connections; who they are."""
        suspects = [user for user, account in self._accounts.items() if account.knocks < MOST_SILENT - FEW_SILENT]
        for user in suspects:
            account = self._accounts[user]
            account.knocks, account.knocked_at = 0.0, now
            account.bar = LAST_BAR
            self.bar(user, now)
        return suspects

    def speak(self, user: str) -> None:
        """Something has come by a connection for the first time."""
        account = self._accounts.get(user)
        if account is not None:
            account.knocks = min(MOST_SILENT, account.knocks + 1.0)

    def charge(self, user: str, message: m.Message) -> None:
        """Have what a message costs beyond a token paid; it was let pass."""
        account = self._accounts.get(user)
        if account is not None:
            account.tokens -= min(COSTS.get(type(message), 0.0), self._rate)

    def charge_header(self, user: str, size: int) -> None:
        """Have paid what it costs to look at a header of so many bytes."""
        account = self._accounts.get(user)
        if account is not None and size > HEADER_TOKEN_BYTES:
            account.tokens -= min(size / HEADER_TOKEN_BYTES, self._rate)

    def charge_lookups(self, user: str, workers: int) -> None:
        """Have paid what it costs to look up so many workers."""
        account = self._accounts.get(user)
        if account is not None:
            account.tokens -= min(workers / TOKEN_WORKERS, self._rate)

    def spend(self, user: str, tokens: float) -> None:
        """Have so much paid that was known only when it was done: who has less is in debt."""
        account = self._accounts.get(user)
        if account is not None:
            account.tokens -= tokens

    def charge_nonsense(self, user: str) -> None:
        """Have something paid that was no message."""
        account = self._accounts.get(user)
        if account is not None:
            account.tokens -= min(NONSENSE, self._rate)

    def follow(self, user: str, change: int) -> bool:
        """Somebody follows so many topics more; whether that is still within bounds."""
        account = self._accounts.get(user)
        if account is None:
            return True
        account.topics = max(0, account.topics + change)
        return account.topics <= MOST_TOPICS

    def bar(self, user: str, now: float) -> float:
        """Keep somebody out for a while; for how many seconds from now on, 0.0 if they are already.

        No shorter than it takes to pay their debts.
        """
        account = self._accounts.setdefault(user, _Account(0.0, now))
        if now < account.barred_until:
            return 0.0
        account.bar = min(LAST_BAR, max(FIRST_BAR, 2 * account.bar))
        seconds = min(LAST_BAR, max(account.bar, -account.tokens / self._rate))
        account.barred_until = now + seconds
        # Nothing is saved up meanwhile: whoever goes on where they were broken off is soon out again.
        account.tokens = self._rate * SECOND_CHANCE
        account.at = account.barred_until
        return seconds

    def is_barred(self, user: str, now: float) -> bool:
        """Whether somebody is being kept out."""
        account = self._accounts.get(user)
        return account is not None and now < account.barred_until

    def barred(self, now: float) -> dict[str, float]:
        """Who is being kept out, and for how many seconds more."""
        return {user: a.barred_until - now for user, a in self._accounts.items() if now < a.barred_until}

    def silent(self, now: float) -> list[str]:
        """Who may not connect for now, for they have done so too often, or said nothing by too many connections."""

        def may_not(account: _Account) -> bool:
            passed = now - account.knocked_at
            knocks, arrivals = account.knocks + passed * MORE_SILENT, account.arrivals + passed * MORE_ARRIVALS
            return min(knocks, arrivals) < 1.0

        return [user for user, account in self._accounts.items() if may_not(account)]

    def tidy(self, now: float) -> None:
        """Once in a while: forgive, and forget who has not come for long."""
        for user, account in list(self._accounts.items()):
            if now > max(account.at, account.barred_until, account.knocked_at) + _LONG_SECONDS and not account.topics:
                del self._accounts[user]
            elif now > account.barred_until + FORGIVEN_SECONDS:
                account.bar = 0.0
