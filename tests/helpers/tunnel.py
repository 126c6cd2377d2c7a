"""Another machine, reached by nothing but a tunnel: a network namespace, and a forwarder of TCP ports into it.

It stands for ``ssh -L PORT:127.0.0.1:PORT …``: what connects to a port of 127.0.0.1 over there is connected to the same
port of 127.0.0.1 here. Between the two ends are Unix sockets in a folder, as ssh's channels are.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

__all__ = ["Elsewhere", "raise_loopback", "that_end", "tunnel"]

_UNSHARE = ("unshare", "--net", "--map-root-user")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_BYTES = 1 << 16
_READY = "ready\n"

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Elsewhere:
    """Starts programs on the other machine."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._folder, self._ports = folder, ports

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program whose output is piped; a SIGTERM is passed on to it."""
        return _start(self._folder, self._ports, command)


def _start(folder: Path, ports: Sequence[int], command: Sequence[str] = ()) -> subprocess.Popen[str]:
    """One end of the tunnel: that end with a command, which it runs, else this end."""
    around = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    end = (sys.executable, "-m", "helpers.tunnel", str(folder), ",".join(map(str, ports)), *command)
    return subprocess.Popen(
        [*(_UNSHARE if command else ()), *end],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": around},
    )


@contextlib.contextmanager
def tunnel(folder: Path, ports: Sequence[int]) -> Iterator[Elsewhere | None]:
    """Forward these ports from another machine; None where the system lets nobody have one."""
    if shutil.which("unshare") is None or subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode:
        yield None
        return
    with _start(folder, ports) as this_end:
        try:
            assert this_end.stdout is not None
            assert this_end.stdout.readline() == _READY
            yield Elsewhere(folder, ports)
        finally:
            this_end.terminate()


async def _this_end(folder: Path, ports: Sequence[int]) -> None:
    for port in ports:
        await asyncio.start_unix_server(
            _forward(partial(asyncio.open_connection, "127.0.0.1", port)), str(folder / str(port))
        )
    print(_READY, end="", flush=True)


async def that_end(folder: Path, ports: Sequence[int]) -> None:
    """Listen on these ports of 127.0.0.1, and forward to the other end."""
    for port in ports:
        path = str(folder / str(port))
        await asyncio.start_server(_forward(partial(asyncio.open_unix_connection, path)), "127.0.0.1", port)


def _forward(
    connect: Callable[[], Awaitable[Ends]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))

    return on_connection


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def raise_loopback() -> None:
    """A new network namespace has a loopback interface that is down."""
    with socket.socket() as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        name, flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", name, flags | _IFF_UP))


async def _main(folder: Path, ports: Sequence[int], command: Sequence[str]) -> int:
    if not command:
        await _this_end(folder, ports)
        await asyncio.Event().wait()  # until it is ended
    raise_loopback()
    await that_end(folder, ports)
    process = await asyncio.create_subprocess_exec(*command)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.terminate)
    return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(Path(sys.argv[1]), [int(port) for port in sys.argv[2].split(",")], sys.argv[3:])))
