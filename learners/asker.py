"""Questions of a blocking client to its daemon, and the answers: one at a time, or pages one behind the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from taskmaster.bus import messages as m
from taskmaster.bus.table import Buffer
from taskmaster.learners.channel import Channel
from taskmaster.learners.requests import Request, unanswered

__all__ = ["Asker"]

Question = TypeVar("Question", m.Replay, m.ReadAsks)


class Asker:
    """Asks the daemon at ``address`` over ``channel``."""

    def __init__(self, address: str, channel: Channel) -> None:
        self._address = address
        self._channel = channel

    def answered(self, message: m.ClientMessage, frames: Sequence[Buffer], patience: float | None) -> Request:
        """Ask, and wait for the answer for ``patience`` seconds (None: however long). Raises what the daemon answers.

        It is not asked any further where that is not the answer; whether it is carried out is not known.
        """
        channel = self._channel
        with channel.lock:
            channel.require_open()
            request = channel.core.request(message, time.monotonic(), frames)
        self._await(request, patience)
        return request

    def pages(
        self, question: Question, following: Callable[[Any], Question | None]
    ) -> Iterator[tuple[Any, Sequence[bytes]]]:
        """Pages and their frames. Each is on its way while the one before it is made use of.

        ``following(page)`` is the question for what is behind a page, None where that is the last.
        """
        request: Request | None = self._sent(question)
        try:
            while request is not None:
                self._await(request, None)
                page, attached = request.reply, request.attached
                further = following(page)
                request = None if further is None else self._sent(further)
                yield page, attached
        finally:
            if request is not None:
                self._withdraw(request)

    def _sent(self, message: m.ClientMessage) -> Request:
        with self._channel.lock:
            self._channel.require_open()
            request = self._channel.core.request(message, time.monotonic())
            self._channel.flush()
        return request

    def _await(self, request: Request, patience: float | None) -> None:
        try:
            if not self._channel.wait(lambda: request.answered, patience):
                raise unanswered(self._address, request, patience)
        finally:
            self._withdraw(request)
        if request.error is not None:
            raise request.error

    def _withdraw(self, request: Request) -> None:
        if not request.answered:
            with self._channel.lock:
                self._channel.core.withdraw(request)
