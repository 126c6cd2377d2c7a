"""Runs, writers, workers and restarts in any order: what is promised of each task is kept.

The simulation (`tests/simulation`) does the same to the whole daemon, with clients and a network; here it is the
decisions alone, a real journal, and a failing case that Hypothesis makes short.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.evaluator import Evaluator, Progress, fails
from helpers.heart import Conversation, Hand, Heart, output, spec
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskmaster.bus import messages as m
from taskmaster.bus.table import Table
from taskmaster.daemon.backlog import Backlog
from taskmaster.daemon.effects import AttemptsCharged, BlockAppended, Dispatched, Effects, Sender
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.master import Master
from taskmaster.daemon.run import Run

_MASTERS = ("fast", "once", "frail")
_ATTEMPTS = 3
#: run → its Master and priority
_RUNS = {"a": ("fast", 0), "b": ("fast", 1), "c": ("once", 0), "d": ("frail", 0), "e": ("fast", 0)}
#: Tasks of each run that is to share a Master with others.
_SHARED = 8

picks = st.integers(0, 1000)
#: whether each of some workers that go on tells of it
works = st.lists(st.sampled_from((True, True, False)), max_size=12)
_seldom = st.sampled_from((False, False, False, True))


class WatchedBacklog(Backlog):
    """Objects where it is another run's turn, by what the runs themselves say."""

    def __init__(self, master: Master) -> None:
        super().__init__()
        self._master = master

    def next(self) -> Run | None:
        able = [run for run in self._master.runs.values() if run.queued and not run.paused]
        expected = min(able, key=lambda run: (-run.priority, run.virtual_time, run.id), default=None)
        found = super().next()
        assert found is expected
        return found


class WatchedHeart(Heart):
    """Objects where a task is granted that must not be."""

    def __init__(self, machine: MasterMachine, journal: Journal) -> None:
        super().__init__(
            spec("fast", max_attempts=_ATTEMPTS), spec("once", "hold"), spec("frail", "fail"), journal=journal
        )
        self.machine = machine

    def _start(self) -> None:
        super()._start()
        for master in self.core.masters.values():
            master.backlog = WatchedBacklog(master)

    def deliver(self, dispatches: Sequence[Dispatched]) -> None:
        for each in dispatches:
            self.machine.granted(each.message)
        super().deliver(dispatches)

    def commit(self, out: Effects) -> None:
        super().commit(out)
        self.machine.committed(out)


