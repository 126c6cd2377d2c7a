"""What functions return, packed into columns; what does not fit becomes the error of its own task only."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from taskmaster.bus import table as tables
from taskmaster.bus.cut import cut_outcome
from taskmaster.bus.errors import InvalidOutput
from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Buffer, Table
from taskmaster.bus.text import shortened
from taskmaster.bus.values import encode, require_unmasked
from taskmaster.bus.wire import MOST_ERRORS

__all__ = ["OutputPacker", "Portion", "portions", "task_error", "time_of"]

#: Characters of what is told of an exception.
_KIND = 256
_MESSAGE = 4096
_TRACEBACK = 16_000
#: Bytes of what it holds beside its message.
_MADE_OF = 4096
#: What the errors of one report may take: they travel in the header, which is bounded; the rest of it takes less.
_HEADER_BYTES = 1 << 20


class OutputPacker:
    """Packs the outputs of one Master's tasks."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._only = schema.fields[0] if len(schema.fields) == 1 else None

    def pack(self, positions: Sequence[int], values: Sequence[Any]) -> tuple[Table | None, list[TaskError]]:
        """A table of ``values`` (the outputs of the tasks at ``positions``), and errors for those that do not fit."""
        if not values:
            return None, []
        try:
            return self._pack(values), []
        except Exception:  # noqa: BLE001 - a user's class may raise anything when it is looked at
            return self._pack_one_by_one(positions, values)

    def pack_batch(self, result: Any, n: int) -> Table:
        """A table of what a vectorised function returned for ``n`` tasks.

        Raises ValueError, TypeError or ProtocolError where it does not fit, and what the user's objects raise.
        """
        if not self._schema:
            if not isinstance(result, Mapping):
                return _checked(tables.pack_values(_of_length(result, n, "the batch function's result")))
            if not result:
                raise ValueError(f"the batch function returned no column at all for {n} tasks")
            columns = {str(name): _of_length(column, n, f"column {name!r}") for name, column in result.items()}
            return _checked(tables.pack_columns(columns, n))
        if not isinstance(result, Mapping):
            require_unmasked(result)
            result = self._split_columns(np.asarray(result))
        for name, column in result.items():
            _of_length(column, n, f"column {name!r}")
        table = _checked(self._schema.pack_points(result))
        self._schema.check(table)
        return table

    def _split_columns(self, array: Any) -> Mapping[str, Any]:
        if self._only is not None:
            return {self._only.name: array}
        if array.ndim < 2 or array.shape[1] != len(self._schema.fields):
            raise ValueError(
                f"a batch function of {len(self._schema.fields)} outputs returns a dict of columns or an array (n, "
                f"{len(self._schema.fields)}), not one of shape {array.shape}"
            )
        return {name: array[:, k] for k, name in enumerate(self._schema.names)}

    def _pack(self, values: Sequence[Any]) -> Table:
        only = self._only
        if len(values) == 1 and type(values[0]) is float and only is not None:
            return self._schema.pack_rows((self._schema.row({only.name: values[0]}),))
        if only is not None and only.kind == "float" and not only.shape and set(map(type, values)) <= _NUMBERS:
            column = np.array(values, "<f8").reshape(-1, 1)
            table = tables.pack_matrix(column, self._schema.names)
            self._schema.check(table)
            return table
        return self._pack_rows(values)

    def _pack_rows(self, values: Sequence[Any]) -> Table:
        if not self._schema:
            return _checked(tables.pack_values(values))
        return _checked(self._schema.pack_rows([self._row(value) for value in values]))

    def _row(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, Mapping):
            return self._schema.row(value)
        if self._only is not None:
            return self._schema.row({self._only.name: value})
        raise InvalidOutput(
            f"Master {self._schema.owner!r}: a function of {len(self._schema.fields)} outputs "
            f"({', '.join(self._schema.names)}) returns a dict of them, not {type(value).__name__}"
        )

    def _pack_one_by_one(self, positions: Sequence[int], values: Sequence[Any]) -> tuple[Table | None, list[TaskError]]:
        good, errors = [], []
        for position, value in zip(positions, values):
            try:
                self._pack_rows([value])
                good.append(value)
            except Exception as error:  # noqa: BLE001 - see above
                errors.append(TaskError(position, shortened(type(error).__qualname__, _KIND), _message(error)))
        return (self._pack(good) if good else None), errors


def _checked(table: Table) -> Table:
    """The table, if the daemon will take it: what it would refuse is to fail its task, not to end the worker."""
    return Table.checked(table.layout, table.n, table.frames)


