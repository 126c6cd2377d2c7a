"""A person as the learner: asked for points at the terminal, and told what was measured there."""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field, Schema, shown
from taskmaster.learners.inflight import InFlight
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import Record
from taskmaster.learners.typing_in import typed_line

__all__ = ["Human"]

#: What a person types to have no point for now, and for good.
_WAIT, _END = "", "end"
#: Results that are shown with a question, at most: as many as one sees.
_NEWS = 20


class Human(Record):
    """Asks ``prompt`` for each point, with a question, and gets a line: values for the parameters.

    The line holds the values in order, ``0.5 rbf``, or by name, ``kernel=rbf C=0.5``; such with blanks or commas in
    quotes. An empty one lets something that is in flight end first; ``end`` ends it, and Ctrl-C stops the loop. What
    does not fit the parameters is asked again, with the reason.

    A Loop asks for one point at a time, as long as more are to be in flight: each is evaluated while the next is
    thought of, and none that was typed is lost by Ctrl-C. A person is not deterministic: who goes on with a run is not
    asked again for the points that were put there.
    """

    def __init__(self, prompt: Callable[[str], str] = typed_line, parameters: Sequence[Field] = ()) -> None:
        super().__init__()
        self._prompt = prompt
        self._schema = Schema(parameters, "the person asked")
        self._in_flight: InFlight[None] = InFlight()
        #: lines on what has ended since the last question: the latest, and how many
        self._news: deque[str] = deque(maxlen=_NEWS)
        self._ended = 0
        self._has_ended = False

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Learn the Master's parameters."""
        self._schema = Schema(parameters, "the person asked")

    def recall(self, points: Sequence[Point]) -> None:
        """These were typed before, in the run that is gone on with."""
        for point in points:
            self._in_flight.add(point, None)

    def ask(self, n: int) -> list[Point]:
        """At most ``n`` points; waits for the person. None, or fewer, if they have none for now."""
        points: list[Point] = []
        while len(points) < n and not self._has_ended:
            point = self._question()
            if point is None:
                break
            points.append(point)
            self._in_flight.add(point, None)
        return points

    def tell(self, point: Point, output: Any) -> None:
        """Show it with the next question."""
        super().tell(point, output)
        self._end(point, f"{shown(point)} → {shown(output)}")

    def fail(self, point: Point, error: BaseException) -> None:
        """Show it with the next question."""
        super().fail(point, error)
        self._end(point, f"{shown(point)} failed: {error}")

    def done(self) -> bool:
        """Whether the person has ended it, and all is told."""
        return self._has_ended and not self._in_flight

    def describe(self) -> str:
        """What it is, in a few words."""
        return "Human"

    def _end(self, point: Point, line: str) -> None:
        asked = self._in_flight.find(point)
        if asked is not None:
            self._in_flight.end(asked)
        self._news.append(line)
        self._ended += 1

    def _told(self) -> list[str]:
        """What has ended since the last question, in lines."""
        left_out = self._ended - len(self._news)
        lines = [*([f"… {left_out} before"] if left_out else []), *self._news]
        self._news.clear()
        self._ended = 0
        return lines

    def _question(self) -> Point | None:
        """The point that the person gives; None if there is none for now."""
        reason = ""
        while True:
            question = "\n".join([*self._told(), *([reason] if reason else []), self._wanted()])
            try:
                with _left_by_signals():
                    line = self._prompt(question).strip()
            except EOFError:
                line = _END
            except _Stopped:
                return None
            if line == _END:
                self._has_ended = True
                return None
            if line == _WAIT:
                if self._in_flight:
                    return None
                reason = "nothing is in flight that could be waited for"
                continue
            try:
                return self._point(line)
            except InvalidTask as error:
                reason = str(error)

    def _wanted(self) -> str:
        what = ", ".join(f"{field.name} ({field.describe()})" for field in self._schema.fields) or "a number"
        return f"next point, {what}; empty: wait for {len(self._in_flight)} in flight; end: no more\n> "

    def _point(self, line: str) -> Point:
        """The point that ``line`` says. Raises InvalidTask if it is none."""
        fields = self._schema.fields
        if not fields:
            return _bare(line)
        words = _words(line)
        texts = dict(word.split("=", 1) for word in words) if all("=" in word for word in words) else None
        if texts is None:
            if len(words) != len(fields):
                raise InvalidTask(
                    f"{len(words)} values for the {len(fields)} parameters {', '.join(self._schema.names)}"
                )
            texts = dict(zip(self._schema.names, words, strict=True))
        self._schema.check_names(texts)
        given = {field.name: _value(field, texts[field.name]) for field in fields}
        return dict(zip(self._schema.names, self._schema.row(given), strict=True))


class _Stopped(Exception):
    """Ctrl-C was pressed at the question, or SIGTERM came."""


@contextlib.contextmanager
def _left_by_signals() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM do what they did, and also end the question: a loop that stops by them would wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.enter_context(_left_by(number))
        yield


@contextlib.contextmanager
def _left_by(number: signal.Signals) -> Iterator[None]:
    """The same of one signal; where nobody handles it, it does what it did and nothing else."""
    before = signal.getsignal(number)
    if not callable(before):
        yield
        return
    does = before

    def on_signal(number: int, frame: FrameType | None) -> None:
        does(number, frame)
        raise _Stopped

    signal.signal(number, on_signal)
    try:
        yield
    finally:
        if signal.getsignal(number) is on_signal:  # else what it did was to put another one in its place
            signal.signal(number, before)


def _words(line: str) -> list[str]:
    """What stands between blanks or commas; in quotes they are a part of it. Raises InvalidTask."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace += ","
    lexer.whitespace_split = True
    lexer.commenters = lexer.escape = ""
    try:
        return list(lexer)
    except ValueError:
        raise InvalidTask("a quotation has no end: values with blanks or commas go in quotes, 'like this'") from None


def _bare(line: str) -> Any:
    try:
        return float(line)
    except ValueError:
        raise InvalidTask(f"{line!r} is no number") from None


def _value(field: Field, text: str) -> Any:
    """What ``text`` means for ``field``; what it cannot mean stays as it is, and does not fit."""
    if field.kind == "bool":
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower(), text)
    if field.choices:
        return next((choice for choice in field.choices if str(choice) == text), text)
    if field.kind == "str":
        return text
    try:
        return float(text)
    except ValueError:
        return text
