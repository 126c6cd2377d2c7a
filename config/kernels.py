"""What a CUDA kernel is called with, as the configuration declares it: ``"const double* X, double* y, int n"``.

Each argument has the type it has in the source, and a name that says what it is: ``X`` the rows of the batch,
``(n, d)`` and row by row; the name of a parameter its column; the name of an output its column, which the kernel
writes; ``Y`` all of them, ``(n, k)`` and row by row; ``n`` the number of rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Argument", "parse_kernel", "parse_signature", "problems", "source_problem"]

#: C's name of a type → numpy's
TYPES: Mapping[str, str] = {
    "double": "<f8",
    "float": "<f4",
    "bool": "|b1",
    "int": "<i4",
    "unsigned": "<u4",
    "unsigned int": "<u4",
    "long long": "<i8",
    "unsigned long long": "<u8",
    "int32_t": "<i4",
    "uint32_t": "<u4",
    "int64_t": "<i8",
    "uint64_t": "<u8",
    "size_t": "<u8",
}
_ARGUMENT = re.compile(r"\s*(const\s+)?([A-Za-z_][A-Za-z_0-9]*(?:\s+(?:int|long|const))*?)\s*(\*?)\s*(\w+)\s*")
_QUALIFIERS = re.compile(r"\b__restrict__\b|\b__restrict\b|\brestrict\b")


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel."""

    name: str
    #: numpy's name of its type, or of what it points to
    dtype: str
    is_pointer: bool
    is_const: bool


def parse_kernel(text: str) -> tuple[str, str]:
    """``"file.cu:name"`` as the file and the kernel's name. Raises ValueError."""
    file, colon, name = text.rpartition(":")
    if not (colon and file and name.isidentifier()):
        raise ValueError(
            f"expected a file and the name of a kernel in it, such as 'lorenz.cu:trajectory', got {text!r}"
        )
    return file, name


def parse_signature(text: str) -> tuple[Argument, ...]:
    """The arguments that a signature declares. Raises ValueError saying which is not one."""
    found = []
    for piece in text.split(","):
        plain = _QUALIFIERS.sub(" ", piece)
        match = _ARGUMENT.fullmatch(plain)
        words = " ".join(match[2].split()) if match else ""
        if match is None or words not in TYPES:
            raise ValueError(
                f"{piece.strip()!r} is no argument such as 'const double* X', 'float* y' or 'int n'; types are "
                f"{', '.join(TYPES)}"
            )
        found.append(Argument(match[4], TYPES[words], bool(match[3]), bool(match[1])))
    return tuple(found)


def problems(arguments: Sequence[Argument], parameters: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """What is wrong with a signature for a Master of these parameters and outputs."""
    found = []
    names = [argument.name for argument in arguments]
    found += [f"{name!r} stands in it twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    known = {"X", "Y", "n", *parameters, *outputs}
    for argument in arguments:
        name = argument.name
        if name not in known:
            found.append(f"{name!r} is none of X, Y, n, a parameter ({', '.join(parameters)}) or an output "
                         f"({', '.join(outputs)})")  # fmt: skip
        elif name == "n" and name not in {*parameters, *outputs}:
            if argument.is_pointer or argument.dtype[1] not in "iu":
                found.append("n is the number of rows: a whole number, such as 'int n'")
        elif not argument.is_pointer:
            found.append(f"{name!r} is a column, so a pointer: write '*'")
        elif argument.is_const and (name == "Y" or name in outputs):
            found.append(f"{name!r} is an output, which a kernel cannot write if it is const")
    if "n" not in names:
        found.append("the number of rows, such as 'int n', is missing: the last block has threads beyond it")
    missing = [name for name in outputs if name not in names] if "Y" not in names else []
    if missing:
        found.append(f"nothing is written to the output {missing[0]!r}: it, or Y, is missing")
    if "Y" in names and (doubled := [name for name in outputs if name in names]):
        found.append(f"Y is all outputs, {doubled[0]!r} among them: remove one of the two")
    return found


def source_problem(path: Path, name: str) -> str:
    """Why a file cannot have this kernel; empty if it seems to."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    if not re.search(rf"__global__[^;{{]*\b{re.escape(name)}\s*\(", source):
        there = re.findall(r"__global__[^;{]*?\b(\w+)\s*\(", source)
        return f"{path} has no __global__ function {name!r}" + (f"; it has {', '.join(there)}" if there else "")
    if 'extern "C"' not in source:
        return f'{path}: kernel {name!r} is found by its name only if it is declared extern "C"'
    return ""
