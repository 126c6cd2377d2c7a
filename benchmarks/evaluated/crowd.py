"""So many idle workers in one process: connections that have said hello and are ready, and no more.

``python crowd.py WORKERS_ADDRESS N FIRST [PUBLIC_KEY_OF_THE_DAEMON KEY_FILE]``; prints a line when all were
welcomed, and ends with its input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import zmq

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.keys import Credentials, read_pair


def main(address: str, n: int, first: int, daemon: str = "", key: str = "") -> None:
    """Entry point."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, n + 16)
    credentials = Credentials(read_pair(Path(key)), bytes.fromhex(daemon)) if key else None
    poller = zmq.Poller()
    waiting: set[zmq.Socket[bytes]] = set()
    for k in range(first, first + n):
        socket = sockets.dealer(context, credentials)
        socket.connect(address)
        socket.send(codec.encode(m.WorkerHello(m.PROTOCOL_VERSION, "idle", f"idle-{k}", 1, 1, 1, "crowd")))
        poller.register(socket, zmq.POLLIN)
        waiting.add(socket)
    while waiting:
        for ready, _ in poller.poll():
            frames = sockets.receive(ready)
            if frames is None:
                continue
            message = codec.to_worker_decoder().decode(frames[0])
            if not isinstance(message, m.Welcome):
                raise SystemExit(f"not welcomed: {message}")
            ready.send(codec.encode(m.Ready()))
            poller.unregister(ready)
            waiting.discard(ready)
    # From here on, as if they had processors of their own: what they do is to cost the others none here.
    for thread in os.listdir("/proc/self/task"):
        os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))
    print("all are there", flush=True)
    sys.stdin.read()  # until whoever has started this is gone
    context.destroy(linger=0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
