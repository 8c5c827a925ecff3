"""Subscriptions: outputs and telemetry as iterators that say what was lost."""
from __future__ import annotations

from typing import Any, Iterator, NamedTuple, Optional, Sequence

import zmq

from . import wire
from .errors import AttndError, Timeout
from .tensors import Floats, floats


class Publication(NamedTuple):
    """What was published.

    topic     out/<stream>/<layer>/ or telemetry/<what>/
    sequence  of its topic, counting up by one
    lost      publications of its topic that were lost before this one; what came before the first one seen is not counted
    """
    topic: str
    sequence: int
    lost: int
    stream: str = ""       # outputs: the stream's name
    layer: int = 0
    first: int = 0         # index of the first token; of queries that attended alone: tokens held
    next: int = 0          # tokens held afterwards
    flags: int = 0         # of the part
    out: Optional[Floats] = None  # (n, H, e) float32 where the subscription knows H, else (n, H e); read-only
    json: Optional[dict[str, Any]] = None  # telemetry


class Subscription:
    """An iterator over the publications of all topics that begin with `topic`.

    It takes effect a moment after it was made; what is published before that is not seen.
    heads    outputs: query heads H of the streams, so that outputs have shape (n, H, e)
    timeout  seconds that `for` and next() wait before they raise Timeout; None: for ever
    strict   raise AttndError `gap` before a publication that others were lost before; it comes with the next call
    queue    publications that may wait here before some are lost; the daemon has a bound of its own

    lost     publications lost so far
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str, topic: str, *, heads: Optional[int] = None,
                 timeout: Optional[float] = None, strict: bool = False, queue: int = 1000) -> None:
        self.topic, self.heads, self.timeout, self.strict, self.lost = topic, heads, timeout, strict, 0
        self._last: dict[str, tuple[Any, int]] = {}  # by topic: which run of numbers, and the last of it
        self._held: Optional[Publication] = None
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, queue)
        self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._socket.connect(endpoint)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Publication]:
        return self

    def __next__(self) -> Publication:
        return self.next(self.timeout)

    def close(self) -> None:
        self._socket.close()

    def next(self, timeout: Optional[float] = None) -> Publication:
        """The next publication; Timeout when none came in time (None: waits for ever)."""
        publication, self._held = self._held, None
        while publication is None:
            if not self._socket.poll(None if timeout is None else max(0, int(timeout * 1000))):
                raise Timeout(f"nothing was published on {self.topic} within {timeout:g} s")
            publication = self._take(self._socket.recv_multipart())
            if publication and publication.lost and self.strict:
                self._held = publication
                raise AttndError("gap", f"{publication.lost} publications of {publication.topic} were lost")
        return publication

    def _take(self, frames: Sequence[bytes]) -> Optional[Publication]:
        """A publication; None for one that was seen before."""
        topic = frames[0].decode(errors="replace")
        if topic.startswith("out/") and len(frames) == 3:
            message = wire.decode(frames[1])
            if message.kind != wire.OUTPUT or len(message.parts) != 1:
                raise AttndError("malformed", f"a publication of {topic} is not an output of one part")
            part = message.parts[0]
            lost = self._count(topic, part.stream, message.id)
            return None if lost is None else Publication(
                topic, message.id, lost, topic.split("/")[1], message.layer, part.first, part.position, part.flags,
                self._shaped(floats(frames[2]), part.n_tokens))
        if topic.startswith("telemetry/") and len(frames) == 2:
            told = wire.decode_object(frames[1])
            sequence = told.get("sequence")
            if not isinstance(sequence, int):
                raise AttndError("malformed", f"a publication of {topic} has no sequence")
            lost = self._count(topic, told.get("instance"), sequence)
            return None if lost is None else Publication(topic, sequence, lost, json=told)
        raise AttndError("malformed", f"a publication of {topic} has {len(frames)} frames")

    def _count(self, topic: str, run: Any, sequence: int) -> Optional[int]:
        """How many were lost before this one of the topic; None: it is a repetition.

        run: what numbers of one count have in common (the stream's number, the daemon's instance). A new run begins at 0.
        """
        known = self._last.get(topic)
        if known and known[0] == run and sequence <= known[1]:
            return None
        lost = 0 if known is None else sequence - (known[1] + 1 if known[0] == run else 0)
        self._last[topic] = (run, sequence)
        self.lost += lost
        return lost

    def _shaped(self, numbers: Floats, n_tokens: int) -> Floats:
        shape = (n_tokens, self.heads, -1) if self.heads else (n_tokens, -1)
        try:
            return numbers.reshape(shape)
        except ValueError:
            what = f"{n_tokens} tokens of {self.heads} heads" if self.heads else f"{n_tokens} tokens"
            raise AttndError("malformed", f"an output of {len(numbers)} numbers is not {what}") from None
