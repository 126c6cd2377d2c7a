"""Why a daemon does not answer somebody who comes: found by one more handshake, which is watched.

ZeroMQ tells whoever connects nothing of a refusal, and gives up (see `bus.redialling`); its monitor does.
"""

from __future__ import annotations

import zmq
from zmq.utils.monitor import parse_monitor_message

from taskmaster.bus import sockets
from taskmaster.bus.keys import Credentials, public_text

__all__ = ["refusal"]

#: Seconds in which a handshake ends, or fails.
_PATIENCE_SECONDS = 1.0
_STRANGER = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


def refusal(address: str, credentials: Credentials | None) -> str:
    """What is wrong with the keys where no daemon answers at ``address``; empty where that is not it. Takes a second.

    No message is sent.
    """
    if not address.startswith("tcp://"):
        return ""
    end = _end_of_handshake(address, credentials)
    if credentials is None:
        wants_key = (
            f"whoever listens at {address} does not talk in the clear: if it is the daemon, it has to be known by its "
            f"key (taskmaster keys show --daemon, on its machine, then: taskmaster keys pin {address} tm-public-…)"
        )
        return wants_key if end & _STRANGER else ""
    if end == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return (
            f"the daemon at {address} does not let in your key: it is not allowed there, or revoked, or has expired. "
            f"On its machine its operator types: taskmaster keys allow NAME {credentials.own.text} --role ROLE"
        )
    if end & _STRANGER:
        return (
            f"whoever listens at {address} is not the daemon that you know by {public_text(credentials.daemon)}: has "
            "it a new key (taskmaster keys show --daemon, on its machine, then: taskmaster keys pin --replace "
            f"{address} tm-public-…), or none, or is it another program?"
        )
    return ""


def _end_of_handshake(address: str, credentials: Credentials | None) -> int:
    """The event by which a handshake has ended; 0 where none has in time."""
    ends = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | _STRANGER
    with (
        zmq.Context() as context,
        sockets.dealer(context, credentials) as socket,
        socket.get_monitor_socket(ends) as monitor,
    ):
        monitor.linger = 0
        socket.connect(address)
        ended = monitor.poll(int(_PATIENCE_SECONDS * 1e3))
        end = int(parse_monitor_message(monitor.recv_multipart())["event"]) if ended else 0
        socket.disable_monitor()
        return end
