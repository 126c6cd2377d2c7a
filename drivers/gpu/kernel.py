"""A kernel of a CUDA source file as a function of the rows of a batch."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskmaster.bus.fields import Schema
from taskmaster.config.kernels import Argument, parse_kernel, parse_signature
from taskmaster.drivers.gpu.device import Function

__all__ = ["Kernel", "kernel_function"]

_INCLUDED = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


def kernel_function(options: Mapping[str, Any], parameters: Schema, outputs: Schema) -> Function:
    """The function that launches the kernel of these options. Raises what CuPy says where it does not compile."""
    import cupy

    file, name = parse_kernel(options["kernel"])
    source = _found(Path(file))
    text = source.read_text(encoding="utf-8")
    # CuPy keeps what it has compiled on disk, by source, options and device.
    compiled = (*(options.get("compile") or ()), *_for_headers(text, source.parent))
    launch = cupy.RawModule(code=text, options=compiled).get_function(name)
    return Kernel(launch, options["signature"], int(options.get("block") or 256), parameters, outputs, cupy)


def _for_headers(text: str, folder: Path) -> tuple[str, ...]:
    """Options by which a source finds the headers beside it: NVRTC is told the text, and not where that comes from.

    One has a digest of theirs, for CuPy knows what it has compiled by the source alone.
    """
    headers = _headers(text, folder, {})
    if not headers:
        return ()
    digest = hashlib.sha256("\0".join(headers[name] for name in sorted(headers)).encode()).hexdigest()
    return f"-I{folder}", f"-DTASKMASTER_HEADERS=0x{digest[:15]}"


def _headers(text: str, folder: Path, found: dict[str, str]) -> dict[str, str]:
    """The text of each that is included, by whichever, as far as they lie in this folder."""
    for name in _INCLUDED.findall(text):
        file = folder / name
        if name not in found and file.is_file():
            found[name] = file.read_text(encoding="utf-8")
            _headers(found[name], folder, found)
    return found


def _found(file: Path) -> Path:
    """A source file where it lies with the daemon; or, by its name, where modules are imported from here."""
    places = (file, *(Path(folder) / file.name for folder in sys.path if folder))
    return next((place for place in places if place.is_file()), file)


class Kernel:
    """Launches a kernel with the arguments that its signature asks for; ``library`` makes the arrays."""

    def __init__(
        self, launch: Any, signature: str, block: int, parameters: Schema, outputs: Schema, library: Any
    ) -> None:
        self._launch = launch
        self._arguments = parse_signature(signature)
        self._block = block
        self._columns = _columns(parameters)
        self._outputs = {field.name: tuple(field.shape) for field in outputs.fields}
        self._library = library

    def __call__(self, rows: Any) -> Any:
        """One thread for each row."""
        n = rows.shape[0]
        written: dict[str, Any] = {}
        arguments = tuple(self._value(argument, rows, n, written) for argument in self._arguments)
        self._launch((-(-n // self._block),), (self._block,), arguments)
        return self._divided(written["Y"], n) if "Y" in written else written

    def _divided(self, whole: Any, n: int) -> Any:
        """What of ``Y`` is which output, where that does not follow from its columns."""
        if not any(self._outputs.values()):
            return whole
        found, at = {}, 0
        for name, shape in self._outputs.items():
            width = math.prod(shape)
            found[name] = whole[:, at : at + width].reshape(n, *shape)
            at += width
        return found

    def _value(self, argument: Argument, rows: Any, n: int, written: dict[str, Any]) -> Any:
        library, name = self._library, argument.name
        if name == "X":
            return library.ascontiguousarray(rows, dtype=argument.dtype)
        if name in self._outputs:
            written[name] = library.empty((n, *self._outputs[name]), argument.dtype)
            return written[name]
        if name == "Y":
            width = sum(math.prod(shape) for shape in self._outputs.values())
            written[name] = library.empty((n, width), argument.dtype)
            return written[name]
        if name in self._columns:
            return library.ascontiguousarray(rows[:, self._columns[name]], dtype=argument.dtype)
        return library.dtype(argument.dtype).type(n)


def _columns(parameters: Schema) -> dict[str, Any]:
    """Where each parameter is among the columns of the rows."""
    places: dict[str, Any] = {}
    at = 0
    for field in parameters.fields:
        width = math.prod(field.shape)
        places[field.name] = at if not field.shape else slice(at, at + width)
        at += width
    return places
