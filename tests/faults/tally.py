"""What the suite counts, and the table that it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from faults.evidence import Verdict

__all__ = ["HEAD", "Tally", "table"]

#: What the columns are called.
HEAD = ("fault", "injected", "acknowledged", "lost", "repeated", "twice", "again", "longest pause", "")


@dataclass
class Tally:
    """One row of the table: what was injected, and what it cost."""

    fault: str
    #: how often it was injected
    injected: int = 0
    acknowledged: int = 0
    lost: int = 0
    repeated: int = 0
    #: of a Master whose tasks must not act twice, those that did
    twice: int = 0
    #: harmless repetitions, of tasks that may be evaluated again
    again: int = 0
    #: seconds
    pause: float = 0.0
    #: no pause may be longer
    patience: float = 30.0
    complaints: list[str] = field(default_factory=list)
    #: why it was not injected here
    skipped: str = ""

    def add(self, verdict: Verdict) -> None:
        """Count what came of a run."""
        self.acknowledged += verdict.acknowledged
        self.lost += verdict.lost
        self.repeated += verdict.repeated
        self.twice += verdict.twice
        self.again += verdict.again
        self.pause = max(self.pause, verdict.pause)
        self.complaints += verdict.complaints

    def merge(self, other: Tally) -> None:
        """Count what another round has counted."""
        self.injected += other.injected
        self.skipped = other.skipped
        self.add(
            Verdict(
                other.acknowledged, other.lost, other.repeated, other.twice, other.again, other.pause, other.complaints
            )
        )

    @property
    def is_good(self) -> bool:
        """Whether all is as it was promised."""
        return not (self.lost or self.repeated or self.twice or self.complaints or self.pause > self.patience)

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row."""
        if self.skipped:
            return (self.fault, "0", *[""] * 6, f"skipped: {self.skipped}")
        counts = (self.injected, self.acknowledged, self.lost, self.repeated, self.twice, self.again)
        verdict = "" if self.is_good else "BROKEN"
        return (self.fault, *(f"{count:,}" for count in counts), f"{self.pause:.2f} s", verdict)


def table(rows: Sequence[Tally]) -> str:
    """The table, in Markdown."""
    cells = [HEAD, *(row.cells for row in rows)]
    if all(row[-1] == "" for row in cells):
        cells = [row[:-1] for row in cells]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]

    def line(row: Sequence[str]) -> str:
        padded = [text.ljust(w) if k in (0, 8) else text.rjust(w) for k, (text, w) in enumerate(zip(row, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if k in (0, 8) else "-" * (w + 1) + ":" for k, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])
