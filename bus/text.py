"""Words for people: suggestions for misspelt names, durations, sizes, counts."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

__all__ = [
    "FIELD_NAME",
    "count",
    "did_you_mean",
    "did_you_mean_or",
    "entry",
    "format_duration",
    "format_size",
    "how_to_resolve",
    "lacking",
    "nearest",
    "parse_duration",
    "parse_size",
    "printable",
    "printable_lines",
    "shortened",
]

#: Characters of what peers may say of something: far longer than anybody means it.
LONGEST_TEXT = 20_000
#: What a parameter or output may be called, as a regular expression.
FIELD_NAME = r"[^\W\d][\w.-]*"

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: dict[str, int] = {
    "B": 1,
    **{f"{p}B": 1000**k for k, p in enumerate("kMGT", 1)},
    **{f"{p}iB": 1024**k for k, p in enumerate("KMGT", 1)},
}
#: Names that are listed in a message, and how many of more than these.
_MOST_NAMED, _FEW_NAMED = 40, 5
#: Seconds of the longest duration taken: 300 years.
_LONGEST = 1e10
#: Characters of the longest word that a near one is looked for, and pairs of a letter of it and one of a known word
#: that are compared at most: that takes time, and others wait.
_LONGEST_WORD, _MOST_PAIRS = 100, 200_000
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([a-zµA-Z]*)\s*")


def count(n: int, one: str, many: str = "") -> str:
    """``1 task``, ``2 tasks``; ``many`` where that is not ``one`` with an s."""
    return f"{n} {one if n == 1 else many or f'{one}s'}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` may be a slip of; None if none is near."""
    close = _least_unlike(word, known, 1, 0.6)
    return close[0] if close else None


def _least_unlike(word: str, known: Iterable[str], n: int, cutoff: float) -> list[str]:
    """Those known words that are most like this one; of very many long ones not all are looked at."""
    if len(word) > _LONGEST_WORD:
        return []
    candidates, left = [], _MOST_PAIRS
    for name in known:
        if len(name) <= _LONGEST_WORD:
            left -= len(word) * len(name)
            if left < 0:
                break
            candidates.append(name)
    return difflib.get_close_matches(word, candidates, n, cutoff)


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """The beginning of a text, as it can travel: names of files, for one, may hold bytes that are no Unicode."""
    text = text[: most + 1].encode(errors="backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to ``word``, or nothing."""
    close = nearest(word, known)
    return "" if close is None else f"; did you mean {close!r}?"


def did_you_mean_or(word: str, known: Iterable[str], there_are: str = "there are") -> str:
    """``; did you mean 'x'?`` if a known word is near, else ``; there are 'x', 'y'``: what to write instead.

    Of very many the ones that are least unlike it.
    """
    names = list(known)
    if hint := did_you_mean(word, names):
        return hint
    if len(names) <= _MOST_NAMED:
        return f"; {there_are} {', '.join(map(repr, names)) or 'none'}"
    few = _least_unlike(word, names, _FEW_NAMED, 0.0) or names[:_FEW_NAMED]
    return f"; {there_are} {len(names)}, among them {', '.join(map(repr, few))}"


def how_to_resolve(run: int, index: int) -> str:
    """The command by which an operator says what became of a task in doubt."""
    return f"taskmaster resolve {run} {index} done|retry|fail"


def lacking(who: str, packages: str, extra: str, error: object = "") -> str:
    """What to install where packages of an extra are missing; ``who`` needs them, and ``error`` is what Python said.

    They are named themselves: that works however TaskMaster was installed, its extra only from where it came.
    """
    them = packages.split()
    needs = f"{who} {' and '.join(them)}" + (f" ({error})" if error else "")
    return f"{needs}: pip install {packages} ({'it is' if len(them) == 1 else 'they are'} in the extra {extra!r})"


def parse_duration(text: str | float) -> float:
    """Seconds in ``"60 s"``, ``"1.5 min"``, ``"20 ms"``; a bare number is seconds. Raises ValueError."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if not 0 <= text <= _LONGEST:
            raise ValueError(f"a duration cannot be {text}")
        return float(text)
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    unit = match[2] or "s" if match else ""
    if match is None or unit not in _SECONDS:
        raise ValueError(f"{text!r} is not a duration; write a number and one of {', '.join(_SECONDS)}, like '60 s'")
    seconds = float(match[1]) * _SECONDS[unit]
    if seconds > _LONGEST:
        raise ValueError(f"the duration {text!r} is too large")
    return seconds


def parse_size(text: str | int) -> int:
    """Bytes in ``"512 MB"``, ``"2 GiB"``; a bare number is bytes. Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    unit = match[2] or "B" if match else ""
    if match is None or unit not in _BYTES:
        raise ValueError(f"{text!r} is not a size; write a number and one of {', '.join(_BYTES)}, like '512 MB'")
    size = float(match[1]) * _BYTES[unit]
    if math.isinf(size):
        raise ValueError(f"the size {text!r} is too large")
    return int(match[1]) * _BYTES[unit] if match[1].isdecimal() else round(size)


def format_duration(seconds: float) -> str:
    """A duration for people: ``340 µs``, ``12 ms``, ``3.4 s``, ``2 min 5 s``, ``3 h 20 min``, ``4 d 2 h``."""
    # The bounds are where a number is rounded up to the next unit.
    if seconds < 999.5e-6:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 999.5e-3:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    for big, small, big_name, small_name in ((60, 1, "min", "s"), (3600, 60, "h", "min"), (86400, 3600, "d", "h")):
        if seconds < big * (60 if big < 3600 else 24 if big < 86400 else float("inf")) - small / 2:
            whole, rest = divmod(round(seconds / small), big // small)
            return f"{whole} {big_name} {rest} {small_name}" if rest else f"{whole} {big_name}"
    raise ValueError(f"{seconds} is not a duration")


def format_size(size: float) -> str:
    """A size for people: ``512 B``, ``1.2 MB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def printable(text: str) -> str:
    """A text that somebody else has written, in one line, and without what a terminal would take for an order."""
    return printable_lines(" ".join(text.split()))


def printable_lines(text: str) -> str:
    """As :func:`printable`, in the lines and with the blanks that it has."""
    if text.isprintable():
        return text
    lines = (line.removesuffix("\r").expandtabs() for line in text.split("\n"))
    return "\n".join("".join(map(_shown, line)) for line in lines)


def entry(text: str) -> str:
    """As :func:`printable_lines`, for a log: no line but the first could pass for the beginning of another entry."""
    return re.sub(r"\n(?! {4})", "\n    ", printable_lines(text))


def _shown(letter: str) -> str:
    return letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
