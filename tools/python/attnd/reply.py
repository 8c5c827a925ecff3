"""A reply taken apart: whose numbers lie where in its frames."""
from __future__ import annotations

from typing import Optional

import numpy as np
import zmq

from . import wire
from .errors import AttndError
from .flight import Share
from .tensors import Floats, floats

_COPIED_BYTES = 1 << 16  # a smaller frame is copied, so that an output does not pin a receive buffer


def take_apart(reply: wire.Message, frames: list[zmq.Frame], shares: list[Share]) -> tuple[
        dict[Optional[int], AttndError], list[Optional[Floats]], list[Optional[Floats]]]:
    """Faults by part, and for each share its outputs (n, H, e) and lse (n, H); malformed when they do not add up."""
    if len(frames) != bin(reply.frames).count("1"):
        raise AttndError("malformed", f"a reply announces {reply.frames:#x} and has {len(frames)} frames")
    if reply.parts and len(reply.parts) != len(shares):
        raise AttndError("malformed", f"a reply has {len(reply.parts)} parts instead of {len(shares)}")
    rest = iter(frames)
    applied = [share if reply.parts and reply.parts[i].status == 0 else None for i, share in enumerate(shares)]
    outs = _cut(next(rest) if reply.frames & wire.OUTPUTS else None, applied, wire.ATTEND, True)
    lses = _cut(next(rest) if reply.frames & wire.LSE else None, applied, wire.PARTIAL, False)
    faults = wire.decode_faults(next(rest).bytes) if reply.frames & wire.FAULTS else []
    return {fault.part: fault for fault in faults}, outs, lses


def _cut(frame: Optional[zmq.Frame], shares: list[Optional[Share]], flag: int, wide: bool) -> list[Optional[Floats]]:
    """The frame's floats, part after part: wide (n, H, e), else (n, H)."""
    data = b"" if frame is None else frame.buffer
    numbers = floats(data if len(data) >= _COPIED_BYTES else bytes(data))
    cut: list[Optional[Floats]] = []
    at = 0
    for share in shares:
        if share is None or not share.flags & flag:
            cut.append(None)
            continue
        shape = share.lane.stream.shape
        size = (share.n_tokens, shape.heads, shape.widths()[1]) if wide else (share.n_tokens, shape.heads)
        n = int(np.prod(size))
        if at + n > len(numbers):
            raise AttndError("malformed", "a reply has fewer numbers than its parts")
        cut.append(numbers[at:at + n].reshape(size))
        at += n
    if at != len(numbers):
        raise AttndError("malformed", "a reply has more numbers than its parts")
    return cut
