"""What functions return, packed into columns; what does not fit becomes the error of its own task only."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taskmaster.bus import table as tables
from taskmaster.bus.errors import InvalidTask, TaskMasterError
from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Table

__all__ = ["OutputPacker", "task_error"]

#: Characters of a message and of a traceback that are told; of a longer traceback, its two ends.
_MESSAGE_LENGTH = 4096
_TRACEBACK_LENGTH = 16_000


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
        except Exception:  # noqa: BLE001 - an object of the user's may raise anything when it is looked at
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
        if only is None and not self._schema:
            return _checked(tables.pack_values(values))
        if only is not None and only.kind == "float" and not only.shape and set(map(type, values)) <= _NUMBERS:
            column = np.array(values, "<f8").reshape(-1, 1)
            table = tables.pack_matrix(column, self._schema.names)
            self._schema.check(table)
            return table
        return _checked(self._schema.pack_rows([self._row(value) for value in values]))

    def _row(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, Mapping):
            return self._schema.row(value)
        if self._only is not None:
            return self._schema.row({self._only.name: value})
        raise InvalidTask(
            f"Master {self._schema.owner!r}: a function of {len(self._schema.fields)} outputs "
            f"({', '.join(self._schema.names)}) returns a dict of them, not {type(value).__name__}"
        )

    def _pack_one_by_one(self, positions: Sequence[int], values: Sequence[Any]) -> tuple[Table | None, list[TaskError]]:
        good, errors = [], []
        for position, value in zip(positions, values):
            try:
                self._pack([value])
                good.append(value)
            except Exception as error:  # noqa: BLE001 - see above
                errors.append(TaskError(position, _kind(error), _message(error)))
        return (self._pack(good) if good else None), errors


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


def _checked(table: Table) -> Table:
    """The table, if the daemon will take it. What is refused there could not be told from what is lost."""
    return Table.checked(table.layout, table.n, table.frames)


def task_error(position: int, error: BaseException, skip: int = 1) -> TaskError:
    """What a task's exception looks like to the learner; ``skip`` frames of ours are left out of the traceback."""
    frames = error.__traceback__
    for _ in range(skip):
        if frames is not None and frames.tb_next is not None:
            frames = frames.tb_next
    text = _sayable("".join(traceback.format_exception(type(error), error, frames)))
    if len(text) > _TRACEBACK_LENGTH:
        text = f"{text[: _TRACEBACK_LENGTH // 2]}\n  …\n{text[-_TRACEBACK_LENGTH // 2 :]}"
    return TaskError(position, _kind(error), _message(error), text)


def _kind(error: BaseException) -> str:
    kind, module = type(error).__qualname__, type(error).__module__
    ours = issubclass(type(error), TaskMasterError)
    return _sayable(kind if ours or module in ("builtins", "__main__") else f"{module}.{kind}")


def _message(error: BaseException) -> str:
    try:
        return _sayable(str(error))[:_MESSAGE_LENGTH]
    except BaseException as another:  # noqa: BLE001 - a user's class may raise anything here, which must not end the worker
        return f"<its message cannot be shown: {type(another).__qualname__}>"


def _sayable(text: str) -> str:
    """Text as a message can carry it: half characters (from the name of a file, say) are written out."""
    return text.encode(errors="backslashreplace").decode()
