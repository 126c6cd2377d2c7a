"""One value as bytes: msgpack, with extension types for what science needs besides.

What travels: None, bool, int (any size), float, str, bytes, list, dict, tuple, complex, datetime, numpy arrays and
numpy scalars. Everything else is refused with :class:`TypeError` where it is encoded, by the side that has it: nothing
is ever pickled here.
"""

from __future__ import annotations

import datetime as _dt
import re
import struct
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import ProtocolError

__all__ = ["check_dtype", "check_text", "decode", "decode_words", "encode", "keep"]

EXT_TUPLE = 1
EXT_COMPLEX = 2
EXT_ARRAY = 3
EXT_SCALAR = 4
EXT_INT = 5
EXT_NAIVE_DATETIME = 6

#: Kinds of numpy dtype that are plain memory: bool, integers, floats, complex, bytes, str, timedelta, datetime.
_PLAIN_KINDS = frozenset("biufcSUmM")
#: How numpy itself writes these (`dtype.str`). Nothing else of a peer's may reach `np.dtype`, which is a parser: the
#: unit in "m8[s/0]" ends the process with a division by zero, other spellings warn or come out as records.
_PLAIN_DTYPE = re.compile(
    r"[<>|](?:[biufcSU][1-9][0-9]{0,9}|[mM]8(?:\[(?:[1-9][0-9]{0,8})?(?:[YMWDhms]|ms|us|ns|ps|fs|as)\])?)", re.ASCII
)

Ext = msgspec.msgpack.Ext
_encode = msgspec.msgpack.Encoder().encode

#: Nobody can change these, and all of them can travel.
_LASTING: frozenset[type] = frozenset({type(None), bool, int, float, bytes})
_PLAIN: frozenset[type] = frozenset({type(None), bool, float, str, bytes})


def encode(value: object) -> bytes:
    """``value`` in msgpack. Raises TypeError naming the type that cannot travel."""
    try:
        return _encode(value if type(value) in _PLAIN else _prepare(value))
    except RecursionError:
        raise TypeError("a value that contains itself, or is nested too deeply, cannot travel") from None
    except UnicodeEncodeError as error:
        raise TypeError(f"a text that is no Unicode cannot travel: {error.reason}") from None
    except OverflowError as error:  # of a datetime, in another zone: anything else has room
        raise TypeError(f"a datetime that UTC has no year for cannot travel: {error}") from None


def keep(value: Any) -> Any:
    """``value`` as it is now and certain to travel, to be encoded later: whoever gave it may go on changing theirs.

    Raises TypeError naming the type that cannot travel.
    """
    kind = type(value)
    if kind in _LASTING or (kind is tuple and all(type(item) is float for item in value)):
        return value
    if kind is str and value.isascii():
        return value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        return value.copy()
    return msgspec.Raw(encode(value))


