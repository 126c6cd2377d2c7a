"""Keys pressed at a terminal, with nobody at it."""

from __future__ import annotations

import os
import pty
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from helpers.waiting import eventually

from taskmaster.cli.keys import keys_pressed

#: Of what `tcgetattr` gives, where the flag is that has shown what is typed.
LOCAL_FLAGS = 3


@pytest.mark.parametrize(
    "typed",
    ["S", "sS", "\x1bOSS", "\x1b[1;2SS", "\x1b[15~\x1bOQS", "é∂S"],
    ids=["itself", "another case", "F4", "shift and F4", "F5 and F2", "letters of others"],
)
def test_letters_are_heard_and_those_in_the_sequences_of_other_keys_are_not(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyboard, screen = pty.openpty()

    def is_echoing() -> bool:
        return bool(termios.tcgetattr(screen)[LOCAL_FLAGS] & termios.ECHO)

    def type_it() -> None:
        eventually(lambda: not is_echoing(), "the terminal to be listened to, key by key")
        os.write(keyboard, f"{typed}q".encode())

    with os.fdopen(screen) as terminal, ThreadPoolExecutor() as typist:
        monkeypatch.setattr(sys, "stdin", terminal)
        with closing(keys_pressed("SqQ")) as keys:
            typing = typist.submit(type_it)
            assert [next(keys), next(keys)] == ["S", "q"]
            typing.result()
        assert is_echoing(), "the terminal is as it was before"
    os.close(keyboard)
