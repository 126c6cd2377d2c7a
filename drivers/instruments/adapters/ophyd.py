"""ophyd-async devices: ``Class(prefix, name=…)`` with signals (``x.velocity``), which are set and read by coroutines.

A device belongs to one event loop; here it is one of the head's own, in a thread that lives as long as the device, so
that its subscriptions and its motions go on between two calls. The head's thread waits for one coroutine at a time.
When the head is stopped, the coroutine waited for is cancelled, and with it the device's status, which by ophyd-async's
rules stops what it had started. No RunEngine takes part, so plans, flyers and the documents of bluesky do not, either.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import wait
from threading import Event, Thread
from typing import Any

from taskmaster.drivers.instruments import attributes
from taskmaster.drivers.instruments.adapters.base import Adapter, Recipe
from taskmaster.drivers.instruments.attributes import fits
from taskmaster.drivers.instruments.errors import Stopped

__all__ = ["OphydAdapter"]

#: Seconds between two looks at whether the head was stopped.
_SLICE = 0.02


class OphydAdapter(Adapter):
    """``ophyd_async.core.Device`` and everything that derives from it.

    ``set`` takes a signal, or anything else with a method ``set`` (a motor: the motion is waited for); ``read`` a
    signal. Methods may be coroutines or give a status: they are waited for.
    """

    base = ("ophyd_async", "Device")

    def __init__(self, recipe: Recipe, stopping: Event) -> None:
        super().__init__(recipe, stopping)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = super().arguments()
        if not fits(self.recipe.kind, args, {"name": self.recipe.name, **kwargs}):
            kwargs.setdefault("name", self.recipe.name)
        return args, kwargs

    def make(self) -> Any:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"{self.recipe.name} devices", daemon=True)
        self._thread.start()
        try:
            return self._wait(self._connected())
        except BaseException:
            self._end()
            raise

    async def _connected(self) -> Any:
        device = super().make()
        await device.connect()
        return device

    def setter(self, instrument: Any, name: str) -> Callable[[Any], Any]:
        where, last = attributes.owner(instrument, name)
        target = attributes.getter(where, last)() if not attributes.is_routine(where, last) else None
        put = getattr(target, "set", None)
        if callable(put):
            return lambda value: self._wait(_finished(put, (value,), {}))
        plain = super().setter(instrument, name)
        return lambda value: self._wait(_finished(plain, (value,), {}))

    def getter(self, instrument: Any, name: str) -> Callable[[], Any]:
        where, last = attributes.owner(instrument, name)
        target = attributes.getter(where, last)() if not attributes.is_routine(where, last) else None
        get = getattr(target, "get_value", None)
        if callable(get):
            return lambda: self._wait(_finished(get, (), {}))
        plain = super().getter(instrument, name)
        return lambda: self._wait(_finished(plain, (), {}))

    def method(
        self, instrument: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[..., Any]:
        bound = super().method(instrument, name, args, kwargs)
        return lambda *args, **kwargs: self._wait(_finished(bound, args, kwargs))

    def close(self, instrument: Any, *, silent: bool) -> None:
        """A device has nothing to close; its loop has."""
        self._end()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not wait((future,), _SLICE).done:
            if self.stopping.is_set():
                future.cancel()
                raise Stopped("stopped while waiting for the device")
        return future.result()

    def _end(self) -> None:
        """Cancel what still runs in the loop and end its thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop = self._thread = None
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _finished(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call within the loop, and wait for what is to be waited for."""
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
