"""Asks a person at the terminal for the answers to requests."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import time
from typing import Any

import click

from taskmaster.bus.errors import Conflict, DaemonUnreachable, InvalidOutput, UnknownTask
from taskmaster.bus.fields import Field
from taskmaster.bus.status import RequestInfo
from taskmaster.bus.text import count, format_duration
from taskmaster.cli.output import say, value_text
from taskmaster.cli.points import PointReader
from taskmaster.learners.client import Master
from taskmaster.learners.typing_in import typed_line

__all__ = ["Desk"]

SKIP, CANNOT = "skip", "cannot"


class _Skipped(Exception):
    """The person leaves the request to others."""


class _CannotBeDone(Exception):
    """The person says so, and why."""


class Desk:
    """A person who answers the requests of one Master. Whatever is taken and not answered is given back."""

    def __init__(self, master: Master, who: str | None) -> None:
        self._master = master
        self._who = who
        self._reader = PointReader(master.name, master.outputs, "output")
        #: what was left to others, and is not offered again as long as there is anything else
        self._skipped: set[tuple[int, int]] = set()
        self._answered = 0

    def work(self, place: tuple[int, int] | None) -> None:
        """Have requests answered one by one as long as there is somebody; or only the one at ``place``."""
        while True:
            request = self._master.claim(place, who=self._who) if place is not None else self._next()
            if request is None:
                self._wait()
                continue
            if not self._have_answered(request) or place is not None:
                break
        if self._answered:
            say(f"{count(self._answered, 'request')} answered")

    # -- which --------------------------------------------------------------------------------------------------------

    def _next(self) -> RequestInfo | None:
        if not self._skipped:
            return self._master.claim(who=self._who)
        for request in self._master.requests():
            if not request.claimed and (request.run, request.index) not in self._skipped:
                with contextlib.suppress(Conflict, UnknownTask):  # somebody was faster
                    return self._master.claim(request, who=self._who)
        return None

    def _wait(self) -> None:
        """Until there is a request that was not skipped, or another one is gone."""
        say("nothing waits for an answer but what was skipped" if self._skipped else "nothing waits for an answer")
        say("waiting for the next request; Ctrl-C leaves")
        with contextlib.closing(self._master.follow_requests()) as lists:
            for requests in lists:
                there = {(request.run, request.index) for request in requests}
                self._skipped &= there
                if any(not one.claimed and (one.run, one.index) not in self._skipped for one in requests):
                    return

    # -- one request --------------------------------------------------------------------------------------------------

    def _have_answered(self, request: RequestInfo) -> bool:
        """Ask until there is an answer that is taken; False where the person has left."""
        self._show(request)
        output: dict[str, Any] = {}
        try:
            for field in self._master.outputs:
                output[field.name] = self._ask(field)
            self._send(request, output)
        except _Skipped:
            self._skipped.add((request.run, request.index))
            self._master.release(request)
        except _CannotBeDone as reason:
            self._master.refuse(request, str(reason), who=self._who)
            say(f"task {request.index} of run {request.run} has failed")
        except EOFError:
            say()
            self._master.release(request)
            return False
        except KeyboardInterrupt:
            self._master.release(request)
            raise
        return True

    def _show(self, request: RequestInfo) -> None:
        say()
        say(self._master.question)
        waited = f", waiting for {format_duration(time.time() - request.since)}" if request.since else ""
        until = datetime.datetime.fromtimestamp(request.until).strftime("%H:%M:%S")
        say(f"  task {request.index} of run {request.run} ({request.name}){waited}; yours until {until}")
        if request.input_omitted:
            say("  its input is too large to be shown")
            return
        units = {field.name: field.unit for field in self._master.parameters}
        point = request.input if isinstance(request.input, dict) else {"input": request.input}
        width = max(map(len, map(str, point)), default=0)
        for name, value in point.items():
            say(f"  {name!s:<{width}}  {value_text(value)} {units.get(name, '')}".rstrip())

    def _ask(self, field: Field) -> Any:
        """One output: asked for again until it is as declared."""
        about = f" – {field.description}" if field.description else ""
        while True:
            typed = typed_line(f"{field.name} ({field.describe()}){about}: ").strip()
            is_word = typed not in field.choices
            if is_word and typed == SKIP:
                raise _Skipped
            if is_word and typed == CANNOT:
                raise _CannotBeDone(self._reason())
            if not typed and field.kind != "str":
                say(f"  {SKIP}: leave it to others; {CANNOT}: it cannot be done; Ctrl-C: give it back and leave")
                continue
            try:
                return self._reader.value(field.name, typed)
            except InvalidOutput as error:
                click.echo(f"  {str(error).partition(': ')[2]}", err=True)

    def _reason(self) -> str:
        while True:
            reason = typed_line("why not: ").strip()
            if reason:
                return reason

    def _send(self, request: RequestInfo, output: dict[str, Any]) -> None:
        """Give the answer; what was typed is not lost where it is not taken."""
        try:
            self._master.answer(request, output, who=self._who)
            self._answered += 1
        except (Conflict, UnknownTask) as error:
            click.echo(f"taskmaster: {error}; you had entered {value_text(output)}", err=True)
        except DaemonUnreachable:
            words = " ".join(shlex.quote(f"{name}={value}") for name, value in output.items())
            line = f"taskmaster answer {self._master.name} {request.run} {request.index} {words}"
            click.echo(f"taskmaster: your answer may not have arrived; to give it again: {line}", err=True)
            raise
