"""How long closed runs are kept: which of them go. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

__all__ = ["ClosedRun", "Retention", "due"]


class Retention(msgspec.Struct, frozen=True):
    """What the configuration, or a command line, says of it."""

    #: closed runs go when their last event is so many seconds old; None: they do not for that
    closed: float | None = None
    #: … or, those that ended first before others, when the journal takes more bytes than this
    size: int | None = None
    #: the folder they are archived in before that; None: they are not
    archive: str | None = None
    #: seconds between two looks
    every: float = 3600.0

    def __bool__(self) -> bool:
        return self.closed is not None or self.size is not None


class ClosedRun(msgspec.Struct, frozen=True):
    """A closed run without open tasks."""

    run: int
    master: str
    name: str
    #: when its last event was, seconds since 1970
    ended: float
    tasks: int
    events: int
    #: what it has in common with the other legs of a run over several Masters, which go together; else empty
    whole: str = ""


def due(
    runs: Iterable[ClosedRun], rules: Retention, used: int, now: float, size_of: Callable[[int], int]
) -> Iterator[ClosedRun]:
    """The runs that are not to be kept any longer, in the order in which they go, which is that of ``runs``.

    The journal takes ``used`` bytes, of which a run has about ``size_of`` it.
    """
    going = ""
    for run in runs:
        is_leg_of_it = bool(run.whole) and run.whole == going
        is_old = rules.closed is not None and now - run.ended > rules.closed
        is_too_much = rules.size is not None and used > rules.size
        if not is_old and not is_too_much and not is_leg_of_it:
            continue
        going = run.whole
        if rules.size is not None:
            used -= size_of(run.run)
        yield run
