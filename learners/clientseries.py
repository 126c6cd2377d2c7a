"""The part of both clients by which one reads series in time: what heads monitor, and what tasks say on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from taskmaster.bus import messages as m
from taskmaster.bus.table import Buffer
from taskmaster.learners.aiochannel import AsyncChannel
from taskmaster.learners.channel import Channel
from taskmaster.learners.core import ClientCore
from taskmaster.learners.series import Following, ProgressPoint, Sample, SamplesFollowing, Series
from taskmaster.learners.views import samples_of

__all__ = ["AsyncSeriesOfLab", "SeriesOfLab"]

P = TypeVar("P", ProgressPoint, Sample)


class _AnyLab(Protocol):
    """What both clients have."""

    patience: float | None
    _core: ClientCore

    def _deaf(self) -> Exception: ...
    def _samples_question(
        self, master: str, head: str | None, name: str | None, since: Any, until: Any
    ) -> m.ReadSamples: ...

    def _samples_following(self, master: str, head: str | None, name: str | None, since: str) -> SamplesFollowing: ...


class _Lab(_AnyLab, Protocol):
    _channel: Channel

    def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any: ...
    def _ask(self, message: m.ClientMessage, frames: Sequence[Buffer], patience: float | None) -> Any: ...
    def series_pages(self, question: m.ReadProgress | m.ReadSamples) -> Iterator[m.SeriesPage]: ...
    def follow_series(self, following: Following[P]) -> Iterator[P]: ...


class _AsyncLab(_AnyLab, Protocol):
    _channel: AsyncChannel

    async def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any: ...
    async def _ask(self, message: m.ClientMessage, frames: Sequence[Buffer], patience: float | None) -> Any: ...
    def series_pages(self, question: m.ReadProgress | m.ReadSamples) -> AsyncIterator[m.SeriesPage]: ...
    def follow_series(self, following: Following[P]) -> AsyncIterator[P]: ...


class SeriesOfLab:
    """What a :class:`~taskmaster.learners.client.Lab` can tell of series in time."""

    def samples(
        self: _Lab,
        master: str,
        head: str,
        name: str,
        *,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
    ) -> Series:
        """A monitored value of a head, from ``since`` to ``until`` (seconds since 1970, or datetimes), as far as kept.

        ``.time`` in seconds since 1970 and ``.values[name]``, arrays. Raises UnknownMaster, NotAllowed where there are
        no heads, CallerError if there is none of this name.
        """
        question = self._samples_question(master, head, name, since, until)
        pieces: list[m.Piece] = []
        units: dict[str, str] = {}
        for page in self.series_pages(question):
            pieces += page.pieces
            units = page.units
        return samples_of(pieces, question, units)

    def follow_samples(
        self: _Lab, master: str, head: str | None = None, name: str | None = None, *, since: str = "now"
    ) -> Iterator[Sample]:
        """Monitored values as they come, without an end: of one head or all of the Master's, of one name or all.

        ``since`` is ``"now"``, or ``"start"`` for what is kept of them first, head by head. Raises UnknownMaster.
        """
        following = self._samples_following(master, head, name, since)
        yield from self.follow_series(following)

    def series_pages(self: _Lab, question: m.ReadProgress | m.ReadSamples) -> Iterator[m.SeriesPage]:
        """What the daemon answers to a question for series in time, page by page."""
        after: Any = question.after
        while True:
            page = self.ask(replace(question, after=after))
            assert isinstance(page, m.SeriesPage)
            yield page
            if page.after is None:
                return
            after = page.after

    def follow_series(self: _Lab, following: Following[P]) -> Iterator[P]:
        """Points of series as they come: see :meth:`Run.follow_progress` and :meth:`follow_samples`."""
        channel, core = self._channel, self._core
        with channel.lock:
            channel.require_open()
            core.follow_series(following)
        try:
            if not channel.wait(lambda: following.is_confirmed or following.error is not None, self.patience):
                raise self._deaf()
            while True:
                with channel.lock:
                    question, point = following.question(), following.take()
                if question is not None:
                    page = self._ask(question, (), None)
                    with channel.lock:
                        following.on_page(page)
                elif point is not None:
                    yield point
                elif following.error is not None:
                    raise following.error
                elif following.is_over:
                    return
                else:
                    channel.wait(lambda: following.has_news)
        finally:
            with channel.lock:
                core.unfollow_series(following)


class AsyncSeriesOfLab:
    """The same of a :class:`~taskmaster.learners.aio.Lab`."""

    async def samples(
        self: _AsyncLab,
        master: str,
        head: str,
        name: str,
        *,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
    ) -> Series:
        """A monitored value of a head, from ``since`` to ``until`` (seconds since 1970, or datetimes), as far as kept.

        ``.time`` in seconds since 1970 and ``.values[name]``, arrays. Raises UnknownMaster, NotAllowed where there are
        no heads, CallerError if there is none of this name.
        """
        question = self._samples_question(master, head, name, since, until)
        pieces: list[m.Piece] = []
        units: dict[str, str] = {}
        async for page in self.series_pages(question):
            pieces += page.pieces
            units = page.units
        return samples_of(pieces, question, units)

    async def follow_samples(
        self: _AsyncLab, master: str, head: str | None = None, name: str | None = None, *, since: str = "now"
    ) -> AsyncIterator[Sample]:
        """Monitored values as they come, without an end: of one head or all of the Master's, of one name or all.

        ``since`` is ``"now"``, or ``"start"`` for what is kept of them first, head by head. Raises UnknownMaster.
        """
        following = self._samples_following(master, head, name, since)
        async for sample in self.follow_series(following):
            yield sample

    async def series_pages(self: _AsyncLab, question: m.ReadProgress | m.ReadSamples) -> AsyncIterator[m.SeriesPage]:
        """What the daemon answers to a question for series in time, page by page."""
        after: Any = question.after
        while True:
            page = await self.ask(replace(question, after=after))
            assert isinstance(page, m.SeriesPage)
            yield page
            if page.after is None:
                return
            after = page.after

    async def follow_series(self: _AsyncLab, following: Following[P]) -> AsyncIterator[P]:
        """Points of series as they come: see :meth:`Run.follow_progress` and :meth:`follow_samples`."""
        channel, core = self._channel, self._core
        channel.require_open()
        core.follow_series(following)
        try:
            if not await channel.wait(lambda: following.is_confirmed or following.error is not None, self.patience):
                raise self._deaf()
            while True:
                if (question := following.question()) is not None:
                    following.on_page(await self._ask(question, (), None))
                elif (point := following.take()) is not None:
                    yield point
                elif following.error is not None:
                    raise following.error
                elif following.is_over:
                    return
                else:
                    await channel.wait(lambda: following.has_news)
        finally:
            core.unfollow_series(following)
