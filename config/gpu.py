"""The keys of the driver `gpu`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field as PydanticField, ValidationInfo, WithJsonSchema, field_validator

from taskmaster.config.base import setting
from taskmaster.config.kernels import parse_kernel, parse_signature, problems, source_problem
from taskmaster.config.options import DriverOptions
from taskmaster.config.values import Environment, ExistingFolder, FunctionName, base_folder, duration, show

if TYPE_CHECKING:
    from taskmaster.config.lines import KeyPath

__all__ = ["GpuOptions"]


def _read_kernel(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected 'file.cu:name', got {show(value)}")  # noqa: TRY004 - pydantic's way to be told
    file, name = parse_kernel(value)
    path = base_folder(info) / file
    if problem := source_problem(path, name):
        raise ValueError(problem)
    return f"{path}:{name}"


def _read_signature(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected the kernel's arguments, got {show(value)}")  # noqa: TRY004 - as above
    parse_signature(value)
    return value


def _read_devices(value: object) -> object:
    if value == "all" or isinstance(value, tuple):
        return value
    if not (isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)):
        raise ValueError(f"expected 'all' or the numbers of devices, such as [0, 1], got {show(value)}")
    if len(set(value)) != len(value):
        raise ValueError(f"a device is named twice in {show(value)}")
    return tuple(value)


KernelName = Annotated[
    str,
    BeforeValidator(_read_kernel),
    WithJsonSchema({"type": "string", "title": "kernel", "pattern": r"^.+:[A-Za-z_]\w*$"}),
]
Signature = Annotated[str, BeforeValidator(_read_signature), WithJsonSchema({"type": "string", "title": "signature"})]
Devices = Annotated[
    Literal["all"] | tuple[int, ...],
    BeforeValidator(_read_devices),
    WithJsonSchema(
        {
            "title": '`"all"` or list of whole numbers',
            "anyOf": [
                {"type": "string", "const": "all"},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": True},
            ],
        }
    ),
]


class GpuOptions(DriverOptions):
    """Keys of the driver `gpu`: one worker process for each device, which evaluates many tasks in one launch."""

    function: FunctionName | None = setting(
        "The function that evaluates a batch, as `module:name`; its module is searched in `path` first. It gets the "
        "rows as one array `(n, d)` on the device, in the order of the parameters, and returns the outputs of all: an "
        "array `(n,)` or `(n, k)`, or a dict of columns. Each Master has this, or `kernel`.",
        default=None,
        shown="must be given, or `kernel`",
        example="lorenz:exponent",
    )
    kernel: KernelName | None = setting(
        "In place of `function`: a kernel of a CUDA source file, as `file.cu:name`, relative to this file. It has one "
        "thread for each row. Compiled once, and kept by CuPy on disk.",
        default=None,
        example="lorenz.cu:exponent",
    )
    signature: Signature | None = setting(
        "With `kernel`, its arguments as in the source. `X` is the rows, `(n, d)`; the name of a parameter its "
        "column; the name of an output what is written to; `Y` all outputs, `(n, k)`; `n` the number of rows.",
        default=None,
        example="const double* X, double* Y, int n",
    )
    block: Annotated[int, PydanticField(ge=1, le=1024)] = setting("With `kernel`, threads of a block.", default=256)
    compile: Annotated[tuple[str, ...], PydanticField(strict=False)] = setting(
        "With `kernel`, further options for the compiler.", default=(), example='["--use_fast_math"]'
    )
    array: Literal["cupy", "torch", "jax"] = setting(
        "Whose arrays the function takes and returns: CuPy's, or by DLPack, without a copy, PyTorch's or JAX's.",
        default="cupy",
    )
    device: Literal["cuda", "cpu"] = setting(
        "Where it is evaluated. `cpu`: the same function gets numpy's arrays (or PyTorch's or JAX's, on the CPU), for "
        "development and tests; it is never chosen by itself.",
        default="cuda",
    )
    devices: Devices = setting(
        'Which devices get a worker process each: `"all"`, or their numbers as `nvidia-smi` counts them. With '
        '`device = "cpu"`, as many processes as numbers (`"all"`: one).',
        default="all",
    )
    batch: Annotated[int, PydanticField(ge=1, le=1 << 24)] = setting(
        "Rows of one launch at most. How many it is follows from the measured time of launches and from the free "
        "memory.",
        default=1 << 18,
    )
    streams: Annotated[int, PydanticField(ge=1, le=8)] = setting(
        "Batches that may be under way at a time, each in a CUDA stream of its own. With 1 they follow each other: for "
        "a function that keeps on the device what one call leaves for the next, such as the state of a generator of "
        "random numbers.",
        default=3,
    )
    linger: Annotated[float, duration()] = setting(
        "How long an idle device waits for a batch to become full. By default it never waits: what comes while it is "
        "busy forms the next batch.",
        default=0.0,
        shown="0 s",
    )
    dtype: Literal["float64", "float32"] | None = setting(
        "What numbers the rows are made of. (Where all parameters are whole numbers or all are true or false, and this "
        "is left out, rows are of those: `int64`, `bool`.)",
        default=None,
        shown="float64",
    )
    path: Annotated[tuple[ExistingFolder, ...], PydanticField(strict=False)] = setting(
        "Folders to import from, relative to this file.", default=(".",), validate_default=True
    )
    setup: FunctionName | None = setting(
        "Called once in each process before the first evaluation, as `module:name`.", default=None
    )
    teardown: FunctionName | None = setting(
        "Called once in each process before it leaves, as `module:name`.", default=None
    )
    recycle_after: Annotated[int, PydanticField(ge=1)] | None = setting(
        "Evaluations after which a process is replaced by a fresh one, against leaks. By default never.", default=None
    )
    env: Environment = setting(
        "Environment variables for the processes, beside the daemon's own. `CUDA_VISIBLE_DEVICES` is set for each.",
        default={},
    )
    restarts: Annotated[int, PydanticField(ge=0)] = setting(
        "How often within `restart_window` the process of a device that died before it had begun any task is replaced; "
        "after that the device is given up, and the Master goes on with the others.",
        default=5,
    )
    restart_window: Annotated[float, duration("1 s")] = setting(
        "The span of time within which `restarts` are counted.", default=60.0, shown="60 s"
    )

    @field_validator("env")
    @classmethod
    def _leave_devices(cls, env: Mapping[str, str]) -> Mapping[str, str]:
        if "CUDA_VISIBLE_DEVICES" in env:
            raise ValueError("CUDA_VISIBLE_DEVICES is set for each process, by `devices`; remove it here")
        return env

    @property
    def evaluates(self) -> bool:
        return self.function is not None or self.kernel is not None

    def importables(self) -> dict[str, str]:
        named = {"function": self.function, "setup": self.setup, "teardown": self.teardown}
        return {key: name for key, name in named.items() if name is not None}

    @property
    def places(self) -> tuple[int, ...] | None:
        """The devices that get a process each, by their numbers; None: all that there are."""
        if self.devices == "all":
            return (0,) if self.device == "cpu" else None
        return tuple(number for number in self.devices if isinstance(number, int))

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        yield from _ways(table)
        if not table.get("parameters"):
            yield ("parameters",), "are missing: rows of numbers have columns in a declared order"
        for name, keys in _tables(table, "parameters"):
            yield from _numeric(("parameters", name), keys)
        if table.get("kernel") and "signature" in table:
            yield from _of_signature(table)


def _tables(table: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = table.get(key)
    for name, keys in found.items() if isinstance(found, dict) else ():
        if isinstance(keys, dict):
            yield name, keys


def _numeric(path: KeyPath, keys: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    choices = keys.get("choices")
    if keys.get("kind") in ("str", "any") or (isinstance(choices, list) and any(isinstance(c, str) for c in choices)):
        yield path, "is text, and rows on a device are numbers; number the choices"
    shape = keys.get("shape")
    if isinstance(shape, list) and -1 in shape:
        yield (*path, "shape"), "an axis of any length does not fit rows of one length; give its length"


def _ways(table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """A Master has a function or a kernel, and what goes with that."""
    kernel = "kernel" in table
    if not kernel and "function" not in table:
        yield ("function",), "is missing; for example function = 'lorenz:exponent', or kernel = 'lorenz.cu:exponent'"
    if kernel and "function" in table:
        yield ("kernel",), "a Master has a function or a kernel; remove one of the two"
    if kernel and "signature" not in table:
        yield ("signature",), "is missing; for example signature = 'const double* X, double* Y, int n'"
    if kernel and table.get("device") == "cpu":
        yield ("device",), "'cpu' evaluates a Python function; a CUDA kernel needs a device"
    if kernel and not table.get("outputs"):
        yield ("outputs",), "are missing: what a kernel writes has to be declared"
    if kernel and table.get("array", "cupy") != "cupy":
        yield ("array",), "has no effect beside kernel; remove it"
    for key in ("signature", "block", "compile"):
        if key in table and not kernel:
            yield (key,), "goes with kernel, which there is none of; remove it"


def _of_signature(table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    try:
        arguments = parse_signature(table["signature"])
    except (ValueError, AttributeError):
        return  # somebody else's complaint
    parameters, outputs = (dict(_tables(table, key)) for key in ("parameters", "outputs"))
    for text in problems(arguments, tuple(parameters), tuple(outputs)):
        yield ("signature",), text
    for name, keys in outputs.items():
        if keys.get("kind") in ("str", "any") or keys.get("choices"):
            yield ("outputs", name), "is no plain number, and that is what a kernel writes"
        elif -1 in (keys.get("shape") or ()):
            yield ("outputs", name, "shape"), "a kernel is given the room for what it writes; give the length"
