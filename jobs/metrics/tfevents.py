"""TensorBoard's event files: scalars by step.

A file is a list of TFRecords (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details), each a
protocol buffer ``Event`` (tensorflow/core/util/event.proto), of which scalars need five fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reflected."""
_DOUBLE, _LENGTH, _FLOAT, _VARINT = 1, 2, 5, 0
"""Wire types of protocol buffers."""


@dataclass(frozen=True)
class Scalars:
    """What was measured at a step."""

    at: float
    """Seconds since 1970."""
    step: int
    values: Mapping[str, float]
    """By tag, such as ``train/loss``."""


def event_file(created_at: float, measured: Iterable[Scalars]) -> bytes:
    """The bytes of a whole file."""
    table = tuple(_entry(byte) for byte in range(256))
    return b"".join(_record(event, table) for event in _events(created_at, measured))


def _events(created_at: float, measured: Iterable[Scalars]) -> Iterator[bytes]:
    # Fields: Event{wall_time 1, step 2, file_version 3, summary 5}, Summary{value 1}, Value{tag 1, simple_value 2}.
    yield _double(1, created_at) + _bytes(3, b"brain.Event:2")
    for scalars in measured:
        values = (_bytes(1, tag.encode()) + _float(2, value) for tag, value in scalars.values.items())
        summary = b"".join(_bytes(1, value) for value in values)
        yield _double(1, scalars.at) + _key(2, _VARINT) + _varint(scalars.step) + _bytes(5, summary)


def _record(data: bytes, table: tuple[int, ...]) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length, table)) + data + struct.pack("<I", _masked(data, table))


def _masked(data: bytes, table: tuple[int, ...]) -> int:
    """CRC-32C, rotated and shifted, so that the CRC of data that holds CRCs is sound."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _double(field: int, value: float) -> bytes:
    return _key(field, _DOUBLE) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _key(field, _FLOAT) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, _LENGTH) + _varint(len(value)) + value
