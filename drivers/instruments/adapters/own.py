"""Classes of one's own: subclasses of our :class:`Head`, and plain classes that evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.drivers.instruments.adapters.base import Adapter
from taskmaster.drivers.instruments.attributes import class_name, fits
from taskmaster.drivers.instruments.head import Head, HeadContext

__all__ = ["OwnAdapter", "own_head"]


def own_head(kind: type[Head], context: HeadContext, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Head:
    """A head of a subclass of :class:`Head`: ``kind(context, *args, **kwargs)``.

    Raises ConfigError where the class does not take the arguments, and whatever the class raises.
    """
    if reason := fits(kind, (context, *args), kwargs):
        raise ConfigError(f"{class_name(kind)} cannot be made so: {reason}; its first argument is the HeadContext")
    return kind(context, *args, **kwargs)


class OwnAdapter(Adapter):
    """A plain class with a method ``evaluate(x)``; it may have ``open``, ``identify``, ``safe`` and ``close`` as well.

    Nothing of ours is inherited, so it can be used, and tested, without TaskMaster.
    """

    safe = ("safe",)

    def make(self) -> Any:
        instrument = super().make()
        open_it = getattr(instrument, "open", None)
        if callable(open_it):
            open_it()
        return instrument

    def identify(self, instrument: Any) -> str:
        identify = getattr(instrument, "identify", None)
        return str(identify()) if callable(identify) else ""
