"""Bytes of data messages, both ways: lib/wire/README.md, section 1. No sockets, no numpy."""
from __future__ import annotations

import json
import os
import struct
from typing import Any, NamedTuple, Sequence

from .errors import AttndError, from_json

VERSION = 1
REQUEST, REPLY, OUTPUT = 1, 2, 3            # type of a message
APPEND, ATTEND, PARTIAL, OBSERVE = 1, 2, 4, 8  # flags of a part
OUTPUTS, LSE, FAULTS = 1, 2, 4              # frames of a reply
WRONG_INDEX, BUSY, NOT_KEPT = 8, 14, 15    # statuses that the client acts upon

_MAGIC = b"ATND"
_HEADER = struct.Struct("<4sBBHIIQII")      # magic, version, type, zero, n_parts, layer, id, frames, credit
_PART = struct.Struct("<QQQIHH")            # as Part
HEAD_BYTES, PART_BYTES = _HEADER.size, _PART.size


class Part(NamedTuple):
    """One entry of the part table."""
    stream: int
    first: int     # index of the first token; attend alone: tokens held
    position: int  # request: confirmed up to here; reply: the layer's next index
    n_tokens: int  # reply: whose outputs follow
    flags: int
    status: int


class Message(NamedTuple):
    """Frame 0 of a reply or an output."""
    kind: int
    layer: int
    id: int
    frames: int
    credit_bytes: int  # reply: that the connection may have outstanding; 0: not told
    parts: list[Part]


def encode_request(layer: int, message_id: int, parts: Sequence[Part]) -> bytes:
    head = _HEADER.pack(_MAGIC, VERSION, REQUEST, 0, len(parts), layer, message_id, 0, 0)
    return head + b"".join([_PART.pack(*part) for part in parts])


def decode(frame: bytes) -> Message:
    """Frame 0 of a reply or an output; malformed or version when it is none."""
    if len(frame) < HEAD_BYTES:
        raise AttndError("malformed", f"frame 0 has {len(frame)} bytes, fewer than a header")
    magic, version, kind, zero, n_parts, layer, message_id, frames, credit = _HEADER.unpack_from(frame)
    if magic != _MAGIC:
        raise AttndError("malformed", "frame 0 does not begin with ATND")
    if version != VERSION:
        raise AttndError("version", f"the message is of version {version}, this client speaks {VERSION}")
    if kind not in (REPLY, OUTPUT) or zero or (credit and kind != REPLY) or frames & ~(OUTPUTS | LSE | FAULTS):
        raise AttndError("malformed", "the header of frame 0 is neither a reply's nor an output's")
    if len(frame) != HEAD_BYTES + n_parts * PART_BYTES:
        raise AttndError("malformed", f"frame 0 has {len(frame)} bytes, which are not {n_parts} parts")
    table = memoryview(frame)[HEAD_BYTES:]
    return Message(kind, layer, message_id, frames, credit * 1024, [Part(*entry) for entry in _PART.iter_unpack(table)])


def decode_faults(frame: bytes) -> list[AttndError]:
    """The faults frame of a reply."""
    faults = _decode_json(frame)
    if not isinstance(faults, list):
        raise AttndError("malformed", "the faults of a reply are no list")
    return [from_json(fault) for fault in faults]


def decode_object(frame: bytes) -> dict[str, Any]:
    """An answer to control, or telemetry."""
    value = _decode_json(frame)
    if not isinstance(value, dict):
        raise AttndError("malformed", "what came is JSON, but no object")
    return value


def _decode_json(frame: bytes) -> Any:
    try:
        return json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise AttndError("malformed", f"what came is no JSON: {error}") from None


def default_endpoint() -> str:
    """Where the user's own daemon listens without configuration."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"ipc://{runtime}/attnd/ingest.sock" if runtime else f"ipc:///tmp/attnd-{os.getuid()}/ingest.sock"
