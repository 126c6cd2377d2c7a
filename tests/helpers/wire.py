"""A stretch of wire that can be cut: forwards connections to a daemon's socket, and breaks them wherever they are."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from helpers.waiting import eventually

__all__ = ["Wire"]


class Wire:
    """Listens on ``address`` and forwards to ``target``, both ``tcp://HOST:PORT``, in a thread of its own."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._wake, self._waker = socket.socketpair()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self) -> None:
        """Break every connection, in the middle of whatever is being said; waits until there is one."""
        eventually(lambda: self._pairs, "something to cut")
        with self._lock:
            for end in list(self._pairs):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break and end it all."""
        self._closing = True
        self._waker.send(b"\0")
        self._thread.join()
        for end in (*self._pairs, self._listener, self._wake, self._waker):
            end.close()

    def _run(self) -> None:
        while not self._closing:
            ready = select.select([self._listener, self._wake, *self._pairs], [], [])[0]
            with self._lock:
                for end in ready:
                    if end is self._listener:
                        self._accept()
                    elif end in self._pairs:
                        self._forward(end)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target, timeout=5)
        except OSError:
            near.close()
            return
        self._pairs[near], self._pairs[far] = far, near

    def _forward(self, end: socket.socket) -> None:
        try:
            data = end.recv(1 << 16)
            if data:
                self._pairs[end].sendall(data)
                return
        except OSError:
            pass  # cut
        other = self._pairs.pop(end)
        del self._pairs[other]
        end.close()
        other.close()
