"""Networks that cut, delay and forget: learners and workers on another machine, behind weather.

The other machine is a network namespace. What connects there to one of the daemon's ports goes through a Unix socket
(as through `helpers.tunnel`) to this end, where the :class:`Weather` is, and from there to the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
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

__all__ = ["Narrows", "Weather", "do", "far_end", "storms"]

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


class Narrows:
    """The way from programs to the proxy on the other machine, made so narrow that packets are lost there.

    They are lost to TCP, which sends them again, later and later. That some were is counted.
    """

    #: of full size; what comes while so little waits does not fit
    _NARROW = "tc qdisc add dev lo root tbf rate 64kbit burst 1600 limit 1600"

    def __init__(self, far: Nursery, folder: Path) -> None:
        self._far, self._log = far, folder / "narrows.log"
        #: whether there are programs and a kernel for that
        self.works = self._do("ip link set lo mtu 1500") and self._do(self._NARROW) and self.widen()
        self.times = 0

    def _do(self, command: str) -> bool:
        return self._far.launch("faults.network:do", command, log=self._log).wait(PATIENCE) == 0

    def narrow(self) -> bool:
        """From now on; whether it could be done."""
        self.times += 1
        return self._do(self._NARROW)

    def widen(self) -> bool:
        """As it was before."""
        return self._do("tc -s qdisc show dev lo") and self._do("tc qdisc delete dev lo root")

    @property
    def lost(self) -> int:
        """Packets, so far."""
        return sum(map(int, re.findall(r"dropped (\d+)", self._log.read_text())))


def do() -> None:
    """On the other machine: run a program with its arguments."""
    sys.exit(subprocess.run(sys.argv[1].split(), check=False).returncode)


# -- the faults --------------------------------------------------------------------------------------------------------


def _storm(weather: Weather, narrows: Narrows, ports: Sequence[int], chance: random.Random) -> Callable[[], None]:
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

    def loss() -> None:
        narrows.narrow()
        pass_time(0.5)
        narrows.widen()

    storms = [cut, cut_one, cut_for_long, back_in_another_order, one_way, silence, silence_and_cut, delay]
    return chance.choice([*storms, *([loss] if narrows.works else [])])


def storms(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Cuts, cuts of one way, silence, delays, lost packets, connections that come back in another order; restarts."""
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
        narrows = Narrows(far, folder)
        site.abroad = far
        site.start(OFTEN, ONCE)
        for _ in range(times):
            _storm(weather, narrows, ports, chance)()
            if chance.random() < 0.05:
                site.daemon.restart()
            weather.clear()
            site.learners[0].await_told()
            tally.injected += 1
        site.await_progress()
        site.finish(tally)
        if narrows.times > 5 and not narrows.lost:
            tally.complaints.append(f"{narrows.times} times packets were to be lost, and none was")
