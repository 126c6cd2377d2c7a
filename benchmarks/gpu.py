"""``python -m benchmarks.gpu``: the driver `gpu` beside a bare loop with the same kernel on the same arrays.

Without a CUDA device it says "no GPU" and ends with status 3. ``--device cpu`` measures on the processor, with numpy:
what the driver, the daemon and the journal cost, and nothing of a card. Outputs are compared with float64 there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.figures import gpu
from benchmarks.report import table
from taskmaster.drivers.gpu.probe import probe

__all__ = ["NO_GPU", "main"]

#: Exit status where there is no device to measure.
NO_GPU = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 if a figure is below what it must be, 3 without a device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="where (default cuda)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: tests the suite, measures nothing")
    parser.add_argument("--repeat", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to measure with")
    options = parser.parse_args(arguments)
    found = probe()
    if options.device == "cuda":
        problem = found["problem"] or ("" if found["cupy"] else "CuPy is not installed (the extra [gpu])")
        if problem:
            print(f"no GPU: {problem}")
            return NO_GPU
        first = found["devices"][0]
        print(
            f"{first['name']}, {first['memory'] / 2**30:.0f} GiB, compute capability {first['capability']}; driver "
            f"{found['driver']}, CUDA {found['cuda']}, CuPy {found['cupy']}\n"
        )
    bench = Bench(options.folder, options.repeat, options.quick)
    watch = machine.Watch()
    rows = [*gpu.batches(bench, options.device), *gpu.segments(bench)]
    print(table(rows))
    conditions = watch.conditions()
    print(f"\nothers had {conditions.neighbours:.0%} of the processors meanwhile")
    if options.quick:
        print("--quick: the sizes are tiny, these figures mean nothing")
    return int(not options.quick and any(row.verdict == "BELOW MUST" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
