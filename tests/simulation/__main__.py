"""``python tests/simulation --seed 17 --trace 200``: run seeds of the simulation, and show what went wrong in them."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)

import msgspec  # noqa: E402 - the package is found by the path set above

from simulation.mutations import MUTATIONS, mutated  # noqa: E402
from simulation.runner import STEPS, Summary, run  # noqa: E402
from simulation.world import simulate  # noqa: E402

#: Lines that are kept of a seed that went wrong.
_LINES = 60


def main() -> int:
    options = _options()
    seeds = options.seeds or range(options.seed, options.seed + options.count)
    began = time.perf_counter()
    if options.jobs > 1:
        rest = {"mutation": options.mutation, "until_bad": options.until_bad, "trace": options.trace}
        summary = run(seeds, steps=options.steps, jobs=options.jobs, **rest)
    else:
        logging.disable(logging.CRITICAL)
        memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder, mutated(options.mutation):
            summary = run_here(seeds, options.steps, Path(folder), options.trace, until_bad=options.until_bad)
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(summary))
        return 0
    print(summary.explain(options.steps, options.mutation))
    took = time.perf_counter() - began
    print(
        f"{summary.seeds} seeds, {len(summary.bad)} of them bad; {summary.steps} steps at "
        f"{summary.steps / took:.0f}/s, {summary.turns} turns, {summary.deaths} deaths of the daemon, "
        f"{summary.executions} evaluations, {summary.deliveries} results"
    )
    return 1 if summary.bad else 0


def run_here(seeds: range | list[int], steps: int, folder: Path, trace: int, *, until_bad: bool) -> Summary:
    """Run seeds one after the other; those that go wrong once more, to see how."""
    summary = Summary()
    for seed in seeds:
        report = simulate(seed, steps, folder / "state", trace=trace)
        if report.violation and not trace:
            report = simulate(seed, steps, folder / "state", trace=_LINES)
            if not report.violation:
                raise RuntimeError(
                    f"seed {seed} went wrong once and not again: it depends on something beside its seed"
                )
        bad = [(seed, report.violation, report.trace)] if report.violation else []
        digests = {seed: report.digest} if report.digest else {}
        counts = (report.steps, report.turns, report.deaths, report.executions, report.deliveries)
        summary.add(Summary(1, *counts, bad, digests))
        if bad and until_bad:
            break
    return summary


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--seeds", type=int, nargs="*", help="these seeds instead")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps before the faults stop")
    parser.add_argument("--trace", type=int, default=0, metavar="LINES", help="lines of what happened to show")
    parser.add_argument("--mutation", default="", choices=["", *MUTATIONS], help="put a bug in first")
    parser.add_argument("--jobs", type=int, default=1, help="in so many processes")
    parser.add_argument("--until-bad", action="store_true", help="stop at the first bad seed")
    parser.add_argument("--json", action="store_true", help="print the summary for programs")
    return parser.parse_args()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of strings must not depend on the process
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
