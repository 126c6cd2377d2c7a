"""The checker can fail: bugs that somebody might well write are put in, and it notices each of them."""

from __future__ import annotations

import os

import pytest

from simulation.mutations import MUTATIONS
from simulation.runner import STEPS, run

#: These need a coincidence that comes up once in a hundred seeds or so; to see one caught:
#: ``python tests/simulation --mutation NAME --until-bad --seeds $(seq 500)``
RARE = {
    "commits-a-turn-record-by-record",
    "forgets-progress-before-the-commit",
    "takes-an-outcome-for-whatever-lease-its-worker-has",
    "takes-the-late-outcome-of-a-task-that-is-leased-again",
    "takes-a-repeated-word-on-a-held-task-for-another",
    "gives-the-number-of-a-deleted-run-again-after-a-start",
    "charges-again-at-a-start",
    "evaluates-what-was-dispatched-in-a-former-session",
}
SEEDS = range(1, 101)


@pytest.mark.parametrize("name", sorted(MUTATIONS.keys() - RARE))
def test_a_plausible_bug_is_caught(name: str) -> None:
    summary = run(SEEDS, jobs=os.cpu_count() or 1, mutation=name, until_bad=True)

    assert summary.bad, f"{summary.seeds} seeds of {STEPS} steps did not show {name}"


def test_a_seed_is_the_same_each_time() -> None:
    first, again = (run([23], mutation="") for _ in range(2))

    assert first == again
