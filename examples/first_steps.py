"""The first steps: put points, take results as they come.

python examples/first_steps.py
"""

from __future__ import annotations

import time

from taskmaster.learners import WorkMaster


def slow_square(x: float) -> float:
    """What takes longer for larger numbers."""
    time.sleep(x / 10)
    return x * x


def main() -> None:
    with WorkMaster(slow_square, workers=2) as master:
        for x in (6.0, 1.0, 2.0, 1.5):
            print(f"put {x}")
            master.tasks.put(x)
        for x, y in master.results:  # in the order in which they are ready, until none is open
            print(f"    {x} → {y}")


if __name__ == "__main__":
    main()
