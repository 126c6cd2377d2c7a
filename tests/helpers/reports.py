"""A process beside the daemon's that looks at its journal over and over: ``python -m helpers.reports STATE``.

Says ``looking`` before the first look; ends when its standard input does, with a line for each kind of answer it got:
how often, and what.
"""

from __future__ import annotations

import select
import sys
from collections import Counter
from pathlib import Path

from taskmaster.daemon.journal.report import report


def main(state: Path) -> None:
    answers: Counter[str] = Counter()
    print("looking", flush=True)
    while not (answers and select.select([sys.stdin], [], [], 0)[0]):
        shown = report(state)
        wrong = [*shown.findings, *(run.line() for run in shown.runs if not run.ok)]
        answers["; ".join(wrong) or f"whole, beside {shown.daemon}"] += 1
    for answer, times in answers.most_common():
        print(times, answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
