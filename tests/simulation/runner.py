"""Runs many seeds in processes of their own, in which nothing depends on the hash of a string."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec

__all__ = ["STEPS", "Bad", "Summary", "command", "run"]

#: Steps of a seed before the faults stop; until everything is at rest it takes about as many again.
STEPS = 1500

#: seed, violation, what happened before it
Bad: TypeAlias = tuple[int, str, tuple[str, ...]]


@dataclass
class Summary:
    """What a number of seeds came to."""

    seeds: int = 0
    steps: int = 0
    turns: int = 0
    deaths: int = 0
    executions: int = 0
    deliveries: int = 0
    bad: list[Bad] = field(default_factory=list)
    #: of what happened in each seed, where that was traced
    digests: dict[int, str] = field(default_factory=dict)

    def add(self, other: Summary) -> None:
        self.digests.update(other.digests)
        for name in ("seeds", "steps", "turns", "deaths", "executions", "deliveries", "bad"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def explain(self, steps: int, mutation: str = "") -> str:
        """For whoever has to find out why."""
        return "\n".join(
            "\n".join((*trace, f"seed {seed}: {violation}", f"replay: {command(seed, steps, mutation)}"))
            for seed, violation, trace in self.bad
        )


def command(seed: int, steps: int, mutation: str = "") -> str:
    """What to type to see a seed again."""
    return f"python tests/simulation --seed {seed} --steps {steps} --trace 200" + (
        f" --mutation {mutation}" if mutation else ""
    )


def run(
    seeds: Iterable[int],
    *,
    steps: int = STEPS,
    jobs: int = 1,
    mutation: str = "",
    until_bad: bool = False,
    trace: int = 0,
) -> Summary:
    """Run seeds in ``jobs`` processes, with the bug ``mutation`` put in; each stops at its first bad seed if asked."""
    everything = list(seeds)
    processes = [
        _start(everything[k::jobs], steps, mutation, trace, until_bad=until_bad)
        for k in range(min(jobs, len(everything)))
    ]
    total = Summary()
    failures = []
    for process in processes:
        output, errors = process.communicate()
        if process.returncode:
            failures.append(errors.decode(errors="replace"))
        else:
            total.add(msgspec.json.decode(output, type=Summary))
    if failures:
        raise RuntimeError("\n".join(failures))
    return total


def _start(seeds: Sequence[int], steps: int, mutation: str, trace: int, *, until_bad: bool) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, str(Path(__file__).parent), "--json", "--steps", str(steps), "--mutation", mutation]
    arguments += ["--trace", str(trace), *(["--until-bad"] if until_bad else [])]
    return subprocess.Popen(
        [*arguments, "--seeds", *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
