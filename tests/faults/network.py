"""Networks that cut, delay and forget: learners and workers on another machine, behind weather.

The other machine is a network namespace. What connects there to one of the daemon's ports goes through a Unix socket
(as through `helpers.tunnel`) to this end, where the :class:`Weather` is, and from there to the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from helpers import tunnel
from helpers.daemon import tcp
from helpers.waiting import PATIENCE, eventually

from faults.nursery import Nursery
from faults.site import OFTEN, ONCE, Site, pass_time
from faults.tally import Tally

__all__ = ["Weather", "far_end", "storms"]

_UNSHARE = ("unshare", "--net", "--map-root-user")
_BYTES = 1 << 14


class Weather:
    """This end of the way to the other machine, in a thread of its own; ``ports`` are the daemon's."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._folder, self._ports = folder, ports
        self._loop = asyncio.new_event_loop()
        self._writers: list[tuple[int, asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._blocked: set[str] = set()
        self._cleared = asyncio.Event()
        self._delay = (0.0, 0.0)
        self._refusing: set[int] = set()
        self._chance = random.Random(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.do(self._listen())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done in its thread."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def close(self) -> None:
        """Break everything off."""
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Weather:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _end(self) -> None:
        await self._clear()
        await self._cut(self._ports)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._cleared.set()
        for port in self._ports:
            await asyncio.start_unix_server(partial(self._on_connection, port), str(self._folder / str(port)))

    async def _on_connection(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if port in self._refusing:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        self._writers.append((port, writer, far_writer))
        await asyncio.gather(self._pump("up", reader, far_writer), self._pump("down", far_reader, writer))
        self._writers.remove((port, writer, far_writer))

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(_BYTES):
                while way in self._blocked:
                    await self._cleared.wait()
                if self._delay[1]:
                    await asyncio.sleep(self._chance.uniform(*self._delay))
                writer.write(data)
                await writer.drain()
        writer.close()

    # -- what the weather may be --------------------------------------------------------------------------------------

    async def _cut(self, ports: Sequence[int], odds: float = 1.0) -> None:
        for port, *writers in list(self._writers):
            if port in ports and self._chance.random() < odds:
                for writer in writers:
                    writer.transport.abort()

    async def _block(self, ways: Sequence[str]) -> None:
        self._cleared.clear()
        self._blocked.update(ways)

    async def _clear(self) -> None:
        self._blocked.clear()
        self._delay = (0.0, 0.0)
        self._refusing.clear()
        self._cleared.set()

    def cut(self, *ports: int, odds: float = 1.0) -> None:
        """Break connections to some ports (default: all), each with these odds, amid whatever they carry."""
        self.do(self._cut(ports or self._ports, odds))

    def block(self, *ways: str) -> None:
        """Hold back what goes ``up`` to the daemon, or ``down`` from it, and tell nobody."""
        self.do(self._block(ways or ("up", "down")))

    def delay(self, least: float, most: float) -> None:
        """Each piece takes so many seconds, by lot, which differs from connection to connection."""
        self._delay = (least, most)

    def refuse(self, *ports: int) -> None:
        """Let nobody connect to some ports."""
        self._refusing.update(ports or self._ports)

    def clear(self) -> None:
        """Let everything through again."""
        self.do(self._clear())


def far_end() -> None:
    """The other end, on the other machine."""
    folder, ports = Path(sys.argv[1]), [int(port) for port in sys.argv[2].split(",")]
    tunnel.raise_loopback()

    async def serve() -> None:
        await tunnel.that_end(folder, ports)
        (folder / "far").touch()
        await asyncio.Event().wait()

    asyncio.run(serve())


# -- the faults --------------------------------------------------------------------------------------------------------


def _storm(weather: Weather, ports: Sequence[int], chance: random.Random) -> Callable[[], None]:
    """One of them, for a while."""
    long = chance.choice((0.05, 0.2, 0.5))
    if chance.random() < 0.06:
        long = 2.5  # workers are given up for lost

    def cut() -> None:
        weather.cut(odds=chance.choice((1.0, 0.5)))

    def cut_one() -> None:
        weather.cut(chance.choice(ports))

    def cut_for_long() -> None:
        weather.refuse()
        weather.cut()
        pass_time(long)

    def back_in_another_order() -> None:
        weather.refuse()
        weather.cut()
        for port in chance.sample(ports, len(ports)):
            weather._refusing.discard(port)
            pass_time(chance.uniform(0, 0.15))

    def one_way() -> None:
        weather.block(chance.choice(("up", "down")))
        pass_time(long)

    def silence() -> None:
        weather.block()
        pass_time(long)

    def silence_and_cut() -> None:
        weather.block(chance.choice(("up", "down")))
        pass_time(0.05)
        weather.cut()

    def delay() -> None:
        weather.delay(0.0, chance.choice((0.01, 0.1)))
        pass_time(0.5)

    return chance.choice([cut, cut_one, cut_for_long, back_in_another_order, one_way, silence, silence_and_cut, delay])


def storms(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Cuts, cuts of one way, silence, delays, connections that come back in another order; kills of the daemon, too."""
    if shutil.which("unshare") is None or subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode:
        tally.skipped = "the system lets nobody have another network"
        return
    chance = random.Random(seed)
    ways = folder / "ways"
    ways.mkdir()
    settings: dict[str, Any] = tcp()
    ports = [int(address.rpartition(":")[2]) for address in settings.values()]
    with (
        Nursery(command=_UNSHARE) as far,
        Weather(ways, ports) as weather,
        Site(folder / "site", nursery, **settings) as site,
    ):
        far.launch("faults.network:far_end", str(ways), ",".join(map(str, ports)), log=folder / "far.log")
        eventually((ways / "far").exists, "the other machine")
        site.abroad = far
        site.start(OFTEN, ONCE)
        for _ in range(times):
            _storm(weather, ports, chance)()
            if chance.random() < 0.05:
                site.daemon.restart()
            weather.clear()
            site.learners[0].await_told()
            tally.injected += 1
        site.await_progress()
        site.finish(tally)
