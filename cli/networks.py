"""The networks that this machine is in, as far as they are public: a service is to reach the instruments there."""

from __future__ import annotations

import ipaddress
from pathlib import Path

__all__ = ["public_networks"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NOWHERE_4, _NOWHERE_6 = "0" * 8, "0" * 32


def public_networks(proc: Path = Path("/proc/net"), name_servers: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The networks that are reached without a gateway, and the name servers, but for private ones.

    From the kernel's tables of routes, in the folder ``proc``, and the resolver's configuration.
    """
    found = [*_routes_4(_text(proc / "route")), *_routes_6(_text(proc / "ipv6_route")), *_servers(_text(name_servers))]
    return [str(network) for network in dict.fromkeys(found) if network.is_global]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _routes_4(text: str) -> list[Network]:
    rows = [line.split() for line in text.splitlines()[1:]]
    # interface, destination, gateway, …, and in the eighth column the mask; each as the machine has it in memory
    direct = [(row[1], row[7]) for row in rows if len(row) > 7 and row[2] == _NOWHERE_4 != row[1]]
    return [
        ipaddress.IPv4Network((ipaddress.IPv4Address(_bytes(destination)), str(ipaddress.IPv4Address(_bytes(mask)))))
        for destination, mask in direct
    ]


def _bytes(word: str) -> bytes:
    return int(word, 16).to_bytes(4, "little")


def _routes_6(text: str) -> list[Network]:
    rows = [line.split() for line in text.splitlines()]
    # destination, its length, source, its length, next hop, …, and last the interface
    direct = [(row[0], row[1]) for row in rows if len(row) > 9 and row[4] == _NOWHERE_6 != row[0] and row[9] != "lo"]
    return [ipaddress.IPv6Network((bytes.fromhex(address), int(length, 16))) for address, length in direct]


def _servers(text: str) -> list[Network]:
    words = [line.split() for line in text.splitlines()]
    named = [word[1].partition("%")[0] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return [ipaddress.ip_network(name) for name in named]
