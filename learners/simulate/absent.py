"""What a real Master, or run, has and a simulated one has not; and why, said to whoever looks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

__all__ = ["ABSENT", "stands_for"]

Kind = TypeVar("Kind")

_NOBODY = "nobody answers tasks here but its function. Have that say what people would, and latency how long they take"
_UNSEEN = (
    "what an evaluation yields is not kept, for in virtual time it is over at once: only what it returns counts. "
    "Return what is to be seen"
)

#: By the class that has it, and its name.
ABSENT: Mapping[str, Mapping[str, str]] = {
    "Master": {
        "lab": "there is no daemon. Its runs are in .runs, how it stands is in .statistics(), and run.fork(name) forks",
        "description": "that is of a daemon's configuration. Its name is in .name",
        **dict.fromkeys(
            ("approval", "question", "requests", "follow_requests", "claim", "release", "answer", "refuse"), _NOBODY
        ),
    },
    "Run": {
        "resolve": "none of its tasks is ever in doubt: one whose worker dies, or whose answer is lost, is evaluated "
        "again, up to max_attempts times",
        **dict.fromkeys(("progress", "follow_progress"), _UNSEEN),
    },
    "Results": {
        "chunks": "results come in no tables here. Iterate over run.results, or take them one by one with get()",
    },
}


class _Missing:
    """An attribute that is not there, and says why. (``__getattr__`` would make every other attribute slower.)"""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.why = why

    def __get__(self, instance: object, owner: type) -> NoReturn:
        said = f"{owner.__name__!r} object has no attribute {self.name!r}: {self.why}"
        raise AttributeError(said, name=self.name, obj=instance)


def stands_for(kind: str) -> Callable[[type[Kind]], type[Kind]]:
    """For a class whose objects are taken for those of class ``kind``: what they lack says why it does."""

    def complete(standing_in: type[Kind]) -> type[Kind]:
        for name, why in ABSENT[kind].items():
            setattr(standing_in, name, _Missing(name, why))
        return standing_in

    return complete
