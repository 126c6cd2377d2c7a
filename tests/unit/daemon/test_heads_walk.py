"""Heads that are cut off, return, die and are stopped at random: no doubt outlives its task, nothing is ever stuck.

Workers are played by hand, by the rules of `docs/protocol.md`; the daemon's decisions are the real ones.
"""

from __future__ import annotations

from random import Random

import pytest
from helpers.heart import Assignment, Conversation, Hand, Heart, spec
from helpers.tips import TIPS, Tip

from taskmaster.bus import messages as m
from taskmaster.bus.table import Table
from taskmaster.daemon.effects import Effects

SEEDS = 240
STEPS = 120
DEADMAN = 20.0


class Walker(Tip):
    """A head's worker: does what it is told, when it is its turn, and keeps what it has said until that is settled."""

    def __init__(self, heart: Heart, head: str) -> None:
        self.cut_since: float | None = None
        self.is_gone = self.is_alone = False
        self.at_work: Assignment | None = None
        self.reported: m.HeadReport | None = None
        self.unsettled: dict[m.LeaseId, list[tuple[m.Outcome, Table | None]]] = {}
        super().__init__(heart, head)
        self.listen()

    def say(self, message: m.WorkerMessage, table: Table | None = None) -> Effects:
        return Effects() if self.cut_since is not None else super().say(message, table)

    def cut(self) -> None:
        """Its line is cut: what it has been sent and has not heard is lost, too."""
        if self.cut_since is None:
            self.listen()
            self.cut_since = self.heart.now
            self.heart.hands.pop(self.address, None)

    def heal(self) -> None:
        if self.cut_since is None:
            return
        self.cut_since, self.is_alone = None, False
        held = {at.lease for at in self.assignments} | set(self.unsettled)
        if self.at_work is not None:
            held.add(self.at_work.lease)
        self.hello(*sorted(held))
        self.listen()
        if self.is_gone:
            return
        self.say(m.Ready())
        if self.reported is not None:
            self.say(self.reported)
        for said in list(self.unsettled.values()):
            for outcome, table in said:
                self.say(outcome, table)

    def listen(self) -> None:
        """Hear what has been said to it."""
        for note in list(self.heard):
            if isinstance(note, m.Settled):
                self._forget(note.leases)
            elif isinstance(note, m.Revoke):
                for at in [at for at in self.assignments if at.lease == note.lease]:
                    self._end(at, 0, 0)
            elif isinstance(note, m.Refused) and note.code != m.HELLO:
                self.is_gone = True
        self.heard[:] = [note for note in self.heard if isinstance(note, m.HeadOrder)]
        for at in self.assignments:
            self._forget(at.message.settled, keep=at.lease)

    def _forget(self, leases: tuple[m.LeaseId, ...], keep: m.LeaseId | None = None) -> None:
        for lease in leases:
            if self.at_work is None or self.at_work.lease != lease:
                self.unsettled.pop(lease, None)
            self.assignments[:] = [at for at in self.assignments if at.lease != lease or lease == keep]

    def _end(self, at: Assignment, position: int, n: int, *errors: m.TaskError) -> None:
        """The last word on a lease, which has not ended as it should."""
        if at in self.assignments:
            self.assignments.remove(at)
        self._tell(m.Outcome(at.lease, position, n, None, errors, final=True, doubt=bool(n)), None)

    def _tell(self, outcome: m.Outcome, table: Table | None) -> None:
        self.unsettled.setdefault(outcome.lease, []).append((outcome, table))
        self.say(outcome, table)

    def _be(self, state: str, number: m.LeaseId) -> None:
        report = m.HeadReport(state, "ACME", "", number)  # type: ignore[arg-type]
        if report != self.reported:
            self.reported = report
            self.say(report)

    def step(self, others: list[Walker]) -> None:
        """Carry out the order, then begin a task, or end one."""
        self.listen()
        if self.cut_since is not None and self.heart.now - self.cut_since > DEADMAN:
            self.is_alone = True
        order = self.order
        what = "stop" if self.is_alone else order.what
        if what == "stop" and self.at_work is not None:
            at, self.at_work = self.at_work, None
            self._end(at, 0, 1, m.TaskError(0, "Stopped", "it was stopped"))
        if what != "work":
            for at in list(self.assignments):
                self._end(at, 0, 0)
        if self.at_work is not None:
            self._finish()
            return
        self._be("ready" if what == "work" else "safe", order.number)
        self.listen()
        if what == "work" and self.assignments:
            self._begin(others)

    def _begin(self, others: list[Walker]) -> None:
        at = self.at_work = self.assignments.pop(0)
        for other in others:
            if other is not self and other.head == self.head and other.cut_since is not None:
                assert self.heart.now - other.cut_since > DEADMAN, f"two drive {self.head}"
            assert other is self or other.at_work is None or other.head != self.head, f"two drive {self.head}"
        if at.message.first % 3 == 0:
            self._keep(at)

    def _keep(self, at: Assignment) -> None:
        self.say(m.Checkpoint(at.lease, 1, self.heart.now, b"so far"))

    def _finish(self) -> None:
        assert self.at_work is not None
        at, self.at_work = self.at_work, None
        self._tell(*self.outcome(at, seconds=1.0))

    def die(self, host: Hand | None) -> None:  # type: ignore[override]
        """Its process is gone; its host, if there still is one, says how far it had come."""
        self.heart.hands.pop(self.address, None)
        self.is_gone = True
        if host is not None:
            begun = ((self.at_work.lease, 1),) if self.at_work is not None else ()
            latest = self.at_work.lease if self.at_work is not None else None
            host.say(m.WorkerLost(self.token, "WorkerLost", "it died", True, latest, begun))


