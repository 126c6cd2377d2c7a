"""Plausible bugs, put into the code to see that the checker notices them.

Each is something that a careful programmer could have written, and most are something that one did: the simulation, or
a test of the whole, found them in earlier versions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, TypeAlias

import pytest
from msgspec.structs import replace

from simulation.daemon import SimJournal
from taskmaster.bus import messages as m
from taskmaster.daemon.broker import Broker
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Effects, MasterChanged, Record, RunChanged
from taskmaster.daemon.held import Held
from taskmaster.daemon.journal import pages, recovery, sql
from taskmaster.daemon.leases import Lease, Worker
from taskmaster.daemon.master import Master
from taskmaster.daemon.opening import Opening
from taskmaster.daemon.requests import RequestBook
from taskmaster.daemon.run import Run
from taskmaster.daemon.supervision import Supervisor, started
from taskmaster.daemon.workforce import Workforce
from taskmaster.drivers.host import HostedWorker
from taskmaster.drivers.protocol import WorkerProtocol
from taskmaster.learners.runcore import RunCore
from taskmaster.learners.window import Window

__all__ = ["MUTATIONS", "RARE", "mutated"]

Mutation: TypeAlias = Callable[[pytest.MonkeyPatch], None]

MUTATIONS: dict[str, Mutation] = {}
#: those that need such a coincidence that thousands of seeds may pass; tests/unit/daemon has tests of these themselves
RARE: set[str] = set()


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Put the bug ``name`` in for a while; no name, no bug."""
    with pytest.MonkeyPatch.context() as patch:
        if name:
            MUTATIONS[name](patch)
        yield


def _mutation(put_in: Mutation) -> Mutation:
    MUTATIONS[_name(put_in)] = put_in
    return put_in


def _rare_mutation(put_in: Mutation) -> Mutation:
    RARE.add(_name(put_in))
    return _mutation(put_in)


def _name(put_in: Mutation) -> str:
    return put_in.__name__.replace("_", "-")


# ---------------------------------------------------------------------------------------------------------------------
# What leaves before it is on disk


@_mutation
def acknowledges_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    commit = Broker._commit

    def eager(self: Broker, out: Effects) -> None:
        self._release(Effects(replies=out.replies))
        out.replies = []
        commit(self, out)

    patch.setattr(Broker, "_commit", eager)


@_mutation
def publishes_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    commit = Broker._commit

    def eager(self: Broker, out: Effects) -> None:
        self._publisher.publish(out.publications)
        out.publications.clear()
        commit(self, out)

    patch.setattr(Broker, "_commit", eager)


@_mutation
def beacons_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    tick = Broker._tick

    def eager(self: Broker, now: float, out: Effects) -> None:
        tick(self, now, out)
        self._publisher.beacons()

    patch.setattr(Broker, "_tick", eager)


@_mutation
def dispatches_an_instrument_s_task_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    grant = Master._grant

    def eager(self: Master, run: Run, worker: Worker, now: float, out: Effects) -> None:
        grant(self, run, worker, now, out)
        out.early += out.dispatches
        out.dispatches.clear()

    patch.setattr(Master, "_grant", eager)


@_mutation
def does_not_record_an_instrument_s_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Master, "_record", lambda self, lease, out: None)


@_mutation
def settles_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Worker, "settle", lambda self, lease, turn: self.settled.append(lease))


@_mutation
def commits_a_turn_record_by_record(patch: pytest.MonkeyPatch) -> None:
    write_down = SimJournal._write_down

    def piecemeal(self: SimJournal, records: Sequence[Record]) -> dict[int, str]:
        files: dict[int, str] = {}
        for position, record in enumerate(records):
            files.update((position, name) for name in write_down(self, [record]).values())
            self.world.network.fuse.step()
        return files

    patch.setattr(SimJournal, "_write_down", piecemeal)


@_rare_mutation
def forgets_progress_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    def rash(self: Supervisor, worker: HostedWorker) -> None:
        worker.bury()
        worker.forget()

    patch.setattr(Supervisor, "_lay_to_rest", rash)


# ---------------------------------------------------------------------------------------------------------------------
# Who may say what


