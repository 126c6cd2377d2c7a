"""A worker and a daemon over a line that loses whatever it likes, in any order: no outcome is forgotten."""

from __future__ import annotations

from helpers.lines import Line
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taskmaster.bus import messages as m
from taskmaster.bus.messages import LeaseId
from taskmaster.bus.table import Buffer, pack_values
from taskmaster.drivers.protocol import RESEND_SECONDS, Assignment


class LossyLine(RuleBasedStateMachine):
    """A daemon that grants, settles and gives up, over a line that keeps the order but loses whatever it likes.

    The daemon's rules, as the protocol states them: it takes a lease that a hello does not list for one that never
    arrived, and grants its task to somebody else. So a worker must never begin a lease that is given up, and never
    forget the outcome of one that is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.granted = 0
        self.dispatched = 0
        #: on their way to the worker, in order
        self.wire: list[tuple[m.Message, tuple[Buffer, ...]]] = []
        self.held: set[LeaseId] = set()
        self.reported: set[LeaseId] = set()
        #: whose outcome is on disk
        self.on_disk: set[LeaseId] = set()
        self.begun: list[Assignment] = []
        self.line.worker.ready()
        self.line.worker.hello(self.line.now)

    def _send(self, message: m.Message, *frames: Buffer) -> None:
        self.wire.append((message, frames))

    @rule(lost=st.booleans())
    def the_daemon_hears(self, lost: bool) -> None:
        for message in self.line.said():
            if lost:
                continue
            if isinstance(message, m.WorkerHello):
                self.held &= set(message.leases)
                self.dispatched = 0
                self._send(m.Welcome(7, message.session, "svm", "process", {}))
            elif isinstance(message, m.Outcome):
                assert message.lease in self.reported
                self.on_disk.add(message.lease)

    @rule()
    def the_daemon_grants(self) -> None:
        self.granted += 1
        self.dispatched += 1
        lease = (7, self.granted)
        self.held.add(lease)
        table = pack_values([1.0])
        self._send(m.Dispatch(lease, 1, 0, 1, table.layout), *table.frames)

    @rule()
    def the_daemon_settles(self) -> None:
        settled = tuple(sorted(self.on_disk & self.held))
        self.held -= set(settled)
        self._send(m.Settled(settled, self.dispatched))

    @rule(data=st.data())
    def a_message_is_lost(self, data: st.DataObject) -> None:
        if self.wire:
            del self.wire[data.draw(st.integers(0, len(self.wire) - 1))]

    @rule()
    def the_worker_hears(self) -> None:
        for message, frames in self.wire:
            self.line.tell(message, *frames)
        self.wire.clear()

    @rule()
    def the_worker_begins(self) -> None:
        assignment = self.line.worker.begin()
        if assignment is not None:
            assert assignment.lease not in {known.lease for known in self.begun} | self.reported
            self.begun.append(assignment)

    @rule()
    def the_worker_ends_one(self) -> None:
        if self.begun:
            assignment = self.begun.pop(0)
            self.reported.add(assignment.lease)
            self.line.report(assignment)

    @rule()
    def time_passes(self) -> None:
        self.line.now += RESEND_SECONDS + 0.1
        self.line.worker.tick(self.line.now)

    @invariant()
    def no_outcome_is_forgotten_before_it_is_on_disk(self) -> None:
        assert self.reported - self.on_disk <= set(self.line.worker._unsettled)

    def teardown(self) -> None:
        """When the line is mended, they come together: every lease is evaluated or given up."""
        self.the_daemon_hears(lost=False)
        for _ in range(4):
            self._settle_and_listen()
            while self.line.worker.queue:
                self.the_worker_begins()
            while self.begun:
                self.the_worker_ends_one()
            self.time_passes()
        assert self.line.worker.idle
        assert not self.held

    def _settle_and_listen(self) -> None:
        for _ in range(2):
            self.the_daemon_settles()
            self.the_worker_hears()
            self.the_daemon_hears(lost=False)


TestLossyLine = LossyLine.TestCase
TestLossyLine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
