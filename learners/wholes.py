"""What is recorded of a run, be it one by itself or a routed one, whichever of its legs one has.

One leg alone says what its Master was asked, and not what the learner was: that is recorded with all of them together.
So whoever reads a leg is given the whole, where the other legs are to be found, and is told what to do where they are
not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from taskmaster.bus.errors import CallerError
from taskmaster.learners.history import History, Recording, Replayable, recording_of
from taskmaster.learners.marks import LegMark, mark_of, refuse_fork, require_one_run
from taskmaster.learners.routed import RoutedHistory

__all__ = ["legs_of", "put_together", "whole_recording"]

#: How often legs are looked at until nothing has come between two looks.
_LOOKS = 50


def whole_recording(run: Replayable | Sequence[Replayable]) -> Recording:
    """What is recorded of a run up to now; of a leg, or of a list of all legs in any order, that of the routed run.

    Raises CallerError where the other legs are not to be found, or those given are not all, or not of one run.
    """
    if isinstance(run, (list, tuple)):  # not any sequence: text is one, too
        return put_together(lambda: [recording_of(each) for each in run])
    found = recording_of(cast("Replayable", run))
    mark = mark_of(found.metadata)
    if mark is None:
        return found
    refuse_fork(mark, found.title)
    return put_together(lambda: legs_of(found, mark))


def put_together(look: Callable[[], Sequence[Recording]]) -> RoutedHistory:
    """The record of the legs that ``look`` finds, as they were at one time: nothing has come to any meanwhile.

    Raises CallerError where they do not come to rest, and where these are not all legs of one run.
    """
    before = look()
    for _ in range(_LOOKS):
        legs = look()
        if [(leg.next_index, leg.next_seq) for leg in legs] == [(leg.next_index, leg.next_seq) for leg in before]:
            return _in_order(legs)
        before = legs
    raise CallerError(
        f"run {before[0].name!r} goes on at {' and '.join(repr(leg.master) for leg in before)} too fast for its legs "
        "to be read as they are at one time: stop its loop, or try again when it is slower"
    )


def _in_order(legs: Sequence[Recording]) -> RoutedHistory:
    marks = [mark_of(leg.metadata) for leg in legs]
    require_one_run(marks, [leg.title for leg in legs])
    known = {mark.number: (leg, mark) for leg, mark in zip(legs, marks) if mark is not None}
    return RoutedHistory([known[number][0] for number in sorted(known)], known[0][1])


def legs_of(found: Recording, mark: LegMark) -> list[Recording]:
    """All legs of the run of which ``found`` is one, as far as they are with its daemon. Raises CallerError."""
    legs: list[Recording] = []
    lacking: list[str] = []
    for number, master in enumerate(mark.masters):
        leg = _leg(found, master, number, mark.masters) if isinstance(found, History) else None
        if leg is not None:
            legs.append(leg)
        elif number == mark.number:
            legs.append(found)
        else:
            lacking.append(repr(master))
    if lacking:
        watched = mark.each(f".watch({found.name!r})")
        raise CallerError(
            f"run {found.title!r} is one leg of a run over {mark.over}, and the one at {' and '.join(lacking)} is not "
            f"to be found with it. In a program, name all of them: replay(learner, [{watched}]), each Master from its "
            f"own lab; or Routes([{mark.each()}]).history({found.name!r})"
        )
    return legs


def _leg(found: History, master: str, number: int, masters: tuple[str, ...]) -> History | None:
    """The leg of this number, if the daemon of another one has it."""
    lab = found.lab
    for info in lab.runs(master) if master in lab else ():
        mark = mark_of(info.metadata)
        if info.name == found.name and mark is not None and (mark.masters, mark.number) == (masters, number):
            return History(lab, info)
    return None
