"""Which libraries a learner uses, and in which versions: recorded with its run.

A learner that is deterministic today is not the same with the library of tomorrow. Then a run that goes on parts from
its record, and whoever reads that wants to know what has changed.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from types import ModuleType

from taskmaster.learners.protocol import Learner

__all__ = ["LIBRARIES", "changes", "libraries"]

#: Where that is in a run's metadata.
LIBRARIES = "libraries"

#: What is installed under another name than it is imported by.
_DISTRIBUTIONS = {
    "ax": "ax-platform",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "taskmaster": "taskmaster-lab",
}
#: What learners of our own compute with; some import it as late as they can.
_OURS = ("numpy", "scipy")
#: What is only about types, and changes no number.
_NO_MATTER = frozenset({"typing_extensions"})
#: That many at most, by their names: a run's metadata is no place for a list of all that is installed.
_MOST = 20


def libraries(learner: Learner) -> str:
    """What the modules import in which a learner, and what it is made of, are defined: ``adaptive 1.3.2, numpy 2.1.0``.

    Its Python comes last. Nothing is imported for it.
    """
    found = {package for module in _modules(learner) for package in _imported(module)}
    if "taskmaster" in found:
        found.update(_OURS)
    known = [f"{package} {version}" for package in sorted(found) if (version := _version(package))]
    return ", ".join((*known[:_MOST], f"python {platform.python_version()}"))


def changes(run: Mapping[str, str], learner: Learner) -> str:
    """What has another version here than a run's metadata say: ``adaptive 1.3.2, which is 1.4.0 here``; or nothing."""
    recorded = run.get(LIBRARIES, "")
    here = dict(_pairs(libraries(learner)))
    changed = [(name, then, here[name]) for name, then in _pairs(recorded) if here.get(name, then) != then]
    return ", ".join(f"{name} {then}, which is {now} here" for name, then, now in changed)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(", "):
        name, space, version = part.rpartition(" ")
        if space:
            yield name, version


def _modules(learner: object) -> Iterator[ModuleType]:
    """Those that define the classes of a learner and of its attributes: of those around which it is, or that it has."""
    seen: set[type] = set()
    waiting = [learner]
    while waiting:
        one = waiting.pop()
        if type(one) in seen:
            continue
        seen.add(type(one))
        for kind in type(one).__mro__:
            if (module := sys.modules.get(kind.__module__)) is not None:
                yield module
        if isinstance(one, Learner):
            waiting += [*getattr(one, "__dict__", {}).values(), getattr(one, "learner", None)]


def _imported(module: ModuleType) -> Iterator[str]:
    """The packages that a module is of, or has something of."""
    yield module.__name__.partition(".")[0]
    for value in tuple(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str):
            yield name.partition(".")[0]


@cache
def _version(package: str) -> str | None:
    """None for what comes with Python, and for what was not installed."""
    if package in sys.stdlib_module_names or package in _NO_MATTER or package.startswith("_"):
        return None
    try:
        return metadata.version(_DISTRIBUTIONS.get(package, package))
    except (metadata.PackageNotFoundError, ValueError):
        return None
