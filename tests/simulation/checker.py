"""What the system promises, checked at the moment it would be broken.

- *Nothing leaves before it is on disk*: each message the daemon sends is held against the ledger of what was committed.
- *No invented outcome*: an output on disk was computed by the worker that it names, from that very input.
- *Acknowledged is taken for good*: what a client was told is taken is in the journal under that index, then and later.
- *Every event once, in order, as it is on disk*, to every client that follows a run.
- *Approval*: what waits for it is not evaluated; what was edited is evaluated, and told to everybody, as it was edited.
- *Fencing*: only the newest writer's tasks get in.
- *How often a task is evaluated*. Not repeatable (an instrument's, or of a Master that allows one attempt): once, and
  once more for each retry that an operator has asked for; this holds whatever happens. Repeatable: ``max_attempts``
  times, plus once for each time that it was taken back from a worker that may have begun it (a Revoke), plus once for
  each death of the daemon since it was first dispatched.
  The last is the price of not writing down leases that live for milliseconds (`Master.record_leases`): a task whose
  lease is not on disk is granted anew after a restart, without being charged for what its former worker did with it.
- *Liveness*: once the faults have stopped, all of it ends (`World.settle`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulation import tasks
from simulation.ledger import Book, Event, Ledger, Violation, expand, require
from taskmaster.bus import codec, messages as m
from taskmaster.bus.joining import parts
from taskmaster.bus.messages import LeaseId
from taskmaster.bus.table import Buffer
from taskmaster.daemon import effects as e
from taskmaster.daemon.master import MasterSpec
from taskmaster.learners.results import Result

__all__ = ["Checker", "Follower", "Violation"]


@dataclass
class Follower:
    """One client following one run: what it was told last."""

    who: str
    run: int
    told: int
    writes: bool


@dataclass(eq=False)
class CancelRequest:
    """Somebody wants tasks of a run cancelled (None: all), and has no answer yet."""

    run: int
    intervals: Sequence[tuple[int, int]] | None

    def covers(self, index: int) -> bool:
        return self.intervals is None or any(low <= index < high for low, high in self.intervals)


@dataclass
class History:
    """What happened to one task on the way."""

    dispatched_at_death: int
    started: int = 0
    #: number of the attempt that its latest lease was
    attempt: int = 0
    #: it was granted to a worker elsewhere, or there was a power cut: how far that had come may not be known
    went_far: bool = False
    #: names of workers that have finished evaluating it, and whether it raised there
    finished: dict[str, bool] = field(default_factory=dict)


class Checker:
    """Sees everything. Raises Violation."""

    def __init__(self, specs: dict[str, MasterSpec]) -> None:
        self.specs = specs
        self.ledger = Ledger()
        self.deaths = 0
        self.epoch = 0
        self.executions = 0
        self.deliveries = 0
        self.cancels: set[CancelRequest] = set()
        self._histories: dict[int, History] = {}
        self._evaluated: Counter[tuple[int, int]] = Counter()
        self._approved: Counter[tuple[int, int]] = Counter()
        self._entered: set[tuple[int, int]] = set()
        self._answers: set[tuple[int, int, str]] = set()
        self._revoked: Counter[int] = Counter()
        #: leases of which outcomes were heard in this turn and are not on disk yet
        self._outcomes: set[LeaseId] = set()
        self._dispatched: dict[LeaseId, tuple[int, Sequence[int]]] = {}
        self._submitted: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        self._promised: dict[tuple[int, int], int] = {}
        self._from_client = codec.client_decoder()
        self._from_worker = codec.worker_decoder()
        self._to_client = codec.daemon_decoder()
        self._published = codec.publication_decoder()
        self._to_worker: codec.Decoder[m.ToWorker | m.ToHost] = codec.Decoder(m.ToWorker | m.ToHost)

    def book(self, run: int) -> Book:
        """A run that is on disk, or was."""
        book = self.ledger.books.get(run) or next((b for b in self.ledger.deleted if b.run == run), None)
        if book is None:
            raise Violation(f"run {run} is spoken of and is not on disk")
        return book

    # -- the journal --------------------------------------------------------------------------------------------------

    def committed(self, records: Sequence[e.Record]) -> None:
        """A transaction is on disk."""
        self._outcomes.clear()
        writers = {run: book.writer for run, book in self.ledger.books.items()}
        for record in records:
            if isinstance(record, e.AttemptsCharged):
                self._check_charge(record)
            elif isinstance(record, e.WriterChanged):
                writers[record.run] = record.writer
            elif isinstance(record, e.BlockAppended):
                self._check_writer(record, writers[record.run])
        for book, event in self.ledger.apply(records):
            self._check_event(book, event)
        for record in records:
            if isinstance(record, e.LeaseGranted) and not record.local:
                for n in self.book(record.run).tasks[record.first : record.first + record.n]:
                    self._history(n).went_far = True

    def _check_charge(self, record: e.AttemptsCharged) -> None:
        book = self.book(record.run)
        spec = self.specs[book.master]
        require(
            spec.on_lost != "retry" or record.attempts < spec.max_attempts,
            "run {}: task {} has {} attempts of {}",
            record.run,
            record.first,
            record.attempts,
            spec.max_attempts,
        )
        for index in range(record.first, min(record.last, len(book.tasks))):
            history = self._history(book.tasks[index])
            require(
                history.went_far or record.attempts <= history.started,
                "run {}: task {} is charged {} attempts, it was begun {} times",
                record.run,
                index,
                record.attempts,
                history.started,
            )

    def _check_writer(self, record: e.BlockAppended, writer: int) -> None:
        strangers = set(map(tasks.number, record.table.rows())) - self._submitted[record.run, writer]
        require(not strangers, "run {}: tasks {} did not come from writer {}", record.run, strangers, writer)

    def _check_event(self, book: Book, event: Event) -> None:
        if event.kind in ("closed", "reopened"):
            return
        n = book.tasks[event.index]
        declared = bool(self.specs[book.master].outputs)
        if event.kind == "done" and (book.run, n) in self._entered and event.worker == "local":
            require(event.output == tasks.verdict(n, declared=declared), "task {} was resolved as {}", n, event.output)
        elif event.kind == "done" and event.worker.startswith("human:"):
            self._check_answer(book, event, n)
            require(event.output == tasks.output(n, declared=declared), "task {} is {!r} by hand", n, event.output)
        elif event.kind == "done":
            self._check_attempt(book, event, n)
            require(
                self._history(n).finished.get(event.worker) is False,
                "task {} was not evaluated by {!r}, whose output {!r} is on disk",
                n,
                event.worker,
                event.output,
            )
            require(
                event.output == tasks.output(n, declared=declared), "the output of task {} is {!r}", n, event.output
            )
        elif event.kind == "failed":
            self._check_failure(book, event, n)
        elif event.kind == "cancelled":
            asked = any(request.run == book.run and request.covers(event.index) for request in self.cancels)
            require(asked, "run {}: task {} is cancelled, and nobody waits for that", book.run, event.index)
        elif event.kind == "held":
            require(self.specs[book.master].on_lost == "hold", "run {}: task {} is held", book.run, event.index)
        elif event.kind == "released":
            require(self._approved[book.run, event.index] > 0, "run {}: nobody released {}", book.run, event.index)

    def _check_answer(self, book: Book, event: Event, n: int) -> None:
        require(
            (book.run, n, event.worker.removeprefix("human:")) in self._answers and event.index not in book.proposed,
            "run {}: task {} has an outcome by {}, who has not answered it",
            book.run,
            event.index,
            event.worker,
        )

    def _check_attempt(self, book: Book, event: Event, n: int) -> None:
        latest = self._history(n).attempt
        require(
            event.attempt == latest,
            "run {}: task {} ends with attempt {}, its latest lease was attempt {}",
            book.run,
            event.index,
            event.attempt,
            latest,
        )

    def _check_failure(self, book: Book, event: Event, n: int) -> None:
        spec, history = self.specs[book.master], self._history(n)
        if event.error == "ValueError":
            self._check_attempt(book, event, n)
            require(history.finished.get(event.worker) is True, "task {} did not fail at {}", n, event.worker)
        elif event.error == "CannotBeDone":
            self._check_answer(book, event, n)
        elif event.error == "Rejected":
            require(event.index in book.rejected, "run {}: nobody has rejected task {}", book.run, event.index)
        elif event.error == "Resolved":
            require((book.run, n) in self._entered, "task {} of run {} was not resolved", n, book.run)
        else:
            used = book.attempts.get(event.index, 0) + 1
            require(
                spec.on_lost == "fail" or used == spec.max_attempts, "task {} was given up after {} attempts", n, used
            )
            require(
                history.went_far or used <= history.started,
                "task {} was given up after {} attempts, it was begun {} times",
                n,
                used,
                history.started,
            )

    # -- what the daemon hears and says -------------------------------------------------------------------------------

    def turn_begins(self) -> None:
        """What was heard before is on disk, or was not wanted."""
        self._outcomes.clear()

    def heard(self, socket: str, header: bytes, frames: Sequence[bytes]) -> None:
        """A message that the daemon has taken from one of its sockets."""
        if socket == "workers":
            said = self._from_worker.decode(header)
            if isinstance(said, m.Outcome):
                self._outcomes.add(said.lease)
            return
        message = self._from_client.decode(header)
        if isinstance(message, m.Submit):
            table = codec.table_of(message.layout, message.n, frames)
            if table is not None:
                self._submitted[message.run, message.writer].update(map(tasks.number, table.rows()))

    def said(self, socket: str, frames: Sequence[Buffer], *, far: bool) -> None:
        """A message has left the daemon, perhaps to another machine."""
        if socket == "control":
            self._said_to_client(self._to_client.decode(frames[0]), frames[1:])
        elif socket == "results":
            self._said_to_all(self._published.decode(frames[0]), frames[1:])
        else:
            message = self._to_worker.decode(frames[0])
            if isinstance(message, m.Several):
                for part in parts(message, frames[1:]):
                    self.said(socket, part, far=far)
            elif isinstance(message, m.Dispatch):
                self._said_dispatch(message, frames[1:], far=far)
            elif isinstance(message, m.Revoke):
                numbers = self._dispatched[message.lease][1]
                for low, high in message.intervals:
                    self._revoked.update(numbers[low:high])

    def _said_to_client(self, message: m.DaemonMessage, frames: Sequence[Buffer]) -> None:
        match message:
            case m.Ack():
                self._check_end(message.run, message.next_index, 0)
            case m.Opened():
                self._check_end(message.run, message.next_index, message.next_seq)
                require(message.writer <= self.book(message.run).writer, "writer {} is not on disk", message.writer)
            case m.Pong() if message.next_index or message.next_seq:
                require(message.epoch == self.epoch, "epoch {} speaks in epoch {}", message.epoch, self.epoch)
            case m.Page():
                self._check_end(message.run, 0, message.next_seq)
                self._check_events(message.run, message.events, frames)
            case _:
                pass

    def _said_to_all(self, message: m.Publication, frames: Sequence[Buffer]) -> None:
        if isinstance(message, m.Events):
            self._check_end(message.run, message.next_index, 0)
            self._check_events(message.run, message.events, frames)
        elif isinstance(message, m.Beacon):
            self._check_end(message.run, 0, message.next_seq)

    def _check_end(self, run: int, next_index: int, next_seq: int) -> None:
        book = self.book(run)
        require(
            next_index <= len(book.tasks),
            "run {}: {} tasks are acknowledged, {} are on disk",
            run,
            next_index,
            len(book.tasks),
        )
        require(
            next_seq <= len(book.events), "run {}: told of {} events, {} are on disk", run, next_seq, len(book.events)
        )

    def _check_events(self, run: int, heads: Sequence[m.EventHead], frames: Sequence[Buffer]) -> None:
        book = self.book(run)
        at = 0
        for head in heads:
            own = frames[at : at + head.frames]
            at += head.frames
            recorded = book.events[head.seq : head.seq + head.n]
            require(
                expand(head, own) == recorded,
                "run {}: event {} is sent as {}, on disk is {}",
                run,
                head.seq,
                head,
                recorded,
            )
            inputs = codec.event_tables(head, own)[2]
            if inputs is not None:
                sent = list(map(tasks.number, inputs.rows()))
                require(
                    sent == book.tasks[head.first : head.first + head.n],
                    "run {}: event {} comes with inputs {}",
                    run,
                    head.seq,
                    sent,
                )

    def _said_dispatch(self, message: m.Dispatch, frames: Sequence[Buffer], *, far: bool) -> None:
        table = codec.table_of(message.layout, message.n, frames)
        assert table is not None
        numbers = list(map(tasks.number, table.rows()))
        self._dispatched[message.lease] = (message.run, numbers)
        for n in numbers:
            history = self._history(n)
            history.attempt = message.attempt
            history.went_far |= far
        book = self.ledger.books.get(message.run)
        if book is None or message.first >= len(book.tasks):
            # Before the commit of its submission; only where that is allowed, see `begun`.
            known = self.ledger.books.get(message.run)
            approval = known is not None and self.specs[known.master].approval
            require(not approval, "tasks {} are dispatched before anybody has approved them", numbers)
            early = self._outcomes & set(message.settled)
            require(not early, "the outcomes of leases {} are settled and not on disk", early)
            return
        indices = range(message.first, message.first + message.n)
        spec = self.specs[book.master]
        require(numbers == [book.tasks[i] for i in indices], "run {}: dispatched {} as {}", book.run, indices, numbers)
        require(
            all(book.states[i] == "open" for i in indices), "run {}: {} is dispatched and not open", book.run, indices
        )
        require(not book.proposed & set(indices), "run {}: {} is dispatched and not approved", book.run, indices)
        require(
            not book.paused and not self.ledger.paused.get(book.master, False),
            "run {} is paused, {} is dispatched",
            book.run,
            indices,
        )
        if not spec.repeatable:
            require(message.lease in self.ledger.leases, "lease {} is not on disk", message.lease)

    def progress_lost(self) -> None:
        """Nobody will ever know how far the workers of a daemon had come."""
        for book in self.ledger.books.values():
            for n, state in zip(book.tasks, book.states):
                if state == "open":
                    self._history(n).went_far = True

    # -- workers ------------------------------------------------------------------------------------------------------

    def begun(self, spec: MasterSpec, run: int, index: int, n: int) -> None:
        """A worker begins to evaluate a task."""
        self.executions += 1
        history = self._history(n)
        history.started += 1
        if spec.repeatable:
            allowed = spec.max_attempts + self._revoked[n] + self.deaths - history.dispatched_at_death
            require(
                history.started <= allowed,
                "run {}: task {} is evaluated for the {}. time, at most {} are allowed",
                run,
                index,
                history.started,
                allowed,
            )
            return
        require(index < len(self.book(run).tasks), "task {} of run {} is evaluated and not on disk", index, run)
        self._evaluated[run, index] += 1
        allowed = 1 + self._approved[run, index]
        require(
            self._evaluated[run, index] <= allowed,
            "run {}: task {}, which is not repeatable, is evaluated for the {}. time, {} are allowed",
            run,
            index,
            self._evaluated[run, index],
            allowed,
        )

    def finished(self, worker: str, n: int, *, failed: bool) -> None:
        """A worker has evaluated a task to its end."""
        self._history(n).finished[worker] = failed

    def _history(self, n: int) -> History:
        return self._histories.setdefault(n, History(self.deaths))

    # -- people and learners ------------------------------------------------------------------------------------------

    def approved(self, run: int, index: int) -> None:
        """An operator asks, for the first time and in so many words, for a held task to be evaluated again."""
        self._approved[run, index] += 1

    def entered(self, run: int, n: int) -> None:
        """An operator resolves a held task by hand."""
        self._entered.add((run, n))

    def answered(self, run: int, n: int, who: str) -> None:
        """Somebody answers a request."""
        self._answers.add((run, n, who))

    def answer_taken(self, book: Book, index: int, who: str) -> None:
        """The daemon has told somebody that their answer is taken."""
        workers = [event.worker for event in book.events if event.index == index and event.kind in ("done", "failed")]
        require(workers == [f"human:{who}"], "the answer of {} to task {} was not taken: {}", who, index, workers)

    def acknowledged(self, who: str, run: int, index: int, n: int) -> None:
        """A client has been told that its task ``n`` is on disk as task ``index`` of a run."""
        book = self.book(run)
        require(
            index < len(book.put) and book.put[index] == n,
            "{} was told that its task {} is task {} of run {}, which is {}",
            who,
            n,
            index,
            run,
            book.put[index] if index < len(book.put) else "missing",
        )
        self._promised[run, index] = n

    def delivered(self, follower: Follower, result: Result) -> None:
        """A client takes a result."""
        self.deliveries += 1
        book = self.book(follower.run)
        require(
            follower.told < result.seq < len(book.events),
            "{} takes event {} after {}",
            follower.who,
            result.seq,
            follower.told,
        )
        passed = [event.kind for event in book.events[follower.told + 1 : result.seq]]
        require(
            not {"done", "failed", "cancelled"} & set(passed),
            "{} takes event {} after {}",
            follower.who,
            result.seq,
            follower.told,
        )
        follower.told = result.seq
        event = book.events[result.seq]
        require(
            (result.outcome, result.index) == (event.kind, event.index),
            "{} takes {} for {}",
            follower.who,
            result,
            event,
        )
        if event.kind == "done":
            require(result.output == event.output, "{} takes output {!r} for {}", follower.who, result.output, event)
        n = tasks.number(result.input)
        require(
            n == book.tasks[event.index],
            "{} takes the outcome of task {} for that of {}",
            follower.who,
            book.tasks[event.index],
            n,
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """What is on disk and has not ended, where nobody has to be asked first."""
        return [
            f"task {index} of run {book.run} is open"
            for book in self.ledger.books.values()
            for index, state in enumerate(book.states)
            if state == "open"
        ]

    def at_rest(self) -> None:
        """Everything is quiet: all that was promised is there."""
        for (run, index), n in self._promised.items():
            book = self.book(run)
            require(
                book.put[index] == n,
                "run {}: task {} was acknowledged as {} and is {}",
                run,
                index,
                n,
                book.put[index],
            )
            require(book.states[index] != "open", "run {}: task {} never ended", run, index)
