"""adaptive's own Runner, as it is, on a Master that grows and shrinks under it.

python examples/adaptive_runner.py
"""

from __future__ import annotations

import adaptive

from taskmaster.learners import WorkMaster
from taskmaster.learners.executor import MasterExecutor


def peak(x: float) -> float:
    return 0.01 / (0.01 + (x - 0.3) ** 2)


def main() -> None:
    learner = adaptive.Learner1D(peak, bounds=(-1, 1))
    with WorkMaster(None, workers=2) as master, MasterExecutor(master) as executor:
        adaptive.BlockingRunner(learner, loss_goal=0.02, executor=executor)
    print(f"{learner.npoints} points, the highest at {max(learner.data, key=lambda x: learner.data[x]):.2f}")


if __name__ == "__main__":
    main()
