"""The demo's progress says where it stands, in few words and short lines."""

from __future__ import annotations

import io

from rich.console import Console

from taskmaster.cli.demos.svm_view import DemoView, point_text


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain() -> Console:
    return Console(file=io.StringIO(), width=80)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_plain_line_comes_every_few_seconds_and_at_the_end() -> None:
    console, clock = plain(), Clock()
    with DemoView(console, 40, "accuracy", live=False, clock=clock) as view:
        for told in range(1, 41):
            clock.now += 0.25
            view.update(told, 1.0 / told, {"log_C": 0.5, "log_gamma": -told / 10}, min(0.9, told / 20))

    lines = printed(console).splitlines()
    assert [line.split()[0] for line in lines] == ["1/40", "13/40", "25/40", "37/40", "40/40"]
    assert lines[0] == "1/40 points  – points/s  loss 1.0000  best accuracy 0.0500 at log_C = 0.50, log_gamma = -0.10"
    assert "4.0 points/s" in lines[1], "a quarter of a second each"
    assert "6 s left" in lines[2] or "4 s left" in lines[2]
    assert lines[-1].endswith("best accuracy 0.9000 at log_C = 0.50, log_gamma = -1.80"), "the first of equals"


def test_the_live_lines_fit_a_narrow_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, legacy_windows=False)
    with DemoView(console, 10_000, "accuracy", live=True) as view:
        for told in range(1, 20):
            view.update(told, 0.123456, {"log_C": -1.987, "log_gamma": -5.987}, 0.98765)
        view.say("A line above.")
    drawn = plain()
    drawn.print(view.draw())
    lines = printed(drawn).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert "19/10000 points" in lines[0]
    assert "loss 0.1235" in lines[1]
    assert lines[2].strip() == "best accuracy 0.9877 at log_C = -1.99, log_gamma = -5.99"
    assert "A line above." in printed(console)


def test_a_point_in_words() -> None:
    assert point_text({"x": 1.0, "y": -0.5}) == "x = 1.00, y = -0.50"
