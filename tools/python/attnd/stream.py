"""Streams: their shape, the parts that they send, and the calls that send one part.

Letters as in lib/wire/README.md: n tokens, H query heads, Hkv key-value heads, d key dimension, e value dimension.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence, Union

from . import wire
from .errors import AttndError
from .flight import Lane, Pending, Result, Share
from .tensors import ELEMENTS, Array, Floats, to_wire

if TYPE_CHECKING:
    from .client import Client

Rows = Union[Array, Sequence[Array]]  # of a softmax layer, or the pair of a tensor layer


@dataclass(frozen=True)
class Shape:
    """What a stream looks like.

    layers           groups in order: (kind, count), kind "softmax" or "tensor"
    value_dim        key_dim if absent
    scale            of scores; 1/sqrt(key_dim) if absent
    element          of q, k, v on the wire: "f32", "f16" or "bf16"; outputs are always f32
    expected_tokens  what budget_fraction of a profile refers to
    sink_logits      (H,) one more score in each query head's denominator, or None
    """
    layers: Sequence[tuple[str, int]]
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: Optional[int] = None
    scale: Optional[float] = None
    element: str = "f32"
    expected_tokens: int = 0
    sink_logits: Optional[Sequence[float]] = None

    def kinds(self) -> list[str]:
        """Of every layer, "softmax" or "tensor"."""
        return [kind for kind, count in self.layers for _ in range(count)]

    def widths(self) -> tuple[int, int]:
        """(d, e)."""
        return self.key_dim, self.key_dim if self.value_dim is None else self.value_dim

    def as_json(self) -> dict[str, Any]:
        if self.element not in ELEMENTS:
            raise ValueError(f"element is {self.element!r}, not one of {', '.join(ELEMENTS)}")
        shape: dict[str, Any] = {
            "layers": [{"count": count, "attention": kind} for kind, count in self.layers], "heads": self.heads,
            "kv_heads": self.kv_heads, "key_dim": self.key_dim, "value_dim": self.widths()[1], "element": self.element,
            "expected_tokens": self.expected_tokens}
        if self.scale is not None:
            shape["scale"] = float(self.scale)
        if self.sink_logits is not None:
            shape["sink_logits"] = [float(x) for x in self.sink_logits]
        return shape


@dataclass
class Part:
    """One stream's share of a message. What is there says what it does:

    k, v     appended. Softmax layers: (n, Hkv, d) and (n, Hkv, e); tensor layers: pairs (k1, k2) and (v1, v2) of these.
    q        (n, H, d). Attends; with attend=False policies may learn from it, and there is no output.
    partial  with attend: lse comes back too, so that outputs over several caches can be merged
    """
    stream: "Stream"
    q: Optional[Array] = None
    k: Optional[Rows] = None
    v: Optional[Rows] = None
    attend: bool = True
    partial: bool = False


class Closed(NamedTuple):
    """What a stream came to."""
    bytes: int              # that its caches allocated at the end
    bytes_full_bf16: int    # that full caches take in bf16
    tokens: int             # of the longest layer
    attention_seconds: float  # append and attend, summed over heads


class Stream:
    """A stream that this client writes; Client.open makes them.

    next[layer]       index of the next token to send. After a refusal it goes back to what the daemon expects: wait for all
                      that is pending on the stream, then send from there. After `open` with resume it is the daemon's next
                      index. Who then lacks outputs before it sets it back to the first one missing and sends those tokens again
                      in the same batches: the daemon knows them, applies nothing twice, and answers as the first time.
    confirmed[layer]  answers have arrived up to here; the daemon learns it with the next message, or when credit is short
    closed            what it came to, once closed by this object

    As a context it is closed at the end, unless an exception leaves it: then it stays open, to be resumed.
    """

    def __init__(self, client: "Client", name: str, shape: Shape, opened: dict[str, Any]) -> None:
        try:
            self.number = int(opened["stream"])
            self.next = [int(index) for index in opened["next_token"]]
            self.seed, self.isa, self.rules = int(opened["seed"]), str(opened["isa"]), str(opened["rules"])
        except (KeyError, TypeError, ValueError) as error:
            raise AttndError("malformed", f"the answer to open lacks {error}") from None
        self.client, self.name, self.shape = client, name, shape
        self.kinds = shape.kinds()
        if len(self.next) != len(self.kinds):
            raise AttndError("malformed", f"open answered {len(self.next)} layers instead of {len(self.kinds)}")
        self.confirmed = [0] * len(self.kinds)
        self.closed: Optional[Closed] = None
        self._lanes = [Lane(self, layer) for layer in range(len(self.kinds))]

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None and self.closed is None:
            self.close()

    def send(self, layer: int, q: Optional[Array] = None, k: Optional[Rows] = None, v: Optional[Rows] = None,
             attend: bool = True, partial: bool = False) -> Pending:
        """Sends one part (see Part) and returns at once, unless as much as allowed is pending already.

        Arrays of the wire's element type are sent without a copy: don't write into them before the answer has come.
        """
        return self.client.send(layer, [Part(self, q, k, v, attend, partial)])

    def attend(self, layer: int, q: Array, k: Optional[Rows] = None, v: Optional[Rows] = None) -> Floats:
        """q (n, H, d): outputs (n, H, e). With k, v: appends them, and token t attends to all up to and including itself, as if
        sent alone; without: every query attends to all that is held, and nothing changes."""
        out = self.send(layer, q, k, v).result().out
        assert out is not None
        return out

    def attend_partial(self, layer: int, q: Array, k: Optional[Rows] = None,
                       v: Optional[Rows] = None) -> tuple[Floats, Floats]:
        """As attend, with lse: (n, H, e) and (n, H)."""
        result = self.send(layer, q, k, v, partial=True).result()
        assert result.out is not None and result.lse is not None
        return result.out, result.lse

    def append(self, layer: int, k: Rows, v: Rows, q: Optional[Array] = None) -> None:
        """Appends, without outputs. q: what policies may learn from; some need it."""
        self.send(layer, q, k, v, attend=False).result()

    def observe(self, layer: int, q: Array) -> None:
        """Queries (n, H, d) that policies may learn from."""
        self.send(layer, q, attend=False).result()

    def confirm(self) -> int:
        """Outputs before `next`, of every layer, are not wanted any more, whether they arrived or not: after a resume, say. The
        daemon keeps them no longer; returns the bytes of the stream that it keeps still."""
        self.confirmed = list(self.next)
        return self.client.confirm(self)

    def close(self) -> Closed:
        """Closes it in the daemon, once all that is pending is answered, and frees its memory there."""
        self.closed = self.client.close_stream(self)
        return self.closed

    def _share(self, layer: int, part: Part) -> Share:
        """A part with its arrays checked and in the wire's element type."""
        shape, (d, e) = self.shape, self.shape.widths()
        tensor = self.kinds[layer] == "tensor"
        if (part.k is None) != (part.v is None):
            raise ValueError("keys and values come together")
        rows: list[Array] = []
        if part.k is not None and part.v is not None:
            keys, values = (part.k, part.v) if tensor else ((part.k,), (part.v,))
            if len(keys) != 2 * tensor + (not tensor) or len(values) != len(keys):
                raise ValueError("a tensor layer takes pairs of keys and values")
            n = len(keys[0])
            for i, (key, value) in enumerate(zip(keys, values)):
                suffix = str(i + 1) if tensor else ""
                rows.append(to_wire(key, shape.element, (n, shape.kv_heads, d), "k" + suffix))
                rows.append(to_wire(value, shape.element, (n, shape.kv_heads, e), "v" + suffix))
        elif part.q is not None:
            n = len(part.q)
        else:
            raise ValueError("a part brings q, or k and v, or all of them")
        if n == 0:
            raise ValueError("a part brings at least one token")
        queries = None if part.q is None else to_wire(part.q, shape.element, (n, shape.heads, d), "q")
        flags = wire.APPEND if rows else 0
        if queries is not None:
            flags |= wire.ATTEND if part.attend else wire.OBSERVE
        if part.partial:
            if not flags & wire.ATTEND:
                raise ValueError("partial is for parts that attend")
            flags |= wire.PARTIAL
        return Share(self._lanes[layer], flags, n, queries, rows)


__all__ = ["Closed", "Part", "Result", "Rows", "Shape", "Stream"]
