"""Whether a task that asks for a head can have one: said where it is put, and by the daemon."""

from __future__ import annotations

from collections.abc import Sequence

from taskmaster.bus.errors import CallerError, UnknownHead
from taskmaster.bus.messages import HeadName, Where
from taskmaster.bus.text import did_you_mean_or

__all__ = ["require_head"]


def require_head(master: str, heads: Sequence[HeadName], where: Where) -> None:
    """Raise CallerError if a task that asks for this could never be evaluated, UnknownHead if there is no such head."""
    if any(head.fits(where) for head in heads):
        return
    if not heads:
        raise CallerError(f"Master {master!r} is no instrument: it has no heads that a task could ask for")
    names = [head.name for head in heads]
    if where.head and where.head not in names:
        raise UnknownHead(f"Master {master!r} has no head {where.head!r}{did_you_mean_or(where.head, names, 'it has')}")
    capable = sorted({capability for head in heads for capability in head.capabilities})
    hint = did_you_mean_or(where.capability, capable, "there are") if capable else "; none has any"
    whose = f"head {where.head!r} of Master {master!r} lacks" if where.head else f"no head of Master {master!r} has"
    raise CallerError(f"{whose} the capability {where.capability!r}{hint}")