@_mutation
def takes_an_outcome_for_whatever_lease_its_worker_has(patch: pytest.MonkeyPatch) -> None:
    on_outcome = Master.on_outcome

    def lax(self: Master, worker: Worker, outcome: m.Outcome, *rest: Any) -> None:
        lease = outcome.lease if outcome.lease in worker.leases else next(iter(worker.leases), outcome.lease)
        on_outcome(self, worker, replace(outcome, lease=lease), *rest)

    patch.setattr(Master, "on_outcome", lax)


@_rare_mutation
def takes_the_late_outcome_of_a_task_that_is_leased_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Master, "_forget_expired", lambda self, run, low, high: None)


@_mutation
def takes_the_outcome_of_a_cancelled_task(patch: pytest.MonkeyPatch) -> None:
    def blind(
        self: Master, worker: Worker, outcome: m.Outcome, table: Any, times: Any, now: float, out: Effects
    ) -> None:
        lease = worker.leases.get(outcome.lease)
        if lease is not None and outcome.n:
            low = lease.first + outcome.position
            self._accept(lease, worker, outcome, low, low + outcome.n, table, times, outcome.errors, out)
            self._charge_time(lease, outcome)
            self._conclude(worker, lease, outcome, out)

    patch.setattr(Master, "on_outcome", blind)


@_mutation
def lets_a_fenced_writer_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Run, "require_writer", lambda run, writer: None)


@_rare_mutation
def takes_a_repeated_opening_for_a_new_writer(patch: pytest.MonkeyPatch) -> None:
    new_writer = Opening._new_writer

    def forgetful(sender: Any, message: m.Open, run: Run, out: Effects) -> int:
        return new_writer(sender, replace(message, claim=""), run, out)

    patch.setattr(Opening, "_new_writer", staticmethod(forgetful))


@_rare_mutation
def takes_a_repeated_word_on_a_held_task_for_another(patch: pytest.MonkeyPatch) -> None:
    resolve = Run.resolve

    def lax(self: Run, request: m.Resolve, *rest: Any) -> None:
        resolve(self, replace(request, attempt=0), *rest)

    patch.setattr(Run, "resolve", lax)


@_mutation
def numbers_the_leases_of_each_master_by_themselves(patch: pytest.MonkeyPatch) -> None:
    init = Workforce.__init__

    def separate(self: Workforce, masters: Any, series: Any) -> None:
        init(self, masters, series)
        for master in masters.values():
            master.lease_numbers = count(1)

    patch.setattr(Workforce, "__init__", separate)


@_mutation
def dispatches_before_the_welcome(patch: pytest.MonkeyPatch) -> None:
    release = Broker._release

    def disorderly(self: Broker, out: Effects) -> None:
        notes, out.to_workers = out.to_workers, []
        release(self, out)
        release(self, Effects(to_workers=notes))

    patch.setattr(Broker, "_release", disorderly)


# ---------------------------------------------------------------------------------------------------------------------
# What becomes of a task


@_mutation
def queues_a_begun_task_of_an_instrument_again(patch: pytest.MonkeyPatch) -> None:
    lose = Master._lose

    def careless(self: Master, lease: Lease, low: int, high: int, *rest: Any) -> None:
        if self.spec.on_lost == "hold":
            lease.run.queued.add(low, high)
        else:
            lose(self, lease, low, high, *rest)

    patch.setattr(Master, "_lose", careless)


@_mutation
def charges_no_attempt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Run, "charge", lambda self, low, high, out: None)


@_mutation
def suspects_all_that_a_lost_worker_had(patch: pytest.MonkeyPatch) -> None:
    on_lost = Master.on_lost

    def suspicious(self: Master, worker: Worker, kind: str, reason: str, started: Any, out: Effects) -> None:
        on_lost(self, worker, kind, reason, None, out)

    patch.setattr(Master, "on_lost", suspicious)


@_mutation
def goes_on_while_it_is_paused(patch: pytest.MonkeyPatch) -> None:
    def deaf(self: Master, run: Run | None, paused: bool, out: Effects) -> None:
        if run is None:
            out.records.append(MasterChanged(self.spec.name, paused))
        else:
            out.records.append(RunChanged(run.id, run.closed, paused, run.priority))

    patch.setattr(Master, "pause", deaf)


# ---------------------------------------------------------------------------------------------------------------------
# What a start makes of the journal


