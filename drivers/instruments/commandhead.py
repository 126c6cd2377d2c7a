"""A head that is described by commands: set by templates, waited for by a query, read by others."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from taskmaster.bus.errors import InvalidTask
from taskmaster.drivers.instruments.commands import Commands, Line, Query, Ramp, Wait
from taskmaster.drivers.instruments.errors import DeviceError, Garbled, LinkError, Unreachable
from taskmaster.drivers.instruments.head import Head, HeadContext, wait
from taskmaster.drivers.instruments.link import Link
from taskmaster.drivers.instruments.ramps import steps
from taskmaster.drivers.instruments.replies import Choice, Number, Text

__all__ = ["CommandHead"]

#: Errors taken from an instrument's queue before it counts as endless.
_MOST_ERRORS = 64
#: Seconds that a line must have been quiet before it is confirmed that an instrument is safe.
_LONGEST_QUIET = 1.0
#: How the answer to what is set is read.
_ACKNOWLEDGED = Text()


class CommandHead(Head):
    """Evaluates by the commands of its options, see :class:`Commands`.

    Raises LinkErrors where the conversation broke off, which has closed the connection: `open` makes a new one, and so
    does `evaluate` by itself before it acts. DeviceError says that the instrument refused something.
    """

    marks_acting = True

    def __init__(self, context: HeadContext, commands: Commands | None = None, link: Link | None = None) -> None:
        """``link`` is that of another head, if both are parts of one instrument: they take turns then."""
        super().__init__(context)
        self.commands = commands or Commands.from_options(context.options, context.outputs)
        self.link = link or Link(self.commands, context.label)
        self._owns_link = link is None
        self._who = context.label
        self.takes_turns = not self._owns_link
        #: what waits look at: `stopping`, but while the instrument is made safe
        self._heeded = self.stopping
        #: the connection over which the `open` commands were sent, if they hold still
        self._ready_since: int | None = None
        #: the last values of ramped parameters that were set over that connection
        self._set_to: dict[str, float] = {}
        #: questions about what is watched
        self._watched: dict[str, Query] = {}

    # -- a head's life ------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect and identify, sending nothing that sets anything. Raises as :meth:`open` does, but no DeviceError."""
        with self._turn():
            self._connect()

    def open(self) -> None:
        """Connect, identify, send the `open` commands, arm the watchdog.

        Raises Claimed, PermissionDenied, WorkerError (a package is missing), WrongIdentity, DeviceError, LinkErrors.
        """
        with self._turn():
            self._connect()
            self._initialise()

    def identify(self) -> str:
        """The answer to the identity query, "" if there is none."""
        question = self.commands.identify
        return str(self.ask(question)) if question is not None else ""

    def evaluate(self, x: Mapping[str, Any] | None) -> dict[str, Any]:
        """Set, wait, read: the outputs by name. Raises InvalidTask, DeviceError, LinkErrors, Stopped."""
        values, messages = self._prepared(x)
        with self._turn():
            self._apply(messages, values, x)
            return self._read(values, x)

    def apply(self, x: Mapping[str, Any] | None) -> None:
        """Set and wait. Raises as `evaluate` does."""
        values, messages = self._prepared(x)
        with self._turn():
            self._apply(messages, values, x)

    def _prepared(self, x: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[tuple[Line, bytes]]]:
        """All of it is formatted before any of it is sent: what cannot be sent stops the task before it acts."""
        values = self._values(x)
        try:
            messages = [(line, line.format(values)) for line in self.commands.set]
            for query in self.commands.questions:
                query.line.format(values)
        except ValueError as error:
            raise InvalidTask(f"{self.context.label}: {error}") from error
        return values, messages

    def _apply(
        self, messages: Sequence[tuple[Line, bytes]], values: Mapping[str, Any], x: Mapping[str, Any] | None
    ) -> None:
        self._get_ready()
        for line, message in messages:
            self._set(line, message, values)
            self.between()
        if messages and self.commands.errors is not None:
            self._check_errors("set", x)
        if self.commands.wait is not None:
            self._await(self.commands.wait, values)

    @property
    def is_as_applied(self) -> bool:
        return self._ready_since == self.link.generation

    def read(self) -> dict[str, Any]:
        """The outputs as they are."""
        with self._turn():
            self._get_in_step()
            return self._read(self.commands.values, {})

    def ask(self, query: Query, values: Mapping[str, Any] | None = None) -> Any:
        """The answer to any query, for what is watched or polled; it may not act."""
        with self._turn():
            self._get_in_step()
            return self._ask(query, {**self.commands.values, **(values or {})})

    def look(self, table: Mapping[str, Any]) -> Any:
        """The answer to the query in ``table``, or what its `pattern` finds there: a number where it is one.

        Asked over the connection that there is: none is made for it. Raises LinkErrors, DeviceError where the answer
        is not what was declared.
        """
        question = table["query"]
        query = self._watched.get(question)
        if query is None:
            query = self._watched[question] = self.commands.query({"query": question, "parse": "text"})
        with self._turn():
            self._require_in_step()
            text = self._ask(query)
        return _read_watched(text, table, f"{self.context.label}: {question!r}")

    def arm_watchdog(self) -> None:
        """It is armed by `open`, at each connection."""

    def feed_watchdog(self) -> None:
        """Keep the instrument's own watchdog quiet, over the connection that there is. Raises LinkErrors."""
        watchdog = self.commands.watchdog
        if watchdog is None or (watchdog.any_command and time.monotonic() - self.link.said_at < watchdog.every):
            return
        with self._turn():
            self._require_in_step()
            for keep in watchdog.keep:
                if isinstance(keep, Line):
                    self._tell_line(keep)
                else:
                    self._ask(keep)

    def disarm_watchdog(self) -> None:
        """It is switched off by `safe`, once that is confirmed."""

    def safe(self) -> None:
        """Send the `safe` commands at once over the connection that there is, and see that they were obeyed.

        Where that cannot be seen (the instrument may be busy with a query that was given up, or gone), they are sent
        again over a new connection, once the instrument has been identified. Then, and not before, its own watchdog is
        switched off. Does not heed `stopping`. Raises DeviceError, LinkErrors and WrongIdentity if it is not known to
        be safe; call it again. (Of an instrument that can be asked nothing at all, see `Commands.shows_safe`, it is
        known only that they could be sent.)
        """
        self._ready_since = None
        with self._unstoppable(), self._turn():
            if not self.commands.safe:  # there is no state to bring it to
                if self.link.in_step:
                    self._disarm()
                return
            if not self._told_safe():
                self.link.connect(min(self.commands.timeout, _LONGEST_QUIET))
                self._have_safe()
            self._disarm()

    def close(self) -> None:
        """Disconnect, and let others have the resource. The instrument's own watchdog stays as it is."""
        if self._owns_link:
            self.link.close()

    def turn(self) -> contextlib.AbstractContextManager[None]:
        return self._turn()

    # -- being connected ----------------------------------------------------------------------------------------------

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return self.link.turn(self._heeded, self.begin_acting, self._who)

    def _connect(self) -> None:
        # On a line that carries over what was still to be said, an answer may be late by as much as it may take.
        self.link.connect(self.commands.timeout)

    def _require_in_step(self) -> None:
        """There is a connection; one on which a stop, of whichever head, has left a question open is made anew."""
        if not self.link.is_open:
            raise Unreachable(f"{self.commands.resource}: not connected")
        if not self.link.in_step:
            wait(self._heeded, 0.0, self.context.label)  # it is needed as it is for what makes this head safe
            self._connect()

    def _disarm(self) -> None:
        """It is safe already: that the instrument refuses this, or goes away now, is no reason to begin again."""
        if self.commands.watchdog is None:
            return
        try:
            for line in self.commands.watchdog.disarm:
                self._tell_line(line)
        except LinkError:
            self.link.lose()
        except DeviceError:
            pass

    def _get_in_step(self) -> None:
        self.link.get_in_step(self.commands.timeout)

    def _get_ready(self) -> None:
        """Before anything acts: in step with an instrument that is initialised, over a new connection if need be."""
        self._get_in_step()
        if self._ready_since != self.link.generation:
            self._initialise()

    def _initialise(self) -> None:
        self._ready_since = None
        self._set_to = {name: ramp.start for name, ramp in self.commands.ramps.items() if ramp.start is not None}
        for line in self.commands.open:
            self._tell_line(line)
        if self.commands.open:
            self._check_errors("open", {})
        if self.commands.watchdog is not None:
            for line in self.commands.watchdog.arm:
                self._tell_line(line)
        self._ready_since = self.link.generation

    def _told_safe(self) -> bool:
        """Whether the `safe` commands were sent over the present connection, and have arrived."""
        if not self.link.is_open:
            return False
        in_step = self.link.in_step
        try:
            # Also finds out that the instrument has hung up: the first bytes after that would seem to be sent.
            self.link.drain()
            if in_step:
                self._have_safe()
            else:  # what comes may answer what was asked before: nothing is waited for
                for line in self.commands.safe:
                    self.link.tell(line.format(self.commands.values), acts=False)
        except LinkError:
            self.link.lose()
            return False
        return in_step

    def _have_safe(self) -> None:
        """Send the `safe` commands, and ask whether they have arrived and were taken."""
        refused = self._tell_safe()
        if self.commands.errors is not None:
            # Nothing is asked before they are out: what it complains of first may be what was sent earlier.
            if self._errors():
                refused = self._tell_safe()
                refused += self._errors()
        elif self.commands.confirmation is not None:
            self._ask(self.commands.confirmation)
        if refused:
            raise DeviceError(f"{self.context.label}: after safe the instrument says {'; '.join(refused)}")

    def _tell_safe(self) -> list[str]:
        """Each of the `safe` commands, also where one before was refused; how they were."""
        refused = []
        for line in self.commands.safe:
            try:
                self._tell_line(line)
            except DeviceError as error:
                refused.append(str(error))
        return refused

    @contextmanager
    def _unstoppable(self) -> Iterator[None]:
        """Within, nothing looks at `stopping`: it may well be why the instrument is made safe."""
        self._heeded = threading.Event()
        try:
            yield
        finally:
            self._heeded = self.stopping

    # -- setting ------------------------------------------------------------------------------------------------------

    def _values(self, x: Mapping[str, Any] | None) -> dict[str, Any]:
        x = {} if x is None else x  # all that there is to say where there are no parameters
        if type(x) is not dict and not isinstance(x, Mapping):
            raise InvalidTask(f"{self.context.label}: a task is a dict of parameters, not {x!r}")
        return {**self.commands.values, **x}

    def _formatted(self, line: Line, values: Mapping[str, Any]) -> bytes:
        try:
            return line.format(values)
        except ValueError as error:
            raise InvalidTask(f"{self.context.label}: {error}") from error

    def _set(self, line: Line, message: bytes, values: Mapping[str, Any]) -> None:
        known = self.commands.ramps
        ramps = [known[name] for name in line.fields if name in known] if known else ()
        if not ramps:
            self._tell(line, message, acts=True, more=True)
            return
        start = {ramp.parameter: self._present(ramp) for ramp in ramps}
        end = {ramp.parameter: float(values[ramp.parameter]) for ramp in ramps}
        every = max(ramp.every for ramp in ramps)
        due = time.monotonic()
        for values_now in steps(start, end, {ramp.parameter: ramp.step for ramp in ramps}):
            self.sleep_until(due)
            self._tell(line, self._formatted(line, {**values, **values_now}), acts=True)
            self._set_to.update(values_now)
            due = time.monotonic() + every

    def _present(self, ramp: Ramp) -> float:
        """From where a ramp begins."""
        known = self._set_to.get(ramp.parameter)
        if known is not None:
            return known
        if ramp.query is None:
            raise DeviceError(
                f"{self.context.label}: the ramp of {ramp.parameter!r} has nowhere to begin: its present value is not "
                "known; give the ramp `query`, which asks for it, or `start`, its value after `open`"
            )
        present = float(self._ask(ramp.query))
        if not math.isfinite(present):
            raise DeviceError(
                f"{self.context.label}: the ramp of {ramp.parameter!r} cannot begin at {present}, which is what "
                f"{ramp.query.line.template.text!r} is answered with"
            )
        return present

    def _await(self, until: Wait, values: Mapping[str, Any]) -> None:
        deadline = time.monotonic() + until.timeout
        while True:
            # An answer has its own time also where that of the waiting ends meanwhile: without it nobody would know
            # where the conversation stands.
            answer_by = max(deadline, time.monotonic() + self.commands.timeout)
            answer = str(self._ask(until.query, values, answer_by))
            if until.until.fullmatch(answer):
                return
            if time.monotonic() + until.every > deadline:
                raise DeviceError(
                    f"{self.context.label}: after {until.timeout:g} s {until.query.line.template.text!r} is still "
                    f"answered with {answer!r}, not with {until.until.pattern!r}"
                )
            self.sleep(until.every)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, values: Mapping[str, Any], x: Mapping[str, Any] | None) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        for name, query in self.commands.read.items():
            outputs[name] = self._ask(query, values, output=name)
            self.between()
        if self.commands.errors is not None:
            self._check_errors("read", x)
        return outputs

    def _check_errors(self, after: str, x: Mapping[str, Any] | None) -> None:
        """Ask until there is no error any more. Raises DeviceError with all of them."""
        if self.commands.errors is None:
            return
        if errors := self._errors():
            of = f" of {dict(x)!r}" if x else ""
            raise DeviceError(f"{self.context.label}: after {after}{of} the instrument says {'; '.join(errors)}")

    def _errors(self) -> list[str]:
        """All that the instrument has to complain of; it has told it then."""
        queue = self.commands.errors
        errors: list[str] = []
        mistaken = ""
        while queue is not None and not queue.ok.fullmatch(said := str(self._ask(queue.query))):
            if errors[-1:] == [said] and (mistaken := queue.mistaken(said)):
                break
            errors.append(said)
            if len(errors) == _MOST_ERRORS:
                break
        return [*_counted(errors), *([mistaken] if mistaken else [])]

    # -- one exchange -------------------------------------------------------------------------------------------------

    def _ask(
        self, query: Query, values: Mapping[str, Any] | None = None, deadline: float | None = None, output: str = ""
    ) -> Any:
        values = self.commands.values if values is None else values
        message = query.line.fixed or self._formatted(query.line, values)
        return self.link.ask(message, query.reply, values, deadline=deadline, output=output)

    def _tell_line(self, line: Line) -> None:
        """A line that is the same for every task, and not part of one."""
        self._tell(line, line.format(self.commands.values), acts=False)

    def _tell(self, line: Line, message: bytes, *, acts: bool, more: bool = False) -> None:
        """``more``: it may go out with what follows at once."""
        if line.answer is None:
            self.link.tell(message, acts=acts, more=more and not line.delay)
        else:
            said = self.link.ask(message, _ACKNOWLEDGED, acts=acts)
            if line.answer.fullmatch(said) is None:
                raise DeviceError(
                    f"{self.context.label}: {message.decode()!r} is answered with {said!r}, not with "
                    f"{line.answer.pattern!r}"
                )
        if line.delay:
            self._sleep(line.delay)

    def _sleep(self, seconds: float) -> None:
        wait(self._heeded, seconds, self.context.label)


def _counted(errors: Sequence[str]) -> Iterator[str]:
    """Each once, with how often it came in a row."""
    for error, alike in itertools.groupby(errors):
        times = sum(1 for _ in alike)
        yield error if times == 1 else f"{error} ({times} times)"


def _read_watched(text: str, table: Mapping[str, Any], question: str) -> Any:
    """What is in an answer that is watched. The conversation is in step, whatever that is. Raises DeviceError."""
    data, equals = text.encode(), table.get("equals")
    pattern = re.compile(table["pattern"]) if table.get("pattern") else None
    try:
        if isinstance(equals, bool):
            return Choice(pattern).parse(data)
        found = Text(pattern).parse(data)
    except Garbled as error:
        raise DeviceError(f"{question}: {error}") from error
    if isinstance(equals, str):
        return found
    try:
        return Number().parse(found.encode())
    except Garbled:
        return found
