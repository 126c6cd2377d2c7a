"""Text that a regular expression matches: what a simulated instrument says where a description gives only that.

Walks the expression as Python's own compiler has parsed it, simplest choice first, and tries the next where the text
turns out not to match (what looks ahead or behind is not constructed, only tried). Packages that do this fill in random
printable characters, which nobody wants to read in a table of identities, and cannot be told what stands in a group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from re import _parser as parser  # type: ignore[attr-defined]  # as hypothesis and coverage have it
from typing import Any

__all__ = ["matching"]

#: Texts that are looked at for one expression.
_TRIES = 2000
#: Items that a repetition comes to at most, as each is a call in a call.
_MOST_REPEATED = 100
#: What `.*` stands for.
_ANYTHING = "simulated"
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-+.,:;/!\"#$%&'()*<=>?@[\\]^`{|}~"
_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda c: not c.isdecimal(),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda c: not c.isspace(),
    "CATEGORY_WORD": lambda c: c.isalnum() or c == "_",
    "CATEGORY_NOT_WORD": lambda c: not (c.isalnum() or c == "_"),
}
#: Choices at one place that are tried.
_CHOICES = 8

#: What is still to be written: pairs of what the parser calls an operation and its argument.
_Items = Sequence[tuple[Any, Any]]
_Groups = dict[int, str]


def matching(pattern: str, fill: str | None = None) -> Iterator[str]:
    """Texts that ``pattern`` matches as a whole, simplest first; some of many, none if none is found.

    With ``fill``, that is what the first group matches, or the whole text if there is no group.
    """
    compiled = re.compile(pattern)
    if fill is not None and not compiled.groups:
        if compiled.fullmatch(fill):
            yield fill
        return
    tree = parser.parse(pattern, compiled.flags & ~re.DEBUG)
    seen: set[str] = set()
    for text, _ in islice(_written(tuple(tree), {}, fill), _TRIES):
        match = compiled.fullmatch(text)
        if match and (fill is None or match[1] == fill) and text not in seen and text.isprintable():
            seen.add(text)
            yield text


def _written(items: _Items, groups: _Groups, fill: str | None) -> Iterator[tuple[str, _Groups]]:
    """Texts for a sequence of items, with what its groups have become."""
    plain = next((i for i, (operation, _) in enumerate(items) if str(operation) != "LITERAL"), len(items))
    front, items = "".join(chr(argument) for _, argument in items[:plain]), items[plain:]
    if not items:
        yield front, groups
        return
    for text, now in _one(*items[0], groups, fill):
        for rest, then in _written(items[1:], now, fill):
            yield front + text + rest, then


def _one(operation: Any, argument: Any, groups: _Groups, fill: str | None) -> Iterator[tuple[str, _Groups]]:
    """Texts for one item."""
    match str(operation):
        case "SUBPATTERN":
            yield from _group(argument, groups, fill)
        case "ATOMIC_GROUP":
            yield from _written(tuple(argument), groups, fill)
        case "BRANCH":
            for branch in argument[1]:
                yield from _written(tuple(branch), groups, fill)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            yield from _repeated(argument, groups, fill)
        case "GROUPREF":
            yield groups.get(argument, ""), groups
        case "GROUPREF_EXISTS":
            group, yes, no = argument
            yield from _written(tuple(yes if group in groups else no or ()), groups, fill)
        case "AT" | "ASSERT" | "ASSERT_NOT":
            yield "", groups
        case kind:
            yield from ((character, groups) for character in _characters(kind, argument))


def _group(argument: Any, groups: _Groups, fill: str | None) -> Iterator[tuple[str, _Groups]]:
    number, *_, inside = argument
    if number == 1 and fill is not None:
        yield fill, {**groups, 1: fill}
        return
    for text, now in _written(tuple(inside), groups, fill):
        yield text, (now if number is None else {**now, number: text})


def _repeated(argument: Any, groups: _Groups, fill: str | None) -> Iterator[tuple[str, _Groups]]:
    least, most, inside = argument
    items = tuple(inside)
    if [str(operation) for operation, _ in items] == ["ANY"] and least <= len(_ANYTHING) <= most:
        yield _ANYTHING, groups
    for count in range(least, min(int(most), least + _CHOICES - 1) + 1):
        if count * len(items) <= _MOST_REPEATED:
            yield from islice(_written(items * count, groups, fill), _CHOICES)


def _characters(kind: str, argument: Any) -> Iterator[str]:
    """Single characters, few of them."""
    match kind:
        case "LITERAL":
            yield chr(argument)
        case "NOT_LITERAL":
            yield from islice((c for c in _ALPHABET if ord(c) != argument), _CHOICES)
        case "ANY":
            yield from _ALPHABET[:_CHOICES]
        case "IN":
            yield from islice((c for c in _first(argument) if _belongs(c, argument)), _CHOICES)


def _first(members: _Items) -> Iterator[str]:
    """What a set names itself, then anything."""
    for operation, argument in members:
        if str(operation) == "LITERAL":
            yield chr(argument)
        elif str(operation) == "RANGE":
            yield from map(chr, range(argument[0], min(argument[1], argument[0] + 2) + 1))
    yield from "0" + _ALPHABET


def _belongs(character: str, members: _Items) -> bool:
    negated = str(members[0][0]) == "NEGATE"
    return negated != any(_is_member(character, str(operation), argument) for operation, argument in members)


def _is_member(character: str, operation: str, argument: Any) -> bool:
    match operation:
        case "LITERAL":
            return bool(ord(character) == argument)
        case "RANGE":
            return bool(argument[0] <= ord(character) <= argument[1])
        case "CATEGORY":
            return _CATEGORIES[str(argument)](character)
    return False
