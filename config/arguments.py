"""Places in the arguments of a class, ``"{resource}"`` and ``"{name}"``: which there are, and what comes into them.

For the configuration and for the workers: no more is imported than both have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from taskmaster.bus.text import nearest
from taskmaster.config.lines import KeyPath

__all__ = ["filled", "unknown_places"]

_WORDS = ("resource", "name")
#: A word in braces is a place; in two, it is that text with one. Whatever else has braces, JSON say, is left alone.
_PLACE = re.compile(r"\{\{(?P<literal>[A-Za-z_]\w*)\}\}|\{(?P<word>[A-Za-z_]\w*)\}")


def filled(text: str, words: Mapping[str, str]) -> str:
    """An argument's text with the head's ``words`` in their places; what else is in braces stays."""
    return _PLACE.sub(
        lambda place: f"{{{place['literal']}}}" if place["literal"] else words.get(place["word"], place[0]), text
    )


def unknown_places(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """The places in arguments, at ``path`` of the file, that nothing is filled into, and what is wrong with each."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from unknown_places(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from unknown_places(item, (*path, i))
    elif isinstance(value, str):
        for place in _PLACE.finditer(value):
            word = place["word"]
            if word is not None and word not in _WORDS:
                meant = nearest(word, _WORDS)
                hint = f"did you mean {{{meant}}}?" if meant else "there are {resource} and {name}."
                yield path, f"{place[0]}: nothing is filled in there; {hint} As a text of its own, write {{{place[0]}}}"