class Portion(NamedTuple):
    """What became of the tasks at positions ``low ≤ p < high``: as of an outcome, see :mod:`taskmaster.bus.cut`."""

    low: int
    high: int
    outputs: Table | None
    times: Buffer | None
    errors: tuple[TaskError, ...]


def portions(portion: Portion, max_message: int) -> Iterator[Portion]:
    """The same in portions of which each fits into a message of ``max_message`` bytes.

    An output that is too large by itself becomes the error of its task.
    """
    low, high, outputs, times, errors = portion
    n = high - low
    header = min(_HEADER_BYTES, max_message // 2)
    size = outputs.nbytes if outputs is not None else 0
    texts = sum(map(_text_bytes, errors))
    if n > 1 and (size > max_message - header or texts > header or len(errors) > MOST_ERRORS):
        for start, stop in ((0, n // 2), (n // 2, n)):
            part = cut_outcome(outputs, times, errors, start, stop)
            yield from portions(Portion(low + start, low + stop, *part), max_message)
        return
    if size > max_message - header:
        what = (
            f"its output has {size} bytes, more than fits into a message of {max_message}; return less, or the name of "
            "a file, or raise max_message of [daemon]"
        )
        outputs, errors = None, (TaskError(0, "OutputTooLarge", what),)
    elif texts > header:
        (error,) = errors
        kept = header // 16  # characters, of at most four bytes each
        errors = (TaskError(0, error.kind[:kept], error.message[:kept], error.traceback[-kept:]),)
    yield Portion(low, high, outputs, times, errors)


def time_of(part: Portion, whole: Portion, seconds: float) -> tuple[float, float, Buffer | None]:
    """What of the ``seconds`` of a whole went into a part: begin and end after the whole's, the part's finish times.

    Without finish times each task has an equal share.
    """
    low, n = part.low - whole.low, whole.high - whole.low
    high = low + part.high - part.low
    if whole.times is None:
        return seconds * low / n, seconds * high / n, None
    finished = np.frombuffer(whole.times, "<f8")
    begin = float(finished[low - 1]) if low else 0.0
    return begin, float(finished[high - 1]), (finished[low:high] - begin).tobytes()


def _text_bytes(error: TaskError) -> int:
    texts = (error.kind, error.message, error.traceback)
    return len(error.made_of) + sum(len(text.encode(errors="replace")) for text in texts)


_NUMBERS = {float, int, np.float64, np.float32}


def _of_length(column: Any, n: int, what: str) -> Any:
    try:
        length = len(column)
    except TypeError:
        raise TypeError(
            f"{what} must have one value for each of the {n} tasks, not be a {type(column).__name__}"
        ) from None
    if length != n:
        raise ValueError(f"{what} has {length} values for {n} tasks")
    return column


def task_error(position: int, error: BaseException, skip: int = 1) -> TaskError:
    """What a task's exception looks like to the learner; ``skip`` frames of ours are left out of the traceback."""
    frames = error.__traceback__
    for _ in range(skip):
        if frames is not None and frames.tb_next is not None:
            frames = frames.tb_next
    kind = type(error).__qualname__
    module = type(error).__module__
    if module not in ("builtins", "__main__"):
        kind = f"{module}.{kind}"
    message = _message(error)
    return TaskError(position, shortened(kind, _KIND), message, _traceback(error, frames), _made_of(error, message))


def _made_of(error: BaseException, message: str) -> bytes:
    """What pickle would make it anew of, if that can travel and is not much; nothing where its message says it all."""
    try:
        reduced = error.__reduce__()
        if isinstance(reduced, str):
            return b""
        kind, arguments, *rest = reduced
        attributes = rest[0] if rest and rest[0] is not None else {}
        if kind is not type(error) or (arguments == (message,) and not attributes):
            return b""
        data = encode((arguments, attributes))
    except Exception:  # noqa: BLE001 - a user's class may do anything here, and hold what cannot travel
        return b""
    return data if len(data) <= _MADE_OF else b""


def _message(error: BaseException) -> str:
    try:
        return shortened(str(error), _MESSAGE)
    except BaseException as another:  # noqa: BLE001 - a user's class may raise anything, which must not end the worker
        return f"<its message cannot be shown: {type(another).__qualname__}>"


def _traceback(error: BaseException, frames: TracebackType | None) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception:  # noqa: BLE001 - so may one that only says that it is a SyntaxError, or what it was caused by
        text = "".join(traceback.format_tb(frames))
    if len(text) > _TRACEBACK:
        text = f"{text[: _TRACEBACK // 2]}\n  …\n{text[-_TRACEBACK // 2 :]}"
    return shortened(text)
