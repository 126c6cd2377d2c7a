"""Learners as they are named on the command line: one of the list, one of a library, or a class of one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import click

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.drivers.functions import add_to_path
from taskmaster.learners.protocol import Learner
from taskmaster.learners.registry import create, factory, is_imported, is_own, names, rehearse, require_packages

__all__ = ["PATH_HELP", "made", "pair", "require_learner"]

PATH_HELP = "Where the module of a learner of your own is; by default here."


def require_learner(name: str, path: str) -> None:
    """Raise UsageError if there is no such learner, CallerError if it lacks a package.

    The module of one's own ``MODULE:CLASS``, or ``gest:MODULE:CLASS``, is looked for in the folder ``path`` first.
    """
    if is_imported(name):
        add_to_path([os.path.abspath(path)])
    if is_own(name):
        try:
            factory(name)
        except CallerError as error:
            raise click.UsageError(str(error)) from None
        return
    family = name.partition(":")[0]
    if family not in names():
        raise click.UsageError(f"there is no learner {family!r}{did_you_mean_or(family, names())}")
    require_packages(name)


def made(name: str, parameters: Sequence[Field], outputs: Sequence[Field], options: Mapping[str, str]) -> Learner:
    """The learner ``name`` with its options, for a Master with these. Raises UsageError if they do not fit."""
    try:
        rehearse(name, parameters, outputs, options)
        return create(name, parameters, outputs, None, options)
    except CallerError as error:
        raise click.UsageError(str(error)) from None


def pair(text: str, what: str) -> tuple[str, str]:
    """Name and value of ``KEY=VALUE``. Raises UsageError."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"{what} takes KEY=VALUE, not {text!r}")
    return key.strip(), value.strip()