class Walk:
    """What happens to two heads, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        options = {"deadman": DEADMAN, "resume_within": 30.0, "resume_policy": self.rng.choice(("resume", "ask"))}
        self.heart = Heart(spec("stm", "hold", heads=TIPS, options=options))
        self.run: Conversation = self.heart.open("stm")
        self.host = self.heart.stranger(b"host")
        self.walkers: list[Walker] = []

    def step(self) -> None:
        rng = self.rng
        walker = rng.choice(self.walkers) if self.walkers else None
        what = rng.choices(
            ("put", "time", "turn", "arrive", "cut", "heal", "die", "resolve", "stop", "reset"),
            (3, 6, 20, 4, 2, 3, 1, 3, 0.5, 1),
        )[0]
        if what == "put":
            self.run.put(*range(rng.choice((1, 3))))
        elif what == "time":
            self.pass_time(rng.choice((1.0, 3.0)))
        elif what == "arrive":
            self.arrive(rng.choice(TIPS).name)
        elif what == "resolve":
            self.resolve(rng.choice(("retry", "fail", "fail")))
        elif what in ("stop", "reset"):
            self.heart.say(m.Stop(1, "stm") if what == "stop" else m.Reset(1, "stm"))
        elif walker is not None:
            if what == "turn":
                walker.step(self.walkers)
            elif what == "die":
                walker.die(self.host if rng.random() < 0.7 else None)
            else:
                (walker.cut if what == "cut" else walker.heal)()
        self.look()

    def arrive(self, head: str) -> None:
        """A host offers a worker: perhaps another one than that whose worker is cut off."""
        walker = Walker(self.heart, head)
        if not walker.is_gone:
            self.walkers.append(walker)

    def pass_time(self, seconds: float) -> None:
        for walker in self.walkers:
            walker.say(m.Heartbeat())
            if any(isinstance(note, m.Refused) and note.code == m.HELLO for note in walker.heard):
                walker.cut()
                walker.heal()
            walker.listen()
            if walker.cut_since is not None and self.heart.now + seconds - walker.cut_since > DEADMAN:
                walker.step(self.walkers)
        self.heart.tick(seconds)

    def resolve(self, action: str) -> None:
        held = [index for low, high in self.run.state.held for index in range(low, high)]
        if held:
            self.run.resolve(self.rng.choice(held), action)

    def look(self) -> None:
        self.walkers = [walker for walker in self.walkers if not walker.is_gone]
        state = self.run.state
        held = {(state.id, index) for low, high in state.held for index in range(low, high)}
        doubts = set().union(*(head.doubts for head in self.heart.core.masters["stm"].heads))
        assert doubts == held

    def calm_down(self) -> None:
        """All is well again: every task ends."""
        for walker in self.walkers:
            walker.heal()
        self.look()
        self.heart.say(m.Reset(1, "stm"))
        for k in range(600):
            if not self.run.state.open:
                return
            self.resolve("fail")
            for tip in TIPS:
                if not any(walker.head == tip.name for walker in self.walkers):
                    self.arrive(tip.name)
            for walker in self.walkers:
                walker.step(self.walkers)
            if k % 4 == 0:
                self.pass_time(1.0)
            self.look()
        raise AssertionError(f"stuck: {self.run.state.open}, {self.heart.core.masters['stm'].heads.infos(0.0)}")


@pytest.mark.parametrize("part", range(4))
def test_no_doubt_outlives_its_task_and_every_task_ends(part: int) -> None:
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        walk = Walk(seed)
        try:
            for _ in range(STEPS):
                walk.step()
            walk.calm_down()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
