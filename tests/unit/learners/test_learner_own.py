"""Learners of one's own by ``module:Class``: what they are made of, and what is said where that cannot be."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners import registry
from taskmaster.learners.protocol import describe

X = Field("x", min=0, max=1)

CODE = """
    class Walk:
        '''Goes on by a step.'''

        def __init__(self, step, start=0.0, *, names=()):
            self.given = step, start, names
            self.name = None

        def bind(self, parameters, outputs=()):
            self.name = parameters[0].name

        def ask(self, n):
            return [{self.name: 0.5}] * n

        def tell(self, point, output):
            pass

        class Inner:
            def ask(self, n): return []
            def tell(self, point, output): pass

    class Open(Walk):
        def __init__(self, **options):
            self.given = options

    class Silent:
        def ask(self, n): return []

    class Broken(Walk):
        def __init__(self): raise OSError("no file")

    def make(parameters, outputs, seed, options):
        return Walk(*[field.name for field in parameters], options)

    def other(step):
        return Walk(step)

    it = Walk(1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, with a module ``walking``."""
    (tmp_path / "walking.py").write_text(textwrap.dedent(CODE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "walking", raising=False)  # another test's
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.mark.usefixtures("folder")
def test_a_class_is_made_of_its_options() -> None:
    def given(name: str, **options: str) -> object:
        return registry.create(name, [X], options=options).given  # type: ignore[attr-defined]

    assert given("walking:Walk", step="0.25", names='["a", "b"]') == (0.25, 0.0, ["a", "b"])
    assert given("walking:Walk", step="far", start="true") == ("far", True, ())
    assert given("walking:Open", anything="None") == {"anything": None}
    assert given("walking:make", step="1") == ("x", {"step": "1"}, ()), "a factory: its options are text"
    assert describe(registry.create("walking:Walk.Inner", [X])) == "walking.Walk.Inner"
    assert registry.factory("walking:Walk").__doc__ == "Goes on by a step."


@pytest.mark.usefixtures("folder")
def test_what_can_be_put_around_a_learner_can_be_put_around_ones_own() -> None:
    learner = registry.create("walking:Walk", [X], options={"step": "1", "wrap.dedup": "yes"})
    assert describe(learner) == "walking.Walk, nothing twice"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("walking:Walk", {}, "cannot be made without its argument 'step': give it as an option, step=VALUE"),
        ("walking:Walk", {"step": "1", "stat": "2"}, "has no option 'stat'; did you mean 'start'"),
        ("walking:walk", {}, r"module 'walking' \(.*walking\.py\) has no 'walk'; did you mean 'Walk'"),
        ("walking:Nothing", {}, "has no 'Nothing'; its classes are 'Walk', 'Open', 'Silent', 'Broken'"),
        ("walking:Silent", {}, r"Silent is no learner, it has no tell\(\)"),
        ("walking:other", {}, r"called as one that makes learners: other\(parameters, outputs, seed, options\)"),
        ("walking:it", {}, "is an object of Walk; name the class"),
        ("elsewhere:Walk", {}, "no learner is called 'elsewhere', and there is no such module in "),
        ("optunna:TPESampler", {}, "no learner is called 'optunna', and .*; did you mean 'optuna'"),
        ("random:Walk", {}, "learner 'random' is no family of learners"),
        ("walking:", {}, "no learner is called 'walking'"),
        (":Walk", {}, "no learner is called ''"),
    ],
)
def test_what_cannot_be_is_said(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        registry.create(name, [X], options=options)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("import nowhere_to_be_found", ModuleNotFoundError), ("x = = 1", SyntaxError), ("1 / 0", ZeroDivisionError)],
)
def test_what_a_module_raises_comes_through_with_a_note(code: str, kind: type[Exception], folder: Path) -> None:
    (folder / "wrong.py").write_text(code)
    with pytest.raises(kind) as caught:
        registry.create("wrong:Walk", [X])
    assert caught.value.__notes__ == ["That is from the module of learner 'wrong:Walk', when it was imported."]


@pytest.mark.usefixtures("folder")
def test_what_a_class_raises_comes_through_with_a_note() -> None:
    with pytest.raises(OSError, match="no file") as caught:
        registry.create("walking:Broken", [X])
    assert caught.value.__notes__ == ["The learner 'walking:Broken' raised that when it was made."]
