"""TensorBoard event files: scalars by step.

A file is a list of TFRecords
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details). Each record is
a protocol buffer ``Event`` (tensorflow/core/util/event.proto). Scalars need five of its fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reflected."""
_DOUBLE, _LENGTH, _FLOAT, _VARINT = 1, 2, 5, 0
"""Protocol buffer wire types."""


@dataclass(frozen=True)
class Scalars:
    """Scalar metrics of one step."""

    wall_time: float
    """Seconds since 1970."""
    step: int
    values: Mapping[str, float]
    """Keyed by tag, such as ``train/loss``."""


def encode_event_file(created_at: float, steps: Iterable[Scalars]) -> bytes:
    """Encode a complete event file."""
    table = tuple(_compute_table_entry(byte) for byte in range(256))
    return b"".join(_encode_record(event, table) for event in _encode_events(created_at, steps))


def _encode_events(created_at: float, steps: Iterable[Scalars]) -> Iterator[bytes]:
    # Fields: Event{wall_time 1, step 2, file_version 3, summary 5}, Summary{value 1}, Value{tag 1,
    # simple_value 2}.
    yield _encode_double(1, created_at) + _encode_bytes(3, b"brain.Event:2")
    for scalars in steps:
        values = (_encode_bytes(1, tag.encode()) + _encode_float(2, value) for tag, value in scalars.values.items())
        summary = b"".join(_encode_bytes(1, value) for value in values)
        yield (
            _encode_double(1, scalars.wall_time)
            + _encode_key(2, _VARINT)
            + _encode_varint(scalars.step)
            + _encode_bytes(5, summary)
        )


def _encode_record(data: bytes, table: tuple[int, ...]) -> bytes:
    length = struct.pack("<Q", len(data))
    return (
        length
        + struct.pack("<I", _compute_masked_crc(length, table))
        + data
        + struct.pack("<I", _compute_masked_crc(data, table))
    )


def _compute_masked_crc(data: bytes, table: tuple[int, ...]) -> int:
    """Compute CRC-32C, rotated and offset, so that the CRC of data that contains CRCs is sound."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _compute_table_entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


def _encode_key(field: int, wire_type: int) -> bytes:
    return _encode_varint(field << 3 | wire_type)


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode_double(field: int, value: float) -> bytes:
    return _encode_key(field, _DOUBLE) + struct.pack("<d", value)


def _encode_float(field: int, value: float) -> bytes:
    return _encode_key(field, _FLOAT) + struct.pack("<f", value)


def _encode_bytes(field: int, value: bytes) -> bytes:
    return _encode_key(field, _LENGTH) + _encode_varint(len(value)) + value
