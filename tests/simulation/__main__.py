"""Run seeds: ``PYTHONHASHSEED=0 PYTHONPATH=tests python -m simulation --seed 17 --trace 60``."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from simulation.world import simulate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--trace", type=int, default=0)
    o = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds = [o.seed] if o.seed is not None else list(range(*o.seeds))
    began = time.perf_counter()
    steps = bad = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for seed in seeds:
            report = simulate(seed, o.steps, Path(folder) / "s", trace=o.trace)
            steps += report.steps
            if report.violation:
                bad += 1
                print("\n".join(report.trace))
                print(f"seed {seed}: step {report.steps}: {report.violation[-1500:]}")
            elif len(seeds) == 1:
                print(report)
    took = time.perf_counter() - began
    print(f"{len(seeds)} seeds, {bad} bad, {steps} steps, {steps / took:.0f} steps/s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
