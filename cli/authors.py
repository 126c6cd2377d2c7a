"""The learner of a run that exists, as it is recorded: taken for it where none is named, compared with the one that is.

What is recorded was written by whoever made the run. So nothing of it is used that would run code of their choosing:
modules are imported from the folder at hand alone, and only what is defined there is called; where a library imports
modules by name, or evaluates texts, the learner has to be named by whoever wants that.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder

import click

from taskmaster.bus.errors import CallerError, Conflict
from taskmaster.bus.status import RunInfo, WriterInfo
from taskmaster.bus.text import count
from taskmaster.cli.learners import require_learner
from taskmaster.learners.client import Lab, Master
from taskmaster.learners.history import writers_of
from taskmaster.learners.looping.authors import BY_NAME, PATH, Author, author_of, authors
from taskmaster.learners.options import literal
from taskmaster.learners.own import is_defined_there
from taskmaster.learners.protocol import Learner
from taskmaster.learners.registry import is_imported, is_own

__all__ = ["Authors", "named", "replay_line"]

_LIST = "taskmaster learn --list"


class Authors:
    """Those of one run."""

    def __init__(self, run: RunInfo, writers: Sequence[WriterInfo]) -> None:
        self._run = run
        self.all = authors(run.metadata, writers)
        #: nobody has written to it since it was forked: whoever goes on with it may be anybody
        self._is_free = "forked_from" in run.metadata and all(writer.forked for writer in writers)

    @classmethod
    def of(cls, lab: Lab, run: RunInfo) -> Authors:
        """Those of a run."""
        return cls(run, list(writers_of(lab, run.run)))

    @property
    def title(self) -> str:
        """The run's, for a shell."""
        return shlex.quote(f"{self._run.master}/{self._run.name}")

    def choose(self, author: Author | None, path: str, command: str) -> Author:
        """The author, where it can be made by its name. Raises UsageError where it has to be named on the command line.

        ``command`` is what to call with ``--learner`` then.
        """
        if author is None:
            raise click.UsageError(
                f"no learner is recorded with run {self.title}: say which, {command} --learner NAME ({_LIST})"
            )
        if not author.by_name:
            raise click.UsageError(
                f"the learner of run {self.title} was made by a program, as {author}: say which that is here, "
                f"{command} --learner NAME ({_LIST}), or MODULE:CLASS"
            )
        if reason := _harm(author, path):
            where = f" --path {shlex.quote(author.path)}" if author.path else ""
            raise click.UsageError(
                f"run {self.title} is of learner {author}, {reason}; to have it used all the same: {command} "
                f"--learner {author}{where}"
            )
        return author

    def require_like(self, chosen: Author, master: str) -> None:
        """Raise Conflict where the run goes on with another learner than it was, as far as that is known."""
        latest = self.all[-1] if self.all else None
        if latest is None or self._is_free or not self._run.tasks or latest.is_like(chosen):
            return
        name = shlex.quote(self._run.name)
        raise Conflict(
            f"run {self.title} ({count(self._run.tasks, 'task')}) is of learner {latest}, not of {chosen}. To go on "
            f"from it in a run of its own: taskmaster runs fork {self.title} NAME, then taskmaster learn {master} "
            f"--learner {chosen} --run NAME. To have this run taken over, which is recorded: --run {name} --take-over"
        )

    def text_behind(self) -> list[tuple[int, str]]:
        """From which task on it is of another learner than at its beginning, and of which."""
        return [(author.first, str(author)) for author in self.all[1:]]


def named(
    name: str, options: Mapping[str, str], path: str, learner: Learner, master: Master
) -> tuple[Author, dict[str, str]]:
    """A learner that was named on the command line, and what is to be recorded of it besides its own words."""
    by_name = {BY_NAME: shlex.join([name, *(f"{key}={value}" for key, value in options.items())])}
    if is_imported(name):
        by_name[PATH] = os.path.abspath(path)
    (author,) = authors(author_of(learner, master, by_name))
    return author, by_name


def replay_line(run: RunInfo, author: Author) -> str:
    """The command that replays a run to such a learner."""
    where = f" --path {shlex.quote(author.path)}" if author.path else ""
    return f"taskmaster runs replay {shlex.quote(f'{run.master}/{run.name}')} --learner {author.by_name}{where}"


def _harm(author: Author, path: str) -> str:
    """What speaks against making a learner by what is recorded; empty for nothing."""
    name, options = author.name, author.options
    if is_own(name):
        module = name.partition(":")[0].partition(".")[0]
        if PathFinder.find_spec(module, [os.path.abspath(path)]) is None:
            was = f" (it was in {author.path})" if author.path else ""
            return f"of which there is no module {module!r} in {os.path.abspath(path)}{was}"
        require_learner(name, path)
        try:
            is_there = is_defined_there(name)
        except CallerError as error:
            raise click.UsageError(str(error)) from None
        return "" if is_there else "which is not defined in that module"
    if name.partition(":")[0] == "gest":
        return "which imports a module by its name"
    if name.partition(":")[0] == "cma" and any(
        isinstance(literal(text), str) for key, text in options.items() if key not in _PLAIN and "." not in key
    ):
        return "whose options pycma evaluates as Python"
    return ""


#: Options of optimisers that are names, and nothing else.
_PLAIN = frozenset(("constraints", "log", "maximize", "minimize", "repeats"))
