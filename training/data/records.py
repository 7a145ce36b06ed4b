"""Binary records of encoded rows, laid out by the types of their fields.

A record is the fields of a dataclass or named tuple in order, little-endian and without padding:
``int`` and ``float`` in 8 bytes, ``bool`` in one, an ``array`` as its length in 4 bytes and its
items as they are in memory, a text as its length and UTF-8, a list as its length and items, an
optional value after one byte. The types come from the code and never from the file.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Generic, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

assert sys.byteorder == "little", "arrays are stored as they are in memory"

_LENGTH = struct.Struct("<I")
_SCALARS: Mapping[Any, struct.Struct] = {
    bool: struct.Struct("<?"),
    int: struct.Struct("<q"),
    float: struct.Struct("<d"),
}
_TYPECODES: Mapping[Any, str] = {int: "i", float: "f"}
"""Item type of an array -> its typecode: token ids are int32, weights float32."""


T = TypeVar("T")


class _Array(Generic[T]):
    """Stands for ``array`` in annotations, which Python 3.11 cannot subscript at run time."""


class Codec(NamedTuple):
    """Functions that write a value to a buffer, and read one at an offset."""

    write: Callable[[Any, bytearray], None]
    read: Callable[[memoryview, int], tuple[Any, int]]
    """Returns the value and the offset after it."""


def build_codec(value_type: Any) -> Codec:
    """Build the codec of a type. Raises ``TypeError`` for a type that has no layout."""
    origin, arguments = get_origin(value_type), get_args(value_type)
    if value_type in _SCALARS:
        return _build_scalar_codec(_SCALARS[value_type])
    if value_type is str:
        return Codec(_write_text, _read_text)
    if origin is _Array:
        return _build_array_codec(_TYPECODES[arguments[0]])
    if origin in (Union, UnionType) and NoneType in arguments and len(arguments) == 2:
        return _build_optional_codec(build_codec(next(part for part in arguments if part is not NoneType)))
    if origin is tuple and arguments[-1:] != (...,):
        return _build_fields_codec([build_codec(part) for part in arguments], tuple)
    if origin is not None and issubclass(origin, Sequence):
        return _build_list_codec(build_codec(arguments[0]), tuple if origin is tuple else list)
    if isinstance(value_type, type) and (dataclasses.is_dataclass(value_type) or hasattr(value_type, "_fields")):
        return _build_class_codec(value_type)
    raise TypeError(f"{value_type} has no record layout")


def _build_scalar_codec(layout: struct.Struct) -> Codec:
    def write(value: Any, out: bytearray) -> None:
        out += layout.pack(value)

    def read(buffer: memoryview, at: int) -> tuple[Any, int]:
        return layout.unpack_from(buffer, at)[0], at + layout.size

    return Codec(write, read)


def _write_text(value: str, out: bytearray) -> None:
    data = value.encode("utf-8", "surrogatepass")
    out += _LENGTH.pack(len(data))
    out += data


def _read_text(buffer: memoryview, at: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(buffer, at)
    start, end = at + _LENGTH.size, at + _LENGTH.size + length
    return str(buffer[start:end], "utf-8", "surrogatepass"), end


def _build_array_codec(typecode: str) -> Codec:
    def write(value: array[Any], out: bytearray) -> None:
        assert value.typecode == typecode, value.typecode
        out += _LENGTH.pack(len(value))
        out += value.tobytes()

    def read(buffer: memoryview, at: int) -> tuple[array[Any], int]:
        (length,) = _LENGTH.unpack_from(buffer, at)
        items = array(typecode)
        start, end = at + _LENGTH.size, at + _LENGTH.size + length * items.itemsize
        items.frombytes(buffer[start:end])
        return items, end

    return Codec(write, read)


def _build_optional_codec(inner: Codec) -> Codec:
    def write(value: Any, out: bytearray) -> None:
        out.append(value is not None)
        if value is not None:
            inner.write(value, out)

    def read(buffer: memoryview, at: int) -> tuple[Any, int]:
        return inner.read(buffer, at + 1) if buffer[at] else (None, at + 1)

    return Codec(write, read)


def _build_list_codec(item: Codec, build: Callable[[list[Any]], Any]) -> Codec:
    def write(value: Sequence[Any], out: bytearray) -> None:
        out += _LENGTH.pack(len(value))
        for part in value:
            item.write(part, out)

    def read(buffer: memoryview, at: int) -> tuple[Any, int]:
        (length,) = _LENGTH.unpack_from(buffer, at)
        at, values = at + _LENGTH.size, []
        for _ in range(length):
            value, at = item.read(buffer, at)
            values.append(value)
        return build(values), at

    return Codec(write, read)


def _build_fields_codec(fields: Sequence[Codec], build: Callable[[list[Any]], Any]) -> Codec:
    def write(value: Sequence[Any], out: bytearray) -> None:
        for field, part in zip(fields, value, strict=True):
            field.write(part, out)

    def read(buffer: memoryview, at: int) -> tuple[Any, int]:
        values = []
        for field in fields:
            value, at = field.read(buffer, at)
            values.append(value)
        return build(values), at

    return Codec(write, read)


def _build_class_codec(cls: Any) -> Codec:
    hints = get_type_hints(cls, localns={"array": _Array})
    names = cls._fields if hasattr(cls, "_fields") else [field.name for field in dataclasses.fields(cls)]
    fields = _build_fields_codec(
        [build_codec(hints[name]) for name in names], lambda values: cls(**dict(zip(names, values, strict=True)))
    )

    def write(value: Any, out: bytearray) -> None:
        fields.write([getattr(value, name) for name in names], out)

    return Codec(write, fields.read)
