"""Learners as they are named on the command line: one of the list, one of a library, or a class of one's own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

import click

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.drivers.functions import add_to_path
from taskmaster.learners.protocol import Learner
from taskmaster.learners.registry import create, factory, is_imported, is_own, names, rehearse, require_packages

__all__ = ["PATH_HELP", "chosen", "made", "named_with_options", "pair", "require_learner"]

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


def chosen(
    name: str | None, pairs: Sequence[str], options: Sequence[str], path: str
) -> tuple[str | None, dict[str, str]]:
    """The learner that is to be, None for that of the run, and its options: those in quotes with it among them.

    Raises UsageError if there is no such learner or an option is none, CallerError if it lacks a package.
    """
    quoted: list[str] = []
    if name is not None:
        name, quoted = named_with_options(name)
    given = dict(pair(text, "an option of the learner") for text in (*quoted, *pairs))
    given |= dict(pair(text, "--option") for text in options)
    if name is not None:
        require_learner(name, path)
    elif given:
        raise click.UsageError("options of a learner go with --learner NAME")
    return name, given


def named_with_options(text: str) -> tuple[str, list[str]]:
    """A learner's name and its options as words, of ``"gp minimize=loss"``. Raises UsageError."""
    try:
        name, *options = shlex.split(text) or [""]
    except ValueError as error:  # a quotation without an end
        raise click.UsageError(f"--learner {text!r}: {str(error)[0].lower()}{str(error)[1:]}") from None
    return name, options


def pair(text: str, what: str) -> tuple[str, str]:
    """Name and value of ``KEY=VALUE``. Raises UsageError."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"{what} takes KEY=VALUE, not {text!r}")
    return key.strip(), value.strip()
