"""``python -m benchmarks``: measure, print the table, keep it as JSON, refresh the documents."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.contest import Row
from benchmarks.figures import FIGURES, ON_REQUEST, Figure
from benchmarks.report import as_json, table, write_section
from benchmarks.timeline import TRIPS, timeline

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
#: Figures whose work runs through a contest, so that ours can be profiled alone.
_PROFILED = ("put", "round-trip", "rows", "scalars", "uneven")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 if a figure is below what it must be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.profile and not set(options.only or ["put"]) <= set(_PROFILED):
        parser.error(f"--profile goes with {', '.join(_PROFILED)} only")
    if options.write_docs and not (options.profile or options.timeline) and (options.quick or options.only):
        parser.error("--write-docs replaces the whole table: it goes neither with --quick nor with --only")
    if options.cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    if machine.is_memory(options.folder):
        sys.stderr.write(f"{options.folder} lies in memory, where a sync costs nothing; choose a disk with --folder\n")
    bench = Bench(options.folder, options.repeat, options.quick, options.profile)
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
    if options.timeline:
        _timeline(bench, command, write=options.write_docs)
        return 0
    if options.profile:
        _profile(bench, options.only or ["put"], command, write=options.write_docs)
        return 0
    rows = _measure(bench, options, command)
    print(table(rows))
    if options.quick:
        print("\n--quick: the sizes are tiny, these figures mean nothing")
    return int(not bench.quick and any(row.verdict == "BELOW MUST" for row in rows))


def _measure(bench: Bench, options: argparse.Namespace, command: str) -> list[Row]:
    started = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    facts = machine.describe(bench.folder)
    rows: list[Row] = []
    for name in options.only or [name for name in FIGURES if name not in ON_REQUEST]:
        sys.stderr.write(f"{name} …\n")
        rows += _undisturbed(FIGURES[name], bench, options.quiet)
        if options.json is not None:  # after each figure: a run that is broken off has measured something, too
            options.json.write_text(as_json(rows, facts, command, started), encoding="utf-8")
    if options.write_docs:
        described = "\n".join(f"- {name}: {value}" for name, value in facts.items())
        write_section(DOCUMENT, "machine", described)
        write_section(DOCUMENT, "table", f"`{command}`, {started} UTC:\n\n{table(rows)}")
    return rows


def _undisturbed(figure: Figure, bench: Bench, patience: float) -> list[Row]:
    """The rows of a figure, measured again while neighbours disturb it and ``patience`` seconds have not passed.

    What is kept is not the best attempt but the least disturbed one.
    """
    deadline = time.monotonic() + patience
    attempts: list[tuple[float, list[Row]]] = []
    while True:
        machine.await_quiet(deadline - time.monotonic())
        watch = machine.Watch()
        measured = figure(bench)
        conditions = watch.conditions()
        rows = [dataclasses.replace(row, conditions=conditions) for row in measured]
        attempts.append((conditions.neighbours, rows))
        if conditions.neighbours <= machine.QUIET or time.monotonic() >= deadline:
            return min(attempts, key=lambda attempt: attempt[0])[1]


def _profile(bench: Bench, names: Sequence[str], command: str, *, write: bool) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for name in names:
            FIGURES[name](bench)
    print(printed.getvalue())
    if write:
        write_section(DOCUMENT, f"profile {bench.profile}", f"`{command}`:\n\n```\n{printed.getvalue().strip()}\n```")


def _timeline(bench: Bench, command: str, *, write: bool) -> None:
    pieces = []
    for durability in ("crash", "power"):
        with tempfile.TemporaryDirectory(prefix="taskmaster-", dir=bench.folder) as folder:
            pieces.append(timeline(Path(folder), durability, trips=bench.size(TRIPS)))
    printed = "\n\n".join(pieces)
    print(printed)
    if write:
        write_section(DOCUMENT, "timeline", f"`{command}`:\n\n```\n{printed}\n```")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: tests the suite, measures nothing")
    names = ", ".join(FIGURES)
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="NAME", help=f"some of {names}")
    parser.add_argument("--repeat", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    parser.add_argument("--write-docs", action="store_true", help="refresh docs/performance.md")
    parser.add_argument(
        "--quiet",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait so long, for each figure, until nobody else wants the processors; measure the disturbed again",
    )
    parser.add_argument("--cpus", metavar="LIST", help="run everything on these processors, such as 0: a control")
    parser.add_argument(
        "--folder", type=Path, default=Path("/var/tmp"), help="on the disk to measure with (default /var/tmp)"
    )
    parser.add_argument(
        "--profile",
        choices=["daemon", "client", "worker"],
        default="",
        help=f"profile that process instead; for {', '.join(_PROFILED)}",
    )
    parser.add_argument("--timeline", action="store_true", help="show where one task spends its round trip instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
