"""A person as the learner: asked for points at the terminal, shown what came of them.

python examples/ask_a_person.py
"""

from __future__ import annotations

from taskmaster.learners import Loop, WorkMaster
from taskmaster.learners.human import Human


def square(x: float) -> float:
    """What the person is to find out about."""
    return x * x


def main() -> None:
    learner = Human()
    with WorkMaster(square, workers=2) as master:
        Loop(master.open("by-hand"), learner).run()
    print(f"\nlargest: {learner.best()}")


if __name__ == "__main__":
    main()
