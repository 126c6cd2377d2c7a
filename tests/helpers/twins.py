"""One story for both clients: told in asyncio's words, and played with the blocking client as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from types import TracebackType
from typing import Any, TypeAlias

import pytest

from helpers.waiting import PATIENCE
from taskmaster.learners import aio, client

__all__ = ["Story", "connect", "told_to_both"]

#: ``async def test_…(connect, …)``
Story: TypeAlias = Callable[..., Coroutine[Any, Any, None]]

_OURS = (client.Lab, client.Master, client.Run, client.Tasks, client.Results)
#: What the asyncio client does without waiting, too.
_AT_ONCE = ("put_nowait", "get_nowait", "new_ask")


class Blocking:
    """An object of the blocking client that looks like its asyncio twin; whatever is awaited blocks."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if name == "slots":
            return lambda: _Call(lambda: value)
        if name in _AT_ONCE or not callable(value):
            return _disguised(value)
        return lambda *arguments, **keywords: _Call(lambda: value(*arguments, **keywords))

    def __getitem__(self, name: str) -> Any:
        return Blocking(self._thing[name])

    def __aiter__(self) -> AsyncIterator[Any]:
        return _steps(iter(self._thing))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._thing)

    def __len__(self) -> int:
        return len(self._thing)

    def __contains__(self, what: object) -> bool:
        return what in self._thing

    def __repr__(self) -> str:
        return repr(self._thing)


class _Call:
    """A call that has been prepared: awaiting, entering or iterating makes it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._entered: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return _disguised(self._call())

    def __aiter__(self) -> AsyncIterator[Any]:
        return _steps(self._call())

    async def __aenter__(self) -> Any:
        self._entered = self._call()
        return _disguised(self._entered.__enter__())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.__exit__(kind, error, trace)


def _disguised(value: Any) -> Any:
    return Blocking(value) if isinstance(value, _OURS) else value


async def _steps(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    for item in iterator:
        yield item


def _connect_blocking(address: str, timeout: float = PATIENCE, **options: Any) -> Any:
    return _Call(lambda: client.connect(address, timeout, **options))


connect: dict[str, Callable[..., Any]] = {"blocking": _connect_blocking, "asyncio": aio.connect}


def told_to_both(story: Story) -> Callable[..., None]:
    """A test that plays ``story(lab, daemon)`` with a connection of each client."""

    def test(daemon: Any, twin: str) -> None:
        async def play() -> None:
            async with connect[twin](daemon.address, PATIENCE) as lab:
                await asyncio.wait_for(story(lab, daemon), 2 * PATIENCE)

        asyncio.run(play())

    test.__name__ = story.__name__
    test.__doc__ = story.__doc__
    parametrized: Callable[..., None] = pytest.mark.parametrize("twin", connect)(test)
    return parametrized