class MasterMachine(RuleBasedStateMachine):
    """What clients, workers and operators do to a daemon, and what it has promised them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.begun: Counter[tuple[int, int]] = Counter()
        self.approved: Counter[tuple[int, int]] = Counter()
        #: evaluations that are nobody's fault: of what was taken back, or was granted when the daemon died
        self.excused: Counter[tuple[int, int]] = Counter()
        #: tasks that were with a worker of which nobody knows how far it had come
        self.unknown: set[tuple[int, int]] = set()
        self.asks: dict[tuple[int, int], Any] = {}
        self.evaluators: list[Evaluator] = []
        self.said: list[tuple[Hand, m.Outcome, Table | None]] = []
        #: of each lease in turn its run, and how many tasks it has
        self.grants: list[tuple[int, int]] = []
        self.heart = WatchedHeart(self, self._open_journal())
        #: what operators have said of held tasks
        self.words: list[tuple[Conversation, int, str, int]] = []
        self.value = self.moves = 0

    def _open_journal(self) -> Journal:
        journal = Journal(self.folder, "crash")
        journal.begin_epoch(0.0)
        return journal

    @initialize(local=st.booleans(), slots=st.integers(1, 2))
    def begin(self, local: bool, slots: int) -> None:
        """Every Master has a worker to begin with."""
        self.runs = {
            name: self.heart.open(master, name, priority=priority) for name, (master, priority) in _RUNS.items()
        }
        for master in _MASTERS:
            self.hire(master, slots, local)
        self.hire("fast", 1, not local)

    # -- what is checked as it happens --------------------------------------------------------------------------------

    def granted(self, message: m.Dispatch) -> None:
        self.grants.append((message.run, message.n))
        run = self.heart.core.runs[message.run]
        master = self.heart.core.masters[run.master]
        assert not run.paused
        assert not master.paused
        assert master.spec.repeatable or message.n == 1
        book = self.heart.ledger.books[message.run]
        for index in range(message.first, message.first + message.n):
            assert index >= len(book.states) or book.states[index] == "open"
            if not master.spec.repeatable:
                assert message.lease in self.heart.ledger.leases  # on disk before it leaves

    def committed(self, out: Effects) -> None:
        for book, event in self.heart.events:
            if event.kind == "done":
                assert event.output == output(book.tasks[event.index])
            elif event.kind == "failed" and event.error == "ValueError":
                assert fails(book.tasks[event.index])
        for record in out.records:
            if isinstance(record, AttemptsCharged):
                for index in range(record.first, record.last):
                    key = record.run, index
                    assert key in self.unknown or record.attempts <= self.begun[key]
                assert record.attempts < _ATTEMPTS or self.heart.ledger.books[record.run].master != "fast"
            elif isinstance(record, BlockAppended):
                self.asks[record.run, record.first] = record.asks

    # -- clients ------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(sorted(_RUNS)), n=st.integers(1, 40), after=st.integers(0, 3), torn=_seldom)
    def put(self, name: str, n: int, after: int, torn: bool) -> None:
        """Submit a block; a torn one is submitted again after the restart, as its client does."""
        run = self.runs[name]
        values = list(range(self.value, self.value + n))
        self.value += n
        message, table = run.submission(values)
        message.asks = (m.Ask(0, run.state.next_seq - after),)
        if torn:
            for each in self.evaluators:
                each.listen()
            with self.heart.turn(torn=True) as out:
                self.heart.core.on_client(Sender(b"client"), message, table, out)
            self._restart()
        self.heart.say(message, table)
        assert run.book.tasks[run.next_index :] == values
        run.next_index += n
        assert self.asks[message.run, message.first] == message.asks
        again = self.heart.say(message, table)
        assert again.verifications
        assert not any(isinstance(record, BlockAppended) for record in again.records)

    @rule(name=st.sampled_from(sorted(_RUNS)), claim=st.sampled_from(("", "x", "y")))
    def take_over(self, name: str, claim: str) -> None:
        run = self.runs[name]
        opened = self.heart.ask(m.Open(1, _RUNS[name][0], name, claim=claim), m.Opened)
        assert opened.next_index == run.next_index
        if claim:  # its answer was lost
            assert self.heart.ask(m.Open(1, _RUNS[name][0], name, claim=claim), m.Opened).writer == opened.writer
        if opened.writer > run.writer:
            self._try_to_write(run)
            self.runs[name] = Conversation(self.heart, run.run, opened.writer, opened.next_index)

    def _try_to_write(self, old: Conversation) -> None:
        before = len(old.book.tasks)
        message, table = old.submission([-1], first=before)
        refused = self.heart.ask(message, m.Refused, table)
        assert refused.code == "fenced"
        assert len(old.book.tasks) == before

    @rule(name=st.sampled_from(sorted(_RUNS)), low=picks, n=st.integers(0, 9))
    def cancel(self, name: str, low: int, n: int) -> None:
        run = self.runs[name]
        self._cancel(run, low % (run.next_index + 1), n)

    @rule(pick=picks, n=st.integers(1, 9), work=works)
    def cancel_what_is_with_a_worker(self, pick: int, n: int, work: list[bool]) -> None:
        self.evaluate(work)
        leased = [progress for each in self._busy() for progress in each.progress if not progress.final]
        if leased:
            message = leased[pick % len(leased)].at.message
            self._cancel(next(run for run in self.runs.values() if run.run == message.run), message.first, n)

    def _cancel(self, run: Conversation, low: int, n: int) -> None:
        before = Counter(run.book.states)
        assert run.cancel((low, low + n)) == run.book.states.count("cancelled") - before["cancelled"]

    @rule(master=st.sampled_from(_MASTERS), name=st.sampled_from([*sorted(_RUNS), None]), pause=_seldom)
    def pause(self, master: str, name: str | None, pause: bool) -> None:
        message = m.Pause if pause else m.Resume
        run = None if name is None else self.runs[name].run
        self.heart.ask(message(1, master if name is None else _RUNS[name][0], run), m.Done)

    @rule(name=st.sampled_from(sorted(_RUNS)), priority=st.integers(0, 2))
    def prioritise(self, name: str, priority: int) -> None:
        self.heart.ask(m.Prioritise(1, self.runs[name].run, priority), m.Done)

    @precondition(lambda self: self._held())
    @rule(pick=picks, action=st.sampled_from(("retry", "retry", "fail")))
    def resolve(self, pick: int, action: str) -> None:
        held = self._held()
        run, index = held[pick % len(held)]
        attempt = run.state.attempts[index]
        if action == "retry":
            self.approved[run.run, index] += 1
        assert isinstance(run.resolve(index, action, attempt), m.Done)
        self.words.append((run, index, action, attempt))

    @precondition(lambda self: self.words)
    @rule(pick=picks)
    def the_same_word_again(self, pick: int) -> None:
        run, index, action, attempt = self.words[pick % len(self.words)]
        assert isinstance(run.resolve(index, action, attempt), m.Refused)

    def _held(self) -> list[tuple[Conversation, int]]:
        return [(run, i) for run in self.runs.values() for i, state in enumerate(run.book.states) if state == "held"]

    # -- workers ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.evaluators) < 7)
    @rule(master=st.sampled_from(_MASTERS), slots=st.integers(1, 2), local=st.booleans())
    def hire(self, master: str, slots: int, local: bool) -> None:
        self.evaluators.append(Evaluator(self.heart.hand(master, slots, local=local), self.excused))

    def _busy(self) -> list[Evaluator]:
        for each in self.evaluators:
            each.listen()
        return [each for each in self.evaluators if any(not progress.final for progress in each.progress)]

    @rule(work=works)
    def evaluate(self, work: list[bool]) -> None:
        """Workers go on in turn: each begins a task, and tells of what it has or does not yet."""
        for tells in work:
            busy = self._busy()
            if not busy:
                return
            self.moves += 1
            each = busy[self.moves % len(busy)]
            if each.current:
                self._begin(each, each.current[self.moves // 2 % len(each.current)])
            if tells:
                able = [progress for progress in each.progress if progress.next and not progress.final]
                self._report(each, able[-(self.moves % 3 == 0)])

    def _begin(self, evaluator: Evaluator, progress: Progress) -> None:
        position = evaluator.begin(progress)
        if position is None:
            return
        message = progress.at.message
        key = message.run, message.first + position
        self.begun[key] += 1
        master = evaluator.hand.master
        allowed = _ATTEMPTS + self.excused[key] if master == "fast" else 1 + self.approved[key]
        assert self.begun[key] <= allowed, f"task {key} is evaluated for the {self.begun[key]}. time"

    def _report(self, each: Evaluator, progress: Progress) -> None:
        outcome, table = each.report(progress)
        self.heart.now += 0.0005 * outcome.n
        self.said.append((each.hand, outcome, table))
        each.hand.say(outcome, table)

    @precondition(lambda self: self.said)
    @rule(pick=st.integers(0, 9), other=st.integers(0, 9))
    def say_again(self, pick: int, other: int) -> None:
        """An outcome comes once more: late, or by somebody whose it is not."""
        hand, outcome, table = self.said[-1 - pick % len(self.said)]
        speakers = [hand, hand, *(each.hand for each in self.evaluators)]
        speakers[other % len(speakers)].say(outcome, table)

    @precondition(lambda self: self.evaluators)
    @rule(pick=picks, known=st.booleans(), work=works)
    def die(self, pick: int, known: bool, work: list[bool]) -> None:
        """A worker is lost; what it had begun, and no more where that is known, has used up an attempt."""
        self.evaluate(work)
        each = self.evaluators.pop(pick % len(self.evaluators))
        each.listen()
        if not known:
            self._suspect(each)
        worker = self.heart.core.masters[each.hand.master].workers.get(each.hand.token)
        leases = worker.leases if worker is not None else {}
        begun = {
            (at.run, at.first + p)
            for progress in each.progress
            for at in (progress.at.message,)
            for p in range(progress.noted if known else at.n)
            if at.lease in leases and at.first + p in leases[at.lease].remaining
        }
        before = {key: self.heart.ledger.books[key[0]].attempts.get(key[1], 0) for key in begun}
        each.hand.die(each.started if known else None)
        for number, index in begun:
            book = self.heart.ledger.books[number]
            assert book.states[index] == "failed" or book.attempts.get(index, 0) == before[number, index] + 1

        self._replace(each)

    def _replace(self, each: Evaluator) -> None:
        self.hire(each.hand.master, each.hand.slots, each.hand.local)

    def _suspect(self, each: Evaluator) -> None:
        for progress in each.progress:
            self.unknown.update((progress.at.message.run, index) for index in progress.at.indices)

    @precondition(lambda self: self._far())
    @rule(pick=picks, lost=st.booleans(), ready=st.booleans(), work=works)
    def reconnect(self, pick: int, lost: bool, ready: bool, work: list[bool]) -> None:
        """A connection breaks, perhaps with a dispatch in it."""
        self.evaluate(work)
        far = self._far()
        each = far[pick % len(far)]
        if lost:
            each.hand.assignments.clear()
        each.listen()
        each.hand.hello(*(progress.at.lease for progress in each.progress))
        if ready:
            each.hand.say(m.Ready())

    def _far(self) -> list[Evaluator]:
        return [each for each in self.evaluators if not each.hand.local]

    @rule(seconds=st.sampled_from((0.001, 0.02, 1.0)), silent=_seldom, pick=picks)
    def time_passes(self, seconds: float, silent: bool, pick: int) -> None:
        """All give signs of life, but perhaps one from elsewhere: it is given up, and speaks again later."""
        far = self._far()
        quiet = far[pick % len(far)] if far and silent else None
        if quiet is not None:
            quiet.listen()
            self._suspect(quiet)
        self.heart.now += 11.0 if quiet is not None else seconds
        for each in far:
            if each is not quiet:
                each.hand.say(m.Heartbeat())
        self.heart.tick(0)

    # -- the daemon ---------------------------------------------------------------------------------------------------

    @rule(twice=st.booleans(), work=works)
    def restart(self, twice: bool, work: list[bool]) -> None:
        self.evaluate(work)
        self._restart(twice=twice)

    def _restart(self, *, twice: bool = False) -> None:
        """It is killed, and its own workers with it; those from elsewhere go on, and dial in again when they like."""
        for each in self.evaluators:
            each.listen()
            if not each.hand.local:
                self._suspect(each)
            for progress in each.progress:
                self.excused.update((progress.at.message.run, index) for index in progress.at.indices)
        local = [each for each in self.evaluators if each.hand.local]
        self.evaluators = self._far()
        for _ in range(1 + twice):  # killed again before what its workers had noted was forgotten
            assert self.heart.journal is not None
            self.heart.journal.close(in_order=False)
            self.heart.journal = self._open_journal()
            self.heart.restart({each.hand.token: each.positions for each in local})
        for each in local:
            self._replace(each)

    # -- what holds at any time ---------------------------------------------------------------------------------------

    @invariant()
    def each_open_task_is_in_one_place(self) -> None:
        """Queued, held, or with one worker."""
        for master in self.heart.core.masters.values():
            places: Counter[tuple[int, int]] = Counter()
            for run in master.runs.values():
                places.update((run.id, index) for index in [*run.queued.indices(), *(i for i, _ in run.held.after(-1))])
            for worker in master.workers.values():
                for lease in worker.leases.values():
                    places.update((lease.run.id, index) for index in lease.remaining.indices())
            expected = {(run.id, index) for run in master.runs.values() for index in run.open.indices()}
            assert set(places) == expected
            assert not places or max(places.values()) == 1

    @invariant()
    def memory_and_disk_agree(self) -> None:
        for run in self.heart.core.runs.values():
            book = self.heart.ledger.books[run.id]
            count = book.states.count
            assert (run.next_index, run.next_seq) == (len(book.tasks), len(book.events))
            assert (run.done, run.failed, run.cancelled) == (count("done"), count("failed"), count("cancelled"))
            assert set(run.open.indices()) == {i for i, state in enumerate(book.states) if state in ("open", "held")}
            last_held = {event.index: event for event in book.events if event.kind == "held"}
            assert {i: (doubt.worker, doubt.attempt) for i, doubt in run.held.after(-1)} == {
                i: (last_held[i].worker, last_held[i].attempt) for i, state in enumerate(book.states) if state == "held"
            }
            assert dict(run.attempts.items()) == {
                i: n for i, n in book.attempts.items() if book.states[i] in ("open", "held")
            }

    @invariant()
    def statistics_add_up(self) -> None:
        for status in self.heart.core.statistics(self.heart.now):
            runs = [run for run in self.heart.core.runs.values() if run.master == status.name]
            ended = status.done + status.failed + status.cancelled
            assert status.queued + status.leased + status.held + ended == sum(run.next_index for run in runs)
            assert sum(worker.leased for worker in status.workers) == status.leased

    # -- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # else it has failed before, and what follows would hide that
                self._settle()
        finally:
            assert self.heart.journal is not None
            self.heart.journal.close()
            shutil.rmtree(self.folder)

    def _settle(self) -> None:
        """Once nothing goes wrong any more, every task ends."""
        self.time_passes(1.0, False, 0)
        for evaluator in self.evaluators:
            evaluator.listen()
            self._suspect(evaluator)
            evaluator.hand.die(None)
        self.evaluators.clear()
        self.heart.now += 60
        self.unknown.update((run.run, index) for run in self.runs.values() for index in range(run.next_index))
        self.heart.tick()  # also those that were awaited since a restart
        for master in _MASTERS:
            self.heart.ask(m.Resume(1, master), m.Done)
            self.evaluators.append(Evaluator(self.heart.hand(master), self.excused))
        for run in self.runs.values():
            self.heart.ask(m.Resume(1, self.heart.core.runs[run.run].master, run.run), m.Done)
        for run, index in self._held():
            assert isinstance(run.resolve(index, "fail"), m.Done)
        while self._busy():
            self.evaluate([True])
        for run in self.runs.values():
            assert not run.book.open_tasks
            assert not run.state.open
            assert not run.state.blocks
            assert not run.state.input_bytes
            assert not run.state.attempts
        assert not self.heart.core.busy
        self._share()
        self._check_asks()

    def _share(self) -> None:
        """Whatever was before, runs that begin to wait together share the Master: all their tasks take the same time.

        The highest priority goes first; of equals nobody is served who has had more than another who waits.
        """
        self.heart.ask(m.Pause(1, "fast"), m.Done)
        runs = [self.heart.open("fast", f"share {k}", priority=k // 2) for k in range(4)]
        for conversation in runs:
            conversation.put(*range(_SHARED))
        self.grants.clear()
        self.heart.ask(m.Resume(1, "fast"), m.Done)
        while self._busy():
            self.evaluate([True])
        had = {each.run: 0 for each in runs}
        priority = {each.run: each.state.priority for each in runs}
        for run, n in self.grants:
            for other in had:
                if had[other] < _SHARED:
                    assert (-priority[run], had[run]) <= (-priority[other], had[other])
            had[run] += n
        assert set(had.values()) == {_SHARED}

    def _check_asks(self) -> None:
        assert self.heart.journal is not None
        rows = self.heart.journal.query("SELECT run, first, asks FROM blocks ORDER BY run, first")
        recorded = {(run, first): tuple(m.Ask(*ask) for ask in json.loads(asks)) for run, first, asks in rows}
        assert recorded == self.asks


TestMaster = MasterMachine.TestCase
MasterMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