def decode(data: Any) -> Any:
    """The value that :func:`encode` made ``data`` from. Raises ProtocolError if it is not one."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError, OverflowError, struct.error) as error:
        raise ProtocolError(f"a value could not be decoded: {error}") from error


def check_dtype(text: str) -> np.dtype[Any]:
    """The numpy dtype that ``text`` names; ProtocolError unless it is plain memory (no objects, no records)."""
    if len(text) > 16 or not _PLAIN_DTYPE.fullmatch(text):
        raise ProtocolError(f"dtype {text[:32]!r} is not a plain numpy type")
    try:
        return np.dtype(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"dtype {text!r} is unknown: {error}") from error


def check_text(dtype: np.dtype[Any], data: bytes | bytearray | memoryview) -> None:
    """ProtocolError if ``data`` are texts of ``dtype`` that no Python string can hold; numpy looks only when asked."""
    if dtype.kind == "U" and len(data):
        codes = np.frombuffer(data, f"{dtype.str[0]}u4")
        if codes.max() > sys.maxunicode:
            raise ProtocolError(f"a text holds {codes.max():#x}, which is no character")


def _prepare(value: Any) -> Any:
    """``value`` with everything msgpack lacks replaced by extension types."""
    prepare = _PREPARE.get(type(value))
    if prepare is not None:
        return prepare(value)
    for base, prepare in _PREPARE.items():  # subclasses: IntEnum, OrderedDict, namedtuple, np.float64 is a float, …
        if isinstance(value, base):
            return prepare(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(
        f"a value of type {name} cannot travel; use numbers, strings, lists, dicts, tuples, datetimes or numpy arrays"
    )


def _prepare_int(value: int) -> Any:
    if -(2**63) <= value < 2**64:
        return int(value)
    return Ext(EXT_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _prepare_datetime(value: _dt.datetime) -> Any:
    return value if value.tzinfo is not None else Ext(EXT_NAIVE_DATETIME, value.isoformat().encode())


def _prepare_array(value: np.ndarray[Any, Any]) -> Any:
    if value.dtype.kind not in _PLAIN_KINDS:
        raise TypeError(f"a numpy array of dtype {value.dtype} cannot travel; convert it to a numeric dtype or a list")
    value = _with_room(value)
    return Ext(EXT_ARRAY, _headed((value.dtype.str, value.shape), value.tobytes()))


def _prepare_scalar(value: np.generic) -> Any:
    if value.dtype.kind not in _PLAIN_KINDS:
        raise TypeError(f"a numpy scalar of dtype {value.dtype} cannot travel; convert it to a number or a string")
    sized = _with_room(value)
    return Ext(EXT_SCALAR, _headed(sized.dtype.str, sized.tobytes()))


def _with_room(value: Any) -> Any:
    """A numpy value in a dtype of at least a byte: that of an empty text has none."""
    return value if value.dtype.itemsize else np.asarray(value, f"{value.dtype.kind}1")


def _prepare_tuple(value: tuple[Any, ...]) -> Any:
    return Ext(EXT_TUPLE, _encode([_prepare(item) for item in value]))


_PREPARE: dict[type, Callable[[Any], Any]] = {
    msgspec.Raw: lambda v: v,
    np.ndarray: _prepare_array,
    np.generic: _prepare_scalar,
    type(None): lambda v: v,
    bool: lambda v: v,
    int: _prepare_int,
    float: float,
    str: str.__str__,
    bytes: bytes,
    bytearray: bytes,
    memoryview: bytes,
    list: lambda v: [_prepare(item) for item in v],
    dict: lambda v: {_prepare_key(key): _prepare(item) for key, item in v.items()},
    tuple: _prepare_tuple,
    complex: lambda v: Ext(EXT_COMPLEX, struct.pack("<2d", v.real, v.imag)),
    _dt.datetime: _prepare_datetime,
}


def _prepare_key(key: Any) -> Any:
    if isinstance(key, (str, int, float, bytes, bool, type(None))) and not isinstance(key, np.generic):
        plain = _prepare(key)
        if type(plain) is not Ext:
            return plain
        bits = 8 * memoryview(plain.data).nbytes
        shown = repr(key) if bits < 1000 else f"of {bits} bits"  # Python does not write out the largest
        raise TypeError(f"a dict with the key {shown} cannot travel; whole numbers as keys have 64 bits at most")
    raise TypeError(f"a dict with a key of type {type(key).__name__} cannot travel; use strings or numbers as keys")


def _ext_hook(code: int, data: memoryview) -> Any:
    restore = _RESTORE.get(code)
    if restore is None:
        raise ProtocolError(f"extension type {code} is unknown")
    return restore(data)


def _restore_array(data: memoryview) -> np.ndarray[Any, Any]:
    (text, shape), rest = _head(data, _decode_array_head)
    array = _array(rest, text).reshape(shape)
    array.flags.writeable = False
    return array


def _restore_scalar(data: memoryview) -> Any:
    text, rest = _head(data, _decode_str)
    array = _array(rest, text)
    if array.size != 1:
        raise ProtocolError(f"a scalar holds {array.size} values")
    return array[0]


def _restore_complex(data: memoryview) -> complex:
    return complex(*_two_floats(data))


def _array(data: memoryview, text: str) -> np.ndarray[Any, Any]:
    dtype = check_dtype(text)
    array = np.frombuffer(data, dtype)
    check_text(dtype, data)
    return array


def _headed(head: object, body: bytes) -> bytes:
    """``head`` in msgpack behind its length in one byte, then ``body``."""
    packed = _encode(head)
    return bytes((len(packed),)) + packed + body


def _head(data: memoryview, decoder: Callable[[memoryview], Any]) -> tuple[Any, memoryview]:
    """What :func:`_headed` put together."""
    if not data.nbytes or data[0] >= data.nbytes:
        raise ProtocolError("the head of an array is cut short")
    return decoder(data[1 : 1 + data[0]]), data[1 + data[0] :]


_decode_array_head = msgspec.msgpack.Decoder(tuple[str, tuple[int, ...]]).decode
_decode_str = msgspec.msgpack.Decoder(str).decode
_two_floats = struct.Struct("<2d").unpack

_RESTORE: dict[int, Callable[[memoryview], Any]] = {
    EXT_TUPLE: lambda data: tuple(_decode(data)),
    EXT_COMPLEX: _restore_complex,
    EXT_ARRAY: _restore_array,
    EXT_SCALAR: _restore_scalar,
    EXT_INT: lambda data: int.from_bytes(data, "little", signed=True),
    EXT_NAIVE_DATETIME: lambda data: _dt.datetime.fromisoformat(bytes(data).decode()),
}

_decode_strings = msgspec.msgpack.Decoder(list[str]).decode
#: The first bytes of strings of up to 31 and up to 255 bytes, and of an array of up to 2³² items.
_FIXSTR, _STR8, _ARRAY32 = 0xA0, 0xD9, b"\xdd"


def decode_words(offsets: NDArray[np.uint32], blob: bytes | bytearray | memoryview) -> list[str] | None:
    """The ``n`` values between ``n + 1`` offsets if all are strings below 256 bytes, at a tenth of the usual cost.

    None if they are not: :func:`decode` then says what they are, or what is wrong with them.
    """
    data = np.frombuffer(blob, np.uint8)
    starts = offsets[:-1].astype(np.int64) - int(offsets[0])
    if not len(starts) or int(starts[-1]) >= len(data):
        return None
    first = data[starts]
    short = first & 0xE0 == _FIXSTR
    if not (short | (first == _STR8)).all():
        return None
    # Each has to end where the next begins: one array of them all would decode wherever the offsets point.
    sizes = np.where(short, 1 + (first & 0x1F), 2 + data[np.minimum(starts + 1, len(data) - 1)].astype(np.int64))
    if not np.array_equal(sizes, np.diff(offsets.astype(np.int64))):
        return None
    try:
        return _decode_strings(b"".join((_ARRAY32, len(starts).to_bytes(4, "big"), blob)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


_decode: Callable[[Any], Any] = msgspec.msgpack.Decoder(ext_hook=_ext_hook).decode
