"""Clients: the real client core, in the hands of simulated learners and people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulation import tasks
from simulation.checker import CancelRequest, Follower, Violation
from simulation.network import Dealer, Subscriber
from taskmaster.bus import messages as m
from taskmaster.bus.errors import (
    Conflict,
    DiskFull,
    Fenced,
    Full,
    NotAllowed,
    RunClosed,
    TaskMasterError,
    UnknownRun,
    UnknownTask,
)
from taskmaster.bus.status import RequestInfo
from taskmaster.learners.core import ClientCore, Request
from taskmaster.learners.runcore import RunCore

if TYPE_CHECKING:
    from simulation.ledger import Book
    from simulation.world import World

__all__ = ["SimClient"]

_TICK = 1.0


class SimClient:
    """A program connected to the daemon: writes to a run, or watches it, and meddles with it at times."""

    def __init__(self, world: World, name: str, master: str, run: str, *, writes: bool, since: str) -> None:
        self.world = world
        self.name = name
        self.master = master
        self.run_name = run
        self.writes = writes
        self.since = since
        self.alive = True
        #: no new wishes: only what is under way is brought to its end
        self.calm = False
        self.core = ClientCore("simulated")
        self.run: RunCore | None = None
        self.follower: Follower | None = None
        self.errors: list[TaskMasterError] = []
        self._opening = False
        self._closing = False
        self._opens = 0
        self._puts: dict[int, int] = {}
        #: the request that its user has taken, and how often they have wished for one
        self._in_hand: RequestInfo | None = None
        self._claims = 0
        self._acknowledged = 0
        self._waiting: list[tuple[Request, Callable[[Any], None], Callable[[TaskMasterError], None]]] = []
        self._results: Subscriber | None = None
        self._far = world.rng.random() < 0.5
        self._control = Dealer(world.network, name, "control", self._on_control, far=self._far)
        self._describe = self._request(m.Describe(0, m.PROTOCOL_VERSION), self._described)
        world.agenda.after(world.rng.random(), self._tick)
        world.agenda.after(world.rng.random() * 0.5, self._act)

    # -- plumbing, as `learners.channel` does it ----------------------------------------------------------------------

    def _on_control(self, frames: list[bytes]) -> None:
        if self.alive:
            self.core.on_control(frames, self.world.agenda.now)
            self._after()

    def _on_results(self, frames: list[bytes]) -> None:
        if self.alive:
            self.core.on_publication(frames, self.world.agenda.now)
            self._after()

    def _tick(self) -> None:
        if self.alive:
            self.world.agenda.after(_TICK, self._tick)
            self.core.on_tick(self.world.agenda.now)
            self._after()

    def _after(self) -> None:
        """Something may have changed: send, note what was acknowledged, go on with what was waited for."""
        if self.core.dropped:
            raise Violation(f"{self.name} could not read what the daemon sent")
        self._flush()
        run = self.run
        if run is not None and self.writes:
            for index in range(self._acknowledged, run.acknowledged):
                n = self._puts.get(index)
                if n is not None:
                    self.world.checker.acknowledged(self.name, run.id, index, n)
            self._acknowledged = max(self._acknowledged, run.acknowledged)
        if any(request.answered for request, _, _ in self._waiting):
            answered = [entry for entry in self._waiting if entry[0].answered]
            self._waiting = [entry for entry in self._waiting if not entry[0].answered]
            for request, then, failed in answered:
                if request.error is None:
                    then(request.reply)
                else:
                    failed(request.error)
            self._flush()

    def _flush(self) -> None:
        outbox, subscriptions = self.core.outbox, self.core.subscriptions
        while subscriptions and self._results is not None:
            on, topic = subscriptions.popleft()
            (self._results.subscribe if on else self._results.unsubscribe)(topic)
        while outbox:
            self._control.send(outbox.popleft())

    def _request(
        self,
        message: m.ClientMessage,
        then: Callable[[Any], None] = lambda reply: None,
        failed: Callable[[TaskMasterError], None] | None = None,
        frames: Any = (),
    ) -> Request:
        request = self.core.request(message, self.world.agenda.now, frames)
        self.world.note("{} asks {}", self.name, message)
        self._waiting.append((request, then, failed or self._unexpected))
        self._flush()
        return request

    def _unexpected(self, error: TaskMasterError) -> None:
        raise Violation(f"{self.name} was answered {type(error).__name__}: {error}")

    def _tolerate(self, *kinds: type[TaskMasterError]) -> Callable[[TaskMasterError], None]:
        def check(error: TaskMasterError) -> None:
            if not isinstance(error, kinds):
                self._unexpected(error)

        return check

    # -- opening ------------------------------------------------------------------------------------------------------

    def _described(self, reply: m.Described) -> None:
        if self._results is None:
            self._results = Subscriber(self.world.network, self.name, self._on_results, far=self._far)
        self._open()

    def _open(self) -> None:
        self._opening = True
        self._opens += 1
        claim = f"{self.name}/{self._opens}" if self.writes else ""
        message = m.Open(0, self.master, self.run_name, write=self.writes, create=self.writes, claim=claim)
        self._request(message, self._opened, self._not_opened)

    def _not_opened(self, error: TaskMasterError) -> None:
        self._tolerate(UnknownRun)(error)  # a watcher came too early
        self._opening = False

    def _opened(self, opened: m.Opened) -> None:
        self._opening = False
        run = self.run = self.core.opened(opened, write=self.writes, since=self.since)
        self._puts.clear()
        self._acknowledged = run.acknowledged
        self.follower = Follower(self.name, run.id, run.told, self.writes)
        self.world.opened(self, opened)
        self._flush()

    def restless(self) -> str:
        """What is under way, or has not arrived; empty if nothing."""
        run, ledger = self.run, self.world.checker.ledger
        if not self.alive:
            return ""
        if run is None:
            exists = ledger.by_name(self.master, self.run_name) is not None
            return "has no run" if self.writes or exists else ""
        book = ledger.books.get(run.id)
        if book is None:
            return ""
        if self._waiting:
            return f"waits for {[type(request.message).__name__ for request, _, _ in self._waiting]}"
        if not run.is_settled:
            return f"has {run.acknowledged} tasks acknowledged of {run.next_index}"
        if run.next_seq < len(book.events) or run.chunks:
            return f"was told {run.next_seq} events of {len(book.events)}, took {run.told + 1}"
        return ""

    # -- what it does -------------------------------------------------------------------------------------------------

    def _act(self) -> None:
        """One thing after the other, at its user's pace."""
        if not self.alive:
            return
        world = self.world
        world.agenda.after(world.rng.expovariate(2.0 if self.calm else world.pace), self._act)
        run = self.run
        if run is None:
            if not self._opening and self.core.described is not None and not self._closing:
                self._open()
            return
        self.take()
        if run.error is not None:
            self._give_up(run.error)
        elif not self.calm:
            self._wish(run)
        self._after()

    def _wish(self, run: RunCore) -> None:
        rng = self.world.rng
        if self.writes and not self._closing and run.has_room and rng.random() < 0.6:
            self._put(run)
        if rng.random() < self.world.meddling:
            rng.choice(self._wishes())(run)

    def _wishes(self) -> list[Callable[[RunCore], None]]:
        wishes: list[Callable[[RunCore], None]] = [
            self._pause,
            self._prioritise,
            self._look,
            self._scale,
            self._resolve,
            self._resolve,
            self._detach,
            self._delete,
        ]
        if self.world.specs[self.master].approval:
            wishes += [self._decide] * 6
        if self.world.specs[self.master].people:
            wishes = [*filter(lambda wish: wish != self._scale, wishes), *[self._work] * 12]
        return [*wishes, self._cancel, self._cancel, self._close] if self.writes else wishes

    def _put(self, run: RunCore) -> None:
        world, now = self.world, self.world.agenda.now
        declared = bool(world.specs[self.master].parameters)
        many = world.rng.random() < 0.3
        numbers = [world.next_task() for _ in range(world.rng.choice((1, 1, 2, 3, 20) if many else (1, 1, 1, 4)))]
        points = [tasks.point(n, declared=declared) for n in numbers]
        # Noted first: an acknowledgement can come with the put itself.
        self._puts.update(zip(range(run.next_index, run.next_index + len(numbers)), numbers))
        if many:
            indices = list(run.put_many(points, now))
        else:
            indices = [run.put(point, now) for point in points]
        world.note("{} puts tasks {} as {}", self.name, numbers, indices)
        if [self._puts.get(index) for index in indices] != numbers:
            raise Violation(f"{self.name} put {numbers} and got the indices {indices}")

    def take(self) -> None:
        """Take the results that have arrived, or some of them."""
        run, follower = self.run, self.follower
        if run is None or follower is None:
            return
        while self.calm or self.world.rng.random() < 0.9:
            result = run.take()
            if result is None:
                return
            self.world.checker.delivered(follower, result)

    def _give_up(self, error: TaskMasterError) -> None:
        """The run cannot be written to any more from here: leave it, and perhaps open it again."""
        self.world.gave_up(self, error)
        self.errors.append(error)
        self._leave()

    def _leave(self) -> None:
        run, self.run, self.follower = self.run, None, None
        if run is not None:
            self.core.forget(run)
            self._flush()

    def _book(self) -> Book | None:
        return self.world.checker.ledger.books.get(self.run.id) if self.run is not None else None

    def _detach(self, run: RunCore) -> None:
        if not self._waiting and run.is_settled:
            self._leave()

    def _cancel(self, run: RunCore) -> None:
        if not run.is_settled or not run.next_index:
            return
        rng = self.world.rng
        intervals = ((0, run.next_index),)
        if rng.random() < 0.7:
            low = max(0, run.next_index - rng.randrange(1, 30))
            intervals = ((low, min(run.next_index, low + rng.randrange(1, 10))),)
        wish = CancelRequest(run.id, intervals)
        self.world.checker.cancels.add(wish)

        def done(_: object) -> None:
            self.world.checker.cancels.discard(wish)

        self._request(m.Cancel(0, run.id, intervals), done, self._tolerate(UnknownRun))

    def _pause(self, run: RunCore) -> None:
        whole = None if self.world.rng.random() < 0.3 else run.id
        self._request(m.Pause(0, self.master, whole), failed=self._tolerate(UnknownRun))
        self.world.agenda.after(self.world.rng.random() * 3, self._resume, whole)

    def _resume(self, whole: int | None) -> None:
        if self.alive:
            self._request(m.Resume(0, self.master, whole), failed=self._tolerate(UnknownRun))

    def _prioritise(self, run: RunCore) -> None:
        self._request(m.Prioritise(0, run.id, self.world.rng.randrange(-1, 3)), failed=self._tolerate(UnknownRun))

    def _look(self, run: RunCore) -> None:
        rng = self.world.rng
        message: m.ClientMessage = m.ListRuns(0, self.master) if rng.random() < 0.5 else m.Status(0)
        self._request(message)

    def _scale(self, run: RunCore) -> None:
        self._request(m.SetWorkers(0, self.master, self.world.rng.randrange(0, 4)))

    def _resolve(self, run: RunCore) -> None:
        """Be the operator: say what is to become of a task in doubt."""
        book = self._book()
        held = [index for index, state in enumerate(book.states) if state == "held"] if book is not None else []
        if held and book is not None:
            self.resolve(book, self.world.rng.choice(held), self.world.rng.choice(("retry", "retry", "fail", "done")))

    def resolve(self, book: Book, index: int, action: str) -> None:
        """Ask for one held task to be resolved."""
        n = book.tasks[index]
        checker, layout, frames = self.world.checker, None, ()
        if action == "retry":
            checker.approved(book.run, index)
        else:
            checker.entered(book.run, n)
        if action == "done":
            schema = self.world.specs[self.master].outputs
            value = tasks.verdict(n, declared=bool(schema))
            table = schema.pack_points({"z": [value]}) if schema else self.world.bare(value)
            layout, frames = table.layout, tuple(table.frames)  # type: ignore[assignment]
        attempt = next(e.attempt for e in reversed(book.events) if (e.kind, e.index) == ("held", index))
        self._request(
            m.Resolve(0, book.run, index, action, layout, "said so", attempt),
            failed=self._tolerate(UnknownTask, UnknownRun),
            frames=frames,
        )

    def _decide(self, run: RunCore) -> None:
        """Be whoever approves: say so of some of the tasks that wait for it, or edit one first."""
        book, rng = self._book(), self.world.rng
        if book is None or not book.proposed:
            return
        index = rng.choice(sorted(book.proposed))
        if rng.random() < 0.3:
            self._edit(book, index)
            return
        intervals = ((index, index + rng.choice((1, 1, 5))),)
        kind = m.Reject if rng.random() < 0.2 else m.Approve
        self._request(kind(0, book.run, intervals, "seen"), failed=self._tolerate(UnknownRun))

    def _work(self, run: RunCore) -> None:
        """Be somebody who answers requests: take one, answer it, or give it back; too late at times."""
        rng = self.world.rng
        if self._in_hand is None:
            self._claims += 1
            seconds = rng.choice((None, 0.2, 1.0))
            wish = m.Claim(0, self.master, f"{self.name}/{self._claims}", None, None, seconds, self.name)
            self._request(wish, self._claimed, self._tolerate(Full, NotAllowed))
            return
        request, self._in_hand = self._in_hand, None
        if rng.random() < 0.2:
            release = m.Release(0, request.run, request.index, request.claim)
            self._request(release, failed=self._tolerate(UnknownRun))
            return
        book = self.world.checker.ledger.books.get(request.run)
        if book is not None:
            self._answer(book, request.index, request.claim)

    def _claimed(self, reply: m.Claimed) -> None:
        self._in_hand = reply.request

    def answer_all(self, book: Book) -> None:
        """Answer whatever waits, as far as nobody has taken it."""
        if self.world.specs[self.master].people:
            for index, state in enumerate(book.states):
                if state == "open" and index not in book.proposed:
                    self._answer(book, index, "")

    def _answer(self, book: Book, index: int, claim: str) -> None:
        n, schema = book.tasks[index], self.world.specs[self.master].outputs
        self.world.checker.answered(book.run, n, self.name)
        layout, frames, reason = None, (), ""
        if tasks.fails(n):
            reason = "it is gone"
        else:
            value = tasks.output(n, declared=bool(schema))
            table = schema.pack_points({"z": [value]}) if schema else self.world.bare(value)
            layout, frames = table.layout, tuple(table.frames)  # type: ignore[assignment]

        def taken(_: object) -> None:
            self.world.checker.answer_taken(book, index, self.name)

        self._request(
            m.Answer(0, book.run, index, layout, reason, claim, self.name),
            taken,
            self._tolerate(UnknownTask, UnknownRun, Conflict, NotAllowed),
            frames,
        )

    def approve(self, book: Book) -> None:
        """Approve all that waits for it."""
        if book.proposed:
            self._request(m.Approve(0, book.run, ((0, len(book.tasks)),)), failed=self._tolerate(UnknownRun))

    def _edit(self, book: Book, index: int) -> None:
        spec = self.world.specs[self.master]
        point = tasks.point(self.world.next_task(), declared=bool(spec.parameters))
        table = spec.parameters.pack_points([point]) if spec.parameters else self.world.bare(point)
        self._request(
            m.Edit(0, book.run, index, table.layout, self.world.rng.choice((0, 0, 1))),
            failed=self._tolerate(UnknownTask, UnknownRun, Conflict),
            frames=tuple(table.frames),
        )

    def _close(self, run: RunCore) -> None:
        if not run.is_settled:
            return
        self._closing = True

        def closed(_: object) -> None:
            self._closing = False
            self._leave()

        def failed(error: TaskMasterError) -> None:
            self._closing = False
            self._tolerate(Fenced, UnknownRun)(error)

        self._request(m.Close(0, run.id, run.writer), closed, failed)

    def _delete(self, run: RunCore) -> None:
        book = self._book()
        if book is None or book.open_tasks or not run.is_settled or self.world.rng.random() < 0.3:
            return
        self._request(m.Delete(0, run.id), failed=lambda error: None)

    def die(self) -> None:
        """The program is killed."""
        if self.alive:
            self.alive = False
            self._control.close()
            if self._results is not None:
                self._results.close()


#: What a run may be refused with although nobody has done anything wrong.
EXPECTED = (Fenced, RunClosed, UnknownRun, DiskFull)
