"""A configuration whose instruments are elsewhere: the same Masters, other resources."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import did_you_mean_or
from taskmaster.config.instruments import InstrumentOptions
from taskmaster.config.load import Config
from taskmaster.config.settings import MasterSettings

__all__ = ["relocated"]


def relocated(config: Config, resources: Mapping[str, Mapping[str, str]]) -> Config:
    """``config`` with the resources of some heads replaced: ``{master: {head: resource}}``.

    The head "" is the one of a Master that declares none. What else the configuration says stays, so what runs on
    simulated instruments is what runs on real ones. Raises ConfigError for a Master or a head that there is not.
    """
    masters = dict(config.masters)
    for name, places in resources.items():
        if name not in masters:
            raise ConfigError(f"there is no Master {name!r} to be moved{did_you_mean_or(name, masters)}")
        masters[name] = _moved(masters[name], places)
    return dataclasses.replace(config, masters=masters)


def _moved(settings: MasterSettings, places: Mapping[str, str]) -> MasterSettings:
    options = settings.options
    if not isinstance(options, InstrumentOptions):
        raise ConfigError(f"Master {settings.name!r} has no resources: its driver, {settings.driver!r}, has no heads")
    heads = getattr(options, "heads", ())
    names = [head.name for head in heads] or [""]
    for name in places:
        if name not in names:
            raise ConfigError(f"Master {settings.name!r} has no head {name!r}{did_you_mean_or(name, names)}")
    update: dict[str, Any] = {"resource": places.get("", options.resource)}
    if heads:
        moved = [head.model_copy(update={"resource": places.get(head.name, head.resource)}) for head in heads]
        update["heads"] = tuple(moved)
    return settings.model_copy(update={"options": options.model_copy(update=update)})
