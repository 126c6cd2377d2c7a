"""On which line each key of a TOML document stands.

``tomllib`` gives values without positions. This reads the same text once more for nothing but keys: it relies on the
document being valid, so a few regular expressions do.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

__all__ = ["KeyPath", "Lines", "locate"]

#: Where a value is in the document: keys of tables, indices of arrays.
KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY_PART = re.compile(
    r"""[ \t]* (?: (?P<bare>[A-Za-z0-9_-]+) | (?P<quoted> "(?:[^"\\\n]|\\.)*" | '[^'\n]*' ) ) [ \t]* (?P<more>\.?)""",
    re.VERBOSE,
)
#: A value that holds no keys. Closing quotes of multi-line strings can follow up to two that belong to the text.
_SCALAR = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5} | \'\'\'(?:[^']|'{1,2}(?!'))*'{3,5}'''
    r"""| "(?:[^"\\\n]|\\.)*" | '[^'\n]*' | [^,\]}\#\n]+""",
    re.VERBOSE | re.DOTALL,
)


class Lines:
    """Line numbers, from 1, by key path."""

    def __init__(self, known: dict[KeyPath, int]) -> None:
        self._known = known

    def __getitem__(self, path: KeyPath) -> int:
        """The line of the key at ``path``; of the nearest table around it that the document has, else 1."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._known:
                return self._known[path[:end]]
        return 1

    def __contains__(self, path: KeyPath) -> bool:
        return path in self._known


def locate(text: str) -> Lines:
    """Find the keys of ``text``, a document that ``tomllib`` accepts.

    A table that several lines add to is at its ``[header]`` if it has one, else where it is first named. An element
    of an array is where it begins.
    """
    return Lines(_Scanner(text).scan())


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.known: dict[KeyPath, int] = {}
        self._tables_in: dict[KeyPath, int] = {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip_blank():
            if self.text.startswith("[[", self.position):
                self.position += 2
                table = self._open_element()
            elif self.text[self.position] == "[":
                self.position += 1
                table = self._inside(self._key())
                self._note(table, explicit=True)
                self.position += 1
            else:
                self._pair(table)
        return self.known

    def _open_element(self) -> KeyPath:
        """After ``[[``: the path of the new element of the array of tables."""
        key = self._key()
        array = (*self._inside(key[:-1]), key[-1])
        index = self._tables_in.get(array, 0)
        self._tables_in[array] = index + 1
        self._note(array)
        self._note((*array, index))
        self.position += 2
        return (*array, index)

    def _inside(self, key: KeyPath) -> KeyPath:
        """A header's key as a path: where it goes through an array of tables, through the last one so far."""
        path: KeyPath = ()
        for part in key:
            path = (*path, part)
            if path in self._tables_in:
                path = (*path, self._tables_in[path] - 1)
        return path

    def _pair(self, table: KeyPath) -> None:
        path = table + self._key()
        self._note(path)
        self.position += 1  # the equals sign
        self._skip_blank()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        opening = self.text[self.position]
        if opening not in "[{":
            scalar = _SCALAR.match(self.text, self.position)
            assert scalar is not None, f"not a value at character {self.position}"
            self.position = scalar.end()
            return
        self.position += 1
        closing = "]" if opening == "[" else "}"
        index = 0
        while self._skip_blank() and self.text[self.position] != closing:
            if opening == "[":
                element = (*path, index)
                self._note(element)
                self._value(element)
                index += 1
            else:
                self._pair(path)
            self._skip_blank()
            if self.text[self.position] == ",":
                self.position += 1
        self.position += 1

    def _key(self) -> KeyPath:
        parts: list[str] = []
        while True:
            match = _KEY_PART.match(self.text, self.position)
            assert match is not None, f"not a key at character {self.position}"
            self.position = match.end()
            quoted = match["quoted"]
            parts.append(tomllib.loads(f"key = {quoted}")["key"] if quoted else match["bare"])
            if not match["more"]:
                return tuple(parts)

    def _note(self, path: KeyPath, explicit: bool = False) -> None:
        line = bisect_right(self._starts, self.position)
        for end in range(1, len(path)):
            self.known.setdefault(path[:end], line)
        if explicit:
            self.known[path] = line
        else:
            self.known.setdefault(path, line)

    def _skip_blank(self) -> bool:
        """Go to the next character that means something; False at the end."""
        match = _BLANK.match(self.text, self.position)
        assert match is not None  # it matches nothing, too
        self.position = match.end()
        return self.position < len(self.text)