@_mutation
def forgets_at_a_start_what_is_held(patch: pytest.MonkeyPatch) -> None:
    restore_run = recovery._restore_run

    def forgetful(*arguments: Any) -> Run:
        run = restore_run(*arguments)
        for low, high in run.held:
            run.queued.add(low, high)
        run.held = Held()
        return run

    patch.setattr(recovery, "_restore_run", forgetful)


@_mutation
def gives_the_number_of_an_event_again_after_a_start(patch: pytest.MonkeyPatch) -> None:
    count_on = recovery._count_on

    def short(journal: Any, run: Run) -> None:
        count_on(journal, run)
        run.next_seq = max(0, run.next_seq - 1)

    patch.setattr(recovery, "_count_on", short)
    patch.setattr(sql, "INSERT_EVENT", sql.INSERT_EVENT.replace("INSERT INTO", "INSERT OR REPLACE INTO"))


@_mutation
def gives_the_number_of_a_deleted_run_again_after_a_start(patch: pytest.MonkeyPatch) -> None:
    restore = recovery._restore

    def thrifty(core: Core, *rest: Any) -> None:
        restore(core, *rest)
        core.runs.next_number = max(core.runs, default=0) + 1

    patch.setattr(recovery, "_restore", thrifty)


@_mutation
def takes_what_is_not_noted_for_not_begun(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "started", lambda positions: started(positions or []))


@_mutation
def charges_again_at_a_start(patch: pytest.MonkeyPatch) -> None:
    restore = Master.restore_unrecorded

    def forgetful(self: Master, run: Run, index: int, attempt: int, reason: str, out: Effects) -> None:
        restore(self, run, index, run.attempt(index), reason, out)

    patch.setattr(Master, "restore_unrecorded", forgetful)


@_mutation
def forgets_at_a_start_who_has_taken_what(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "_restore_claims", lambda core, journal, out: None)


@_mutation
def loses_a_request_that_is_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RequestBook, "_give_back", RequestBook._end)


@_mutation
def leaves_a_request_to_who_had_it_when_it_is_cancelled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RequestBook, "cancel", lambda self, run, wanted, out: self.tasks_of(run).common(wanted))


@_mutation
def takes_what_was_proposed_before_a_start_for_approved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "_restore_approvals", lambda journal, run: None)


@_mutation
def says_nothing_of_an_edit_to_who_put_the_task(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Run, "_edited", lambda self, head: ())


@_mutation
def reads_back_what_was_put_where_it_was_edited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pages, "_edits", lambda journal, layouts, run: {})


# ---------------------------------------------------------------------------------------------------------------------
# Workers and clients


@_mutation
def evaluates_what_was_dispatched_in_a_former_session(patch: pytest.MonkeyPatch) -> None:
    on_dispatch = WorkerProtocol._on_dispatch

    def eager(self: WorkerProtocol, message: m.Dispatch, frames: Any) -> None:
        in_session, self._in_session = self._in_session, True
        on_dispatch(self, message, frames)
        self._in_session = in_session

    patch.setattr(WorkerProtocol, "_on_dispatch", eager)


@_mutation
def forgets_an_outcome_that_was_sent(patch: pytest.MonkeyPatch) -> None:
    report = WorkerProtocol.report

    def forgetful(self: WorkerProtocol, assignment: Any, *rest: Any, **more: Any) -> None:
        report(self, assignment, *rest, **more)
        self._unsettled.pop(assignment.lease, None)

    patch.setattr(WorkerProtocol, "report", forgetful)


@_mutation
def passes_over_a_gap_in_the_events(patch: pytest.MonkeyPatch) -> None:
    on_event = RunCore.on_event

    def hasty(self: RunCore, head: m.EventHead, frames: Any) -> None:
        self.next_seq = max(self.next_seq, head.seq)
        on_event(self, head, frames)

    patch.setattr(RunCore, "on_event", hasty)


@_mutation
def takes_an_event_twice(patch: pytest.MonkeyPatch) -> None:
    on_event = RunCore.on_event

    def forgetful(self: RunCore, head: m.EventHead, frames: Any) -> None:
        self.next_seq = min(self.next_seq, head.seq)
        on_event(self, head, frames)

    patch.setattr(RunCore, "on_event", forgetful)


@_mutation
def does_not_submit_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Window, "send_again", lambda self, now: None)
