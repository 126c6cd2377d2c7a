"""A program that maps, with the mapper chosen in one place.

python examples/mapping.py
"""

from __future__ import annotations

import math

from taskmaster.learners.mappers import GuidedMapper, mapper


def row(y: int) -> int:
    return sum(mapper(math.gcd, range(1, 201), [y] * 200))  # within a mapping: a plain loop


def main() -> None:
    print(sum(mapper(row, range(1, 201))), "by", type(mapper.current).__name__)
    with mapper.using(GuidedMapper("processes", workers=2)):
        print(sum(mapper(row, range(1, 201))), "by", type(mapper.current).__name__)


if __name__ == "__main__":
    main()
