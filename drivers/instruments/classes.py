"""Any Python class as a head, from the configuration alone: the driver ``instrument``.

The options, a head's own over the Master's::

    class  = "pymeasure.instruments.keithley:Keithley2400"   # a class of PyMeasure, QCoDeS, ophyd-async, or one's own
    resource = "GPIB0::24::INSTR"
    identity = "KEITHLEY INSTRUMENTS.*"                      # asked at every connection, must match as a whole
    kwargs = { timeout = 2000 }                              # and args: for the class
    init   = ["reset", { source_mode = "voltage", compliance_current = 1e-3 }, "enable_source"]
    set    = { bias = "source_voltage" }                     # parameter → property, parameter of QCoDeS, or method
    call   = ["trigger"]                                     # between set and read
    read   = { current = "current" }                         # output → property, parameter, or method
    safe   = ["shutdown"]

A method with arguments is a table, ``{ method = "ramp", args = [3], kwargs = { pause = 0.1 } }``; in ``set`` the value
comes before ``args``; in ``call`` and ``read``, ``{ parameter = "x" }`` among them is the task's value of x. Among the
class's own ``args`` and ``kwargs``, ``"{resource}"`` and ``"{name}"`` are the head's,
``{ class = "pkg:Class", args, kwargs }`` makes an object and ``{ object = "pkg:NAME" }`` is one (an enumeration's
member, a constant). Where there are ``args``, the class is called with just these, else as its library has it. Without
``set``, ``call`` and ``read``, the class evaluates by its own method ``evaluate(x)``. A subclass of :class:`Head` is
used as it is, made with its :class:`HeadContext`. Exceptions of a library that mean a lost connection, and do not show
it, are named in ``lost``.

A library hides which of its calls reach the instrument, and a property may act when it is read. So a task counts as
begun before its first step, whatever that is. A call into a library cannot be interrupted: a stop takes effect between
two steps, and the longest step's time-out is the longest that a stop can take before the process is ended for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event
from typing import Any

import numpy as np

from taskmaster.bus.errors import ConfigError, InvalidOutput, InvalidTask
from taskmaster.bus.values import encode
from taskmaster.config.heads import is_simulated
from taskmaster.drivers.instruments.adapters import Adapter, Recipe, adapter_class
from taskmaster.drivers.instruments.adapters.own import OwnAdapter, own_head
from taskmaster.drivers.instruments.attributes import class_name
from taskmaster.drivers.instruments.binding import Bound, arguments_of, bind, find_class
from taskmaster.drivers.instruments.claims import Claim
from taskmaster.drivers.instruments.errors import LinkError, Stopped, Unreachable, WrongIdentity
from taskmaster.drivers.instruments.failures import Translated
from taskmaster.drivers.instruments.head import Head, HeadContext
from taskmaster.drivers.instruments.plan import Call, Plan, read_plan

__all__ = ["ClassHead", "make_head"]

_PLAIN = frozenset({float, int, bool, str, type(None)})


def make_head(context: HeadContext) -> Head:
    """The head that ``context.options`` describe; nothing is connected yet.

    Raises ConfigError naming the key, the class or the module that is wrong.
    """
    options = context.options
    kind = find_class(options["class"], options.get("path", ()))
    if issubclass(kind, Head):
        args, kwargs = arguments_of(options, context.name)
        return own_head(kind, context, args or (), kwargs)
    return ClassHead(context, kind)


class ClassHead(Head):
    """An object of a class that is no :class:`Head`, worked by its names in the configuration."""

    marks_acting = True

    def __init__(self, context: HeadContext, kind: type) -> None:
        """Raises ConfigError where the tables do not fit the Master's parameters and outputs."""
        super().__init__(context)
        options = context.options
        self._kind = kind
        self._plan: Plan = read_plan(options, context.parameters, context.outputs)
        self._lost_by = tuple(find_class(name, (), BaseException) for name in options.get("lost") or ())
        adapter = adapter_class(kind)
        if self._plan.is_empty:
            if not callable(getattr(kind, "evaluate", None)):
                raise ConfigError(f"{class_name(kind)} has no method evaluate(x): say in `set` and `read` what to do")
            adapter = OwnAdapter if adapter is Adapter else adapter
        self._adapter_class = adapter
        self._adapter: Adapter | None = None
        self._bound: Bound | None = None
        self._claim: Claim | None = None
        #: whether nothing is to be said to the instrument any more: the connection is lost, or it is another one
        self._silent = False
        #: nothing was set: the object is let go of as it is, without what its library does for safety then
        self._looks_on = False
        #: looked at before each step: `stopping`, but while the head is made safe or let go of
        self._heeded = self.stopping

    @property
    def instrument(self) -> Any:
        """The object itself, to be used by the head's thread; None while there is no connection."""
        return None if self._bound is None else self._bound.instrument

    # -- the head -----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Make the object, which may say something to the instrument by itself, and ask who it is."""
        self._connect()
        self._looks_on = True

    def open(self) -> None:
        for what, step in self._connect().init:
            with self._asking(what):
                step()

    def identify(self) -> str:
        bound = self._connected()
        assert self._adapter is not None
        with self._asking("asking who it is"):
            return self._adapter.identify(bound.instrument)

    def evaluate(self, x: Any) -> Any:
        bound = self._connected()
        if self._plan.is_empty:
            self.begin_acting()
            with self._asking("evaluate"):
                output = bound.instrument.evaluate(x)
            return self._stepped(output) if isinstance(output, Generator) else output
        x = {} if x is None else x  # all that there is to say where there are no parameters
        if not isinstance(x, Mapping):
            raise InvalidTask(f"{self.context.label}: a task is a table of the declared parameters, not {x!r}")
        self.apply(x)
        return self._outputs(bound, x)

    def apply(self, x: Mapping[str, Any]) -> None:
        """Do what `set` and `call` say."""
        bound = self._connected()
        if self._plan.is_empty:
            raise ConfigError(
                f"{self.context.label}: a programme sets and reads by the tables `set` and `read`; declare them"
            )
        self.begin_acting()
        for name, what, put in bound.set:
            with self._asking(what):
                put(x[name])
            self.between()
        for what, call in bound.call:
            with self._asking(what):
                call(x)
            self.between()

    def read(self) -> Any:
        bound = self._connected()
        for name, entry in self._plan.read.items():
            if isinstance(entry, Call) and (needed := next(entry.parameters(), None)):
                raise ConfigError(f"read.{name}: cannot be read without a task: it takes the parameter {needed!r}")
        return self._outputs(bound, {})

    def look(self, table: Mapping[str, Any]) -> Any:
        """The property, parameter or method of the object that ``table`` names as `method`. Raises LinkErrors."""
        name, bound = table["method"], self._bound
        if bound is None or self._adapter is None:
            raise Unreachable(f"{self.context.label}: not connected")
        with self._asking(f"looking at {name}"):
            return self._adapter.getter(bound.instrument, name)()

    def disarm_watchdog(self) -> None:
        with self._undisturbed():
            super().disarm_watchdog()

    def _call_watchdog(self, what: str) -> None:
        name = (self.options.get("watchdog") or {}).get(what)
        if name and self._bound is not None and self._adapter is not None:
            with self._asking(f"calling {name}"):
                self._adapter.method(self._bound.instrument, name, (), {})()

    def safe(self) -> None:
        """The declared safe state; a connection is made for it where there is none, and the identity asked, no more.

        Every step is tried, also where one before has failed; what was raised is raised at the end. Where an `identity`
        is declared, the instrument is asked for it after them: it has heard them if it answers.
        """
        if self._bound is None and not (self._adapter_class.safe if self._plan.safe is None else self._plan.safe):
            return
        with self._undisturbed():
            bound = self._bound if self._bound is not None and not self._silent else self._connect()
            failures = list(self._failures(bound.safe))
            if self._plan.identity is not None:
                self.identify()
        if failures:
            raise failures[0]

    def _failures(self, steps: Iterable[tuple[str, Callable[[], Any]]]) -> Iterator[Exception]:
        """Take every step of these; what was raised. Raises LinkErrors at once: no further step would arrive."""
        for what, step in steps:
            try:
                with self._asking(what):
                    step()
            except LinkError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a library raises, the other steps are as urgent
                yield error

    def close(self) -> None:
        """Let go of the object and the resource. What a lost connection says to that is of no interest."""
        bound, self._bound = self._bound, None
        silent, self._silent, self._looks_on = self._silent or self._looks_on, False, False
        try:
            if bound is not None and self._adapter is not None:
                with self._undisturbed(), self._asking("closing"):
                    self._adapter.close(bound.instrument, silent=silent)
        except LinkError:
            if not silent:
                raise
        finally:
            if self._claim is not None:
                self._claim.close()
                self._claim = None

    # -- connecting ---------------------------------------------------------------------------------------------------

    def _connected(self) -> Bound:
        if self._bound is None:
            raise RuntimeError(f"{self.context.label} is not open")
        return self._bound

    def _connect(self) -> Bound:
        """A fresh object, with all names of the plan found in it, that is the declared instrument.

        Nothing is sent but what the class sends when it is made, and the question who it is.
        """
        self._silent = True  # whatever there was is just let go of
        self.close()
        options = self.options
        resource = str(options.get("resource") or "")
        if resource and not is_simulated(options):
            self._claim = self.context.claim(resource, self.context.label)
        try:
            self._adapter = self._adapter_class(self._recipe(resource), self._heeded)
            with self._asking(f"connecting to {resource}" if resource else f"making a {class_name(self._kind)}"):
                instrument = self._adapter.make()
        except BaseException:
            self.close()
            raise
        self._bound = Bound(instrument, (), (), (), (), ())
        try:
            self._bound = bind(self._plan, self._adapter, instrument)
            self._check_identity()
        except BaseException:
            self._silent = True  # it is not the instrument, or not the class, that was meant
            self.close()
            raise
        return self._bound

    def _recipe(self, resource: str) -> Recipe:
        name = self._adapter_class.named(self.name or self.context.master or self._kind.__name__)
        args, kwargs = arguments_of(self.options, name)
        return Recipe(self._kind, name, resource, args, kwargs, self.options.get("backend") or "")

    def _check_identity(self) -> None:
        wanted = self._plan.identity
        if wanted is None:
            return
        found = self.identify()
        said = repr(found) if found else "an instrument that does not say what it is"
        if wanted.fullmatch(found) is None:
            raise WrongIdentity(
                f"{self.context.label}: {self.options.get('resource') or class_name(self._kind)} is {said}, not "
                f"{wanted.pattern!r}; nothing is sent to it. Connect the right instrument, or correct `identity`"
            )

    # -- steps --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Around each step: a stop comes before it, and what it raises is translated."""
        if self._heeded.is_set():
            raise Stopped(f"{self.context.label} was stopped before {what}")
        try:
            with Translated(f"{self.context.label}: {what}", self._lost_by):
                yield
        except LinkError:
            self._silent = True
            raise

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """For what has to be done although, or because, the head is stopped."""
        before = self._heeded
        self._heed(Event())
        try:
            yield
        finally:
            self._heed(before)

    def _heed(self, stopping: Event) -> None:
        self._heeded = stopping
        if self._adapter is not None:
            self._adapter.stopping = stopping

    def _stepped(self, evaluation: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        with self._asking("evaluate"):
            return (yield from evaluation)

    def _outputs(self, bound: Bound, x: Mapping[str, Any]) -> dict[str, Any]:
        outputs = {}
        for name, what, get in bound.read:
            with self._asking(what):
                outputs[name] = get(x)
            self.between()
            _require_travelling(outputs[name], f"{self.context.label}: {what}")
        return outputs


def _require_travelling(value: Any, what: str) -> None:
    """Raise InvalidOutput where a library gave something that only it understands."""
    if type(value) in _PLAIN or (type(value) is np.ndarray and value.dtype.kind in "biufc"):
        return
    try:
        encode(value)
    except TypeError as error:
        raise InvalidOutput(f"{what}: {error}") from None
