"""What people do through a client, as messages: take requests and answer them, decide on proposed tasks.

The blocking and the asyncio client differ in how they wait for the answers to these, and in nothing else.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, InvalidOutput, InvalidTask, ProtocolError, UnknownTask
from taskmaster.bus.fields import Schema, shown
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.status import ProposedTask, RequestInfo
from taskmaster.bus.table import Buffer, Table, pack_values
from taskmaster.bus.wire import MOST_INTERVALS
from taskmaster.learners.arguments import LARGEST, Whole, duration, text, whole, wholes
from taskmaster.learners.core import ClientCore

__all__ = ["Editing", "Request", "Said", "answer_message", "claim_message", "decisions", "login", "pack_output"]

#: A request: as it was listed or taken, or the number of its run and the index of its task.
Request: TypeAlias = RequestInfo | tuple[Whole, Whole]
_WHAT = {"output": "an output", "parameter": "a point"}

#: A message and its frames.
Said: TypeAlias = tuple[m.ClientMessage, Sequence[Buffer]]


def login(who: str | None) -> str:
    """What a person is called: as they say, else by their login name; empty where there is none."""
    if who is not None:
        return text(who, "a person's name")
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a process of a user that the system does not know
        return ""


def _place(request: Request) -> tuple[int, int]:
    """Number of the run and index of the task of a request."""
    if isinstance(request, RequestInfo):
        return request.run, request.index
    if not isinstance(request, tuple) or len(request) != 2:
        raise CallerError(f"a request is one that was listed or claimed, or (run, index), not {shown(request)}")
    run, index = request
    return whole(run, "the number of a run", 0, LARGEST), whole(index, "the index of a task", 0, LARGEST - 1)


# -- requests ---------------------------------------------------------------------------------------------------------


def requests_message(master: str | None, known: Sequence[RequestInfo]) -> m.ListRequests:
    """The question for the requests that follow those that are ``known``."""
    return m.ListRequests(0, master, (known[-1].run, known[-1].index) if known else (0, -1))


def claim_message(master: str, request: Request | None, seconds: float | None, who: str | None) -> m.Claim:
    """The wish for a request, or (None) for the next one."""
    run, index = (None, None) if request is None else _place(request)
    for_ = None if seconds is None else duration(seconds, "seconds")
    return m.Claim(0, master, secrets.token_hex(8), run, index, for_, login(who))


def release_message(request: RequestInfo) -> m.Release:
    """That a claim is given back."""
    if not isinstance(request, RequestInfo) or not request.claim:
        raise CallerError("only what claim() has given can be released: it says under which claim it was taken")
    return m.Release(0, request.run, request.index, request.claim)


def answer_message(schema: Schema, request: Request, output: Any, who: str | None) -> Said:
    """The answer to a request. Raises InvalidOutput for one that is not as its Master declares."""
    run, index = _place(request)
    table = pack_output(schema, output)
    claim = request.claim if isinstance(request, RequestInfo) else ""
    return m.Answer(0, run, index, table.layout, "", claim, login(who)), table.frames


def refusal_message(request: Request, reason: str, who: str | None) -> m.Answer:
    """That a request has no answer."""
    run, index = _place(request)
    if not text(reason, "a reason"):
        raise CallerError("say why it cannot be done: that becomes the error of the task")
    claim = request.claim if isinstance(request, RequestInfo) else ""
    return m.Answer(0, run, index, None, reason, claim, login(who))


def pack_output(schema: Schema, output: Any) -> Table:
    """One output as a table: the value of the only one declared, or a dict of them. Raises InvalidOutput."""
    if schema and not isinstance(output, Mapping):
        if len(schema.fields) > 1:
            raise InvalidOutput(
                f"Master {schema.owner!r}: an output must be a dict of {', '.join(schema.names)}, not {shown(output)}"
            )
        output = {schema.names[0]: output}
    return _packed(schema, output, InvalidOutput)


def _packed(schema: Schema, row: Any, mistake: type[InvalidOutput] | type[InvalidTask]) -> Table:
    try:
        table = schema.pack_rows([schema.row(row)]) if schema else pack_values([row])
        return Table.checked(table.layout, table.n, table.frames)
    except (TypeError, ProtocolError) as error:
        raise mistake(f"Master {schema.owner!r}: {_WHAT[schema.role]} cannot travel: {error}") from None


# -- approval ---------------------------------------------------------------------------------------------------------


def proposed_message(master: str | None, run: Whole | None, known: Sequence[ProposedTask]) -> m.ListProposed:
    """The question for the proposed tasks that follow those that are ``known``."""
    number = None if run is None else whole(run, "the number of a run", 0, LARGEST)
    return m.ListProposed(0, master, number, (known[-1].run, known[-1].index) if known else (0, -1))


def decisions(
    kind: type[m.Approve] | type[m.Reject],
    run: Whole,
    indices: Iterable[Whole] | None,
    found: m.ProposedList | None,
    reason: str,
    who: str | None,
) -> list[m.Approve | m.Reject]:
    """The word on proposed tasks: those at ``indices``, or (None) all that there were when they were ``found``.

    In several messages where one does not name so many.
    They are named, not "all": sent again after a lost answer it must not be about what was proposed since.
    """
    number = whole(run, "the number of a run", 0, LARGEST)
    if indices is None:
        intervals: tuple[tuple[int, int], ...] = ((0, found.end if found is not None else 0),)
    else:
        wanted = sorted(set(wholes(indices, "the index of a task", 0, LARGEST - 1)))
        intervals = tuple(IntervalSet((index, index + 1) for index in wanted))
    why, whose = text(reason, "a reason"), login(who)
    return [
        kind(0, number, intervals[k : k + MOST_INTERVALS], why, whose)
        for k in range(0, max(1, len(intervals)), MOST_INTERVALS)
    ]


class Editing:
    """Another input for one proposed task. Raises CallerError for one that makes no sense."""

    def __init__(self, run: Whole, index: Whole, point: Any, reason: str, who: str | None) -> None:
        self._run = whole(run, "the number of a run", 0, LARGEST)
        self._index = whole(index, "the index of a task", 0, LARGEST - 1)
        self._point = point
        self._reason = text(reason, "a reason")
        self._who = login(who)

    @property
    def question(self) -> m.ListProposed:
        """Whether the task is proposed, and how often it was edited."""
        return m.ListProposed(0, None, self._run, (self._run, self._index - 1))

    def request(self, found: m.ProposedList, daemon: ClientCore) -> Said:
        """What the daemon is told, after it has answered the :attr:`question`.

        Raises UnknownTask if the task is not proposed, InvalidTask for an input that its Master does not take.
        """
        task = next(iter(found.tasks), None)
        if task is None or task.index != self._index:
            raise UnknownTask(
                f"run {self._run}: task {self._index} is not proposed; 'taskmaster proposed' lists those that are"
            )
        schema = Schema(daemon.master(task.master).parameters, task.master)
        table = _packed(schema, self._point, InvalidTask)
        message = m.Edit(0, self._run, self._index, table.layout, task.edits, self._reason, self._who)
        return message, table.frames
