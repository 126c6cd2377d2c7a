"""Profiles as text that says the same on every machine: functions by their module's path, no folders of this one."""

from __future__ import annotations

import cProfile
import io
import pstats
import re
from pathlib import Path

__all__ = ["profile_text"]

#: Lines of a profile that are worth reading.
_LINES = 20
#: What comes before a module's own path.
_FOLDERS = re.compile(r"/\S*/(?=(?:taskmaster|benchmarks|zmq)/)|/\S*/python3\.\d+/")


def profile_text(profile: cProfile.Profile | Path) -> str:
    """The functions that take the most time themselves."""
    printed = io.StringIO()
    source = str(profile) if isinstance(profile, Path) else profile
    pstats.Stats(source, stream=printed).sort_stats("tottime").print_stats(_LINES)
    summary, _, functions = printed.getvalue().partition("   Ordered by:")
    totals = next(line.strip() for line in summary.splitlines() if "function calls" in line)
    table = functions[functions.index("   ncalls") :]
    return f"{totals}\n\n{_FOLDERS.sub('', table).rstrip()}\n"
