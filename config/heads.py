"""Which heads an instrument's Master has: pure functions of its table, for the configuration and for the workers.

They take the table as a mapping, so that a worker needs no more than the options that the daemon gave it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["VISA_CLASSES", "has_safe_state", "heads_of", "is_simulated", "normal_resource"]

#: What a VISA resource may end with; INSTR, where it ends with none of them.
VISA_CLASSES = frozenset({"INSTR", "SOCKET", "RAW", "INTFC", "BACKPLANE", "MEMACC", "SERVANT"})
#: Keys of a Master's table that are no head's.
_OF_THE_MASTER = ("heads", "shared")

_BOARD = re.compile(r"(TCPIP|GPIB|USB|VXI|PXI)(?=::)")
_THIS_HOST = re.compile(r"(?<=^TCPIP0::)LOCALHOST(?=::)")
#: Of instruments on the network, which of the host's devices is meant (VPP-4.3, 4.3.1).
_NO_DEVICE = re.compile(r"(TCPIP\d+::(\[[^\]]*\]|[^:]+))::INSTR")


def heads_of(options: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The options of each head in the order of the file: its own table laid over the Master's.

    ``values`` are laid over one by one. A Master without ``heads`` has a single one, whose name is empty.
    """
    common = {key: value for key, value in options.items() if key not in _OF_THE_MASTER}
    declared = options.get("heads") or ({"name": ""},)
    return tuple(_merged(common, head) for head in declared)


def _merged(common: Mapping[str, Any], head: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in head.items() if value is not None}
    values = {**(common.get("values") or {}), **(own.get("values") or {})}
    return {"capabilities": (), **common, **own, "values": values}


def has_safe_state(options: Mapping[str, Any]) -> bool:
    """Whether anything is done to make a head safe; a class may have a way of its own, which nobody has to declare."""
    declared = options["commands"]["safe"] if "commands" in options else options.get("safe")
    return declared is None or bool(declared)


def is_simulated(options: Mapping[str, Any]) -> bool:
    """Whether the resource of a class is one of PyVISA-sim's: every process has its own then."""
    kwargs = options.get("kwargs") or {}
    libraries = (options.get("backend"), kwargs.get("visa_library"), kwargs.get("visalib"))
    return "pyvisa_sim_file" in kwargs or any(str(library).endswith("@sim") for library in libraries)


def normal_resource(resource: str) -> str:
    """One spelling for all that mean the same resource: ``tcpip::H`` and ``TCPIP0::h::inst0::INSTR``.

    A path keeps its case; whether two paths are links to one device is known only where the device is, and whether two
    names are of one host, only to who asks the network.
    """
    if "::" not in resource:
        return resource
    if resource.upper().startswith("ASRL/"):
        return resource[4:].partition("::")[0]
    upper = _THIS_HOST.sub("127.0.0.1", _BOARD.sub(r"\g<1>0", resource.upper().strip(), count=1))
    whole = upper if upper.rpartition("::")[2] in VISA_CLASSES else f"{upper}::INSTR"
    return f"{known[1]}::INST0::INSTR" if (known := _NO_DEVICE.fullmatch(whole)) else whole
