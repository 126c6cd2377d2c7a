"""Which learner chose the points of a run, and how it was made: recorded with the run, and read back.

With a run it is recorded which learner it is made for. One that goes on with it says so as its writer (see
`taskmaster.bus.status.WriterInfo`), for it may be another one, or with another version of its library: so it is known
of each task who asked for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taskmaster.bus.status import WriterInfo
from taskmaster.learners.looping.errors import command_name
from taskmaster.learners.looping.libraries import LIBRARIES, changes, libraries
from taskmaster.learners.making import is_known, made_of
from taskmaster.learners.protocol import Learner, describe
from taskmaster.learners.target import Introducing, Target, TargetRun

__all__ = ["BY_NAME", "LEARNER", "MADE", "PATH", "Author", "author_of", "authors", "introduce", "parting_text"]

#: Where in a run's metadata it is said which learner that is, and how it was made, in Python's words; …
LEARNER, MADE = "learner", "made"
#: … by which name and options, as the command line takes them, and in which folder its module was.
BY_NAME, PATH = "by_name", "path"


@dataclass(frozen=True)
class Author:
    """Who asked for the tasks from ``first`` on."""

    first: int
    #: in words
    learner: str
    #: the call that made it, as far as that is known; empty where nothing is
    made: str = ""
    #: name and options, ``gp maximize=z``; empty where it has none
    by_name: str = ""
    #: where its module was, of one's own
    path: str = ""

    def __str__(self) -> str:
        return self.by_name or self.made or self.learner

    @property
    def name(self) -> str:
        """By which the command line knows it."""
        return self.by_name and shlex.split(self.by_name)[0]

    @property
    def options(self) -> dict[str, str]:
        """Those that it was made with by its name."""
        pairs = [text.partition("=") for text in shlex.split(self.by_name)[1:]]
        return {key: value for key, _, value in pairs}

    def is_like(self, other: Author) -> bool:
        """Whether the other was made in the same way, as far as anybody knows: other options may mean the same."""
        if self.by_name and other.by_name:
            if (self.name, self.options) == (other.name, other.options):
                return True
            return is_known(self.made) and self.made == other.made
        return self.made == other.made if self.made and other.made else self.learner == other.learner


def author_of(learner: Learner, master: Target, metadata: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is recorded of a learner, and what else a caller knows of it."""
    made = made_of(learner, master.parameters, master.outputs)
    return {LEARNER: describe(learner), MADE: made, LIBRARIES: libraries(learner), **(metadata or {})}


def introduce(run: TargetRun, said: Mapping[str, str]) -> None:
    """Have it recorded who asks from here on, unless nobody has asked before and it stands in the run's metadata."""
    is_new = not run.next_index and said.items() <= run.metadata.items()
    if not is_new and isinstance(run, Introducing):
        run.introduce(said)


def authors(metadata: Mapping[str, str], writers: Iterable[WriterInfo] = ()) -> list[Author]:
    """Who asked for the tasks of a run, one behind the other: by its metadata and its writers."""
    found = [_author(0, metadata)] if LEARNER in metadata else []
    for writer in writers:
        if LEARNER not in writer.metadata:
            continue
        if found and found[-1].first == writer.first:
            found.pop()
        latest = _author(writer.first, writer.metadata)
        if not (found and found[-1].is_like(latest)):
            found.append(latest)
    return found


def _author(first: int, said: Mapping[str, str]) -> Author:
    return Author(first, said[LEARNER], said.get(MADE, ""), _joined(said.get(BY_NAME, "")), said.get(PATH, ""))


def _joined(by_name: str) -> str:
    """Name and options as a shell takes them, whatever was recorded; empty for what is no such thing."""
    try:
        return shlex.join(shlex.split(by_name))
    except ValueError:
        return ""


def parting_text(run: TargetRun, said: Mapping[str, str], learner: Learner) -> str:
    """Why a learner that is ``said`` to be this one may ask other things than are recorded: for a warning."""
    writers = run.writers()[:-1] if isinstance(run, Introducing) else ()  # the last is this one
    recorded = authors(run.metadata, writers)
    if recorded and not all(one.is_like(_author(0, said)) for one in recorded):
        behind = "".join(f", from task {one.first} on of {one}" for one in recorded[1:])
        known_as = command_name(run)
        remedy = f"; to leave the run as it was, fork it and go on there: taskmaster runs fork {known_as} NAME"
        if known_as != shlex.quote(f"{run.master.name}/{run.name}") or "forked_from" in run.metadata:
            remedy = ""  # it is no run of a daemon's, or several, or a fork already
        return f"The run is of another learner: of {recorded[0]}{behind}; this is {_author(0, said)}{remedy}"
    changed = changes(run.metadata, learner)
    made = f"The learner ({_author(0, said)}) is not deterministic, or not the one that it was"
    return f"{made}: it was made with {changed}" if changed else made
