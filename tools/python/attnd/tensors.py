"""Numpy arrays as the elements that go over the wire: f32, f16, bf16, little endian, in C order."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import AttndError

Array = NDArray[Any]
Floats = NDArray[np.float32]

_FLOAT: np.dtype[np.float32] = np.dtype("<f4")
ELEMENTS: dict[str, np.dtype[Any]] = {"f32": _FLOAT, "f16": np.dtype("<f2"), "bf16": np.dtype("<u2")}


def to_bf16(x: Array) -> NDArray[np.uint16]:
    """Numbers of any shape as bf16 bits in uint16 of the same shape, rounded to nearest, ties to even; NaN stays NaN."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    bits = x.view(np.uint32)
    rounded = ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype(np.uint16)  # carries into the exponent as it should
    nan = np.isnan(x)
    if nan.any():
        rounded[nan] = 0x7FC0
    return rounded


def from_bf16(bits: NDArray[np.uint16]) -> Floats:
    """bf16 bits in uint16 as float32 of the same shape."""
    return (np.asarray(bits, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)


def to_wire(x: Any, element: str, shape: Sequence[int], name: str) -> Array:
    """x of this shape as a contiguous array of the wire's element type; x itself where it is that already.

    uint16 is taken as bf16 bits. Other numbers are rounded to the nearest element.
    """
    x = np.asarray(x)
    if x.shape != tuple(shape):
        raise ValueError(f"{name} has shape {x.shape}, (tokens, heads, dim) of this stream is {tuple(shape)}")
    wanted = ELEMENTS[element]
    if x.dtype == np.uint16 and element != "bf16":
        raise TypeError(f"{name} holds uint16, which is read as bf16 bits, but the stream's element is {element}")
    if x.dtype != wanted:
        if x.dtype.kind not in "fiu":
            raise TypeError(f"{name} holds {x.dtype}, not numbers")
        if element == "bf16":
            return to_bf16(x)
        with np.errstate(over="ignore"):  # becomes infinity, which the daemon refuses by name
            x = x.astype(wanted)
    return np.ascontiguousarray(x)


def joined(arrays: Sequence[Array]) -> memoryview:
    """The bytes of these arrays one after the other; of a single one without a copy."""
    flat = [array.reshape(-1).view(np.uint8) for array in arrays]
    return (flat[0] if len(flat) == 1 else np.concatenate(flat)).data


def floats(frame: Any) -> Floats:
    """A frame of f32 as an array without a copy."""
    try:
        return np.frombuffer(frame, dtype=_FLOAT)
    except ValueError:
        raise AttndError("malformed", f"a frame of {len(frame)} bytes holds no whole f32 numbers") from None
