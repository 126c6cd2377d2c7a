"""A worker that dials in asks where it is to go."""

from __future__ import annotations

import threading

import zmq
from helpers.places import short_folder
from helpers.waiting import PATIENCE

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.drivers.dialin import find


def test_what_says_nothing_is_no_answer() -> None:
    """A daemon says nothing to whoever it looks at, see `bus.origins`."""
    masters = (m.MasterInfo("square", "process"),)
    described = m.Described(1, m.PROTOCOL_VERSION, "lab", 1, "ipc:///results", "ipc:///workers", masters)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with short_folder() as folder:
        daemon = sockets.router(context)
        daemon.bind(f"ipc://{folder}/control")

        def answer() -> None:
            assert daemon.poll(round(PATIENCE * 1e3))
            peer, _ = daemon.recv_multipart()
            for reply in (b"", codec.encode(described)):
                daemon.send_multipart([peer, reply])

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            assert find(f"ipc://{folder}/control", "square").address == "ipc:///workers"
        finally:
            thread.join()
            context.destroy(linger=0)
