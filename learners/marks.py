"""How the runs that a routed run is made of, its legs, are known for what they are: by what is recorded with each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field

__all__ = ["LegMark", "mark_of", "refuse_fork", "refuse_leg"]

#: Where a run's metadata have the names of all Masters, and which of these its own is; and what it was forked from.
_MASTERS, _NUMBER, _FORKED = "routed", "routed_leg", "forked_from"
#: Where they have the parameters and outputs that the learner was given, where those are not the first Master's.
_PARAMETERS, _OUTPUTS = "routed_parameters", "routed_outputs"


@dataclass(frozen=True)
class LegMark:
    """What a run's metadata say of it as a leg."""

    #: the Masters' names, in the order in which the legs are numbered
    masters: tuple[str, ...]
    #: which of them it is
    number: int
    #: parameters and outputs of the whole; None: those of the first leg
    parameters: tuple[Field, ...] | None = None
    outputs: tuple[Field, ...] | None = None
    #: what it was forked from, if it was: then it is a leg of nothing
    forked_from: str = ""

    @property
    def over(self) -> str:
        """The Masters, in words."""
        return " and ".join(map(repr, self.masters))

    @property
    def metadata(self) -> dict[str, str]:
        """What is to be recorded with it."""
        said = {_MASTERS: json.dumps(self.masters), _NUMBER: str(self.number)}
        for key, fields in ((_PARAMETERS, self.parameters), (_OUTPUTS, self.outputs)):
            if fields is not None:
                said[key] = msgspec.json.encode(fields).decode()
        return said

    def each(self, then: str = "") -> str:
        """The Masters as a program has them."""
        return ", ".join(f"lab[{name!r}]{then}" for name in self.masters)


def mark_of(metadata: Mapping[str, str]) -> LegMark | None:
    """Which leg of what a run is, by its metadata; None if it is a run by itself."""
    try:
        masters, number = tuple(json.loads(metadata[_MASTERS])), int(metadata[_NUMBER])
        parameters, outputs = _fields(metadata, _PARAMETERS), _fields(metadata, _OUTPUTS)
    except (KeyError, ValueError, TypeError):  # somebody else may use such words
        return None
    return LegMark(masters, number, parameters, outputs, metadata.get(_FORKED, ""))


def without_mark(metadata: Mapping[str, str]) -> dict[str, str]:
    """What the metadata of a leg say that is not about its being one."""
    return {key: value for key, value in metadata.items() if key not in (_MASTERS, _NUMBER, _PARAMETERS, _OUTPUTS)}


def _fields(metadata: Mapping[str, str], key: str) -> tuple[Field, ...] | None:
    return msgspec.json.decode(metadata[key], type=tuple[Field, ...]) if key in metadata else None


def refuse_leg(metadata: Mapping[str, str], master: str, name: str) -> None:
    """Raise CallerError where a run is a leg, for a learner is to be driven against it alone."""
    mark = mark_of(metadata)
    if mark is None:
        return
    refuse_fork(mark, f"{master}/{name}")
    raise CallerError(
        f"run {name!r} of Master {master!r} is one leg of a run over {mark.over}, whose learner has asked the others, "
        f"too. Go on with all of them, Loop(Routes([{mark.each()}]), learner, name={name!r}), or take another name"
    )


def refuse_fork(mark: LegMark, title: str) -> None:
    """Raise CallerError for the fork of a leg: nobody knows what the other legs were at that time."""
    if mark.forked_from:
        raise CallerError(
            f"run {title!r} was forked from {mark.forked_from!r}, one leg of a run over {mark.over}: it has what that "
            "Master measured, and not what the learner was asked and told. It can be exported; to be replayed there is "
            f"{mark.forked_from!r}, which is read with its other legs"
        )


def require_one_run(marks: Sequence[LegMark | None], titles: Sequence[str]) -> None:
    """Raise CallerError unless these are the marks of all legs of a run, in any order."""
    for mark, title in zip(marks, titles):
        if mark is None:
            raise CallerError(f"run {title!r} is no leg of a run over several Masters; it is read by itself")
        refuse_fork(mark, title)
    known = [mark for mark in marks if mark is not None]
    masters = known[0].masters
    for mark, title in zip(known, titles):
        if mark.masters != masters:
            raise CallerError(
                f"run {titles[0]!r} is over {known[0].over}, and {title!r} is a leg of one over {mark.over}"
            )
    numbers = sorted(mark.number for mark in known)
    lacking = [repr(master) for number, master in enumerate(masters) if number not in numbers]
    if lacking or len(numbers) > len(masters):
        wrong = f"that of {' and '.join(lacking)} is missing" if lacking else "there is one twice"
        raise CallerError(f"of the legs of the run over {known[0].over}, {wrong} among {', '.join(titles)}")
