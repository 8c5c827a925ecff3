"""What is under way: parts between the call that sends them and their answer. No sockets.

A part may have to go several times: the daemon refuses what it has no room for with `busy`, and then what was sent behind it,
because its turn has not come. Both wait in their lane (a layer of a stream) and go again in order once nothing of the lane is
under way. Any other refusal is final, and ends what waits behind it too: after a hole nothing may follow.
"""
from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING, Optional

from . import wire
from .errors import AttndError
from .tensors import Array, Floats

if TYPE_CHECKING:
    from .client import Client
    from .stream import Stream

_DELAY_SECONDS = (0.0005, 0.1)  # before a refused part goes again: at first, at most


class Result:
    """The answer to one part.

    out    (n, H, e) float32, where it attended; read-only, lies in the received frame
    lse    (n, H) float32, natural log of the softmax denominator, where it was partial
    error  why the part was refused, and then nothing of it was applied; else None
    """
    __slots__ = ("out", "lse", "error")

    def __init__(self) -> None:
        self.out: Optional[Floats] = None
        self.lse: Optional[Floats] = None
        self.error: Optional[AttndError] = None


class Pending:
    """The answer to come of one message: one Result for each part."""
    __slots__ = ("_client", "_results", "_missing")

    def __init__(self, client: "Client", n_parts: int) -> None:
        self._client = client
        self._results = [Result() for _ in range(n_parts)]
        self._missing = n_parts

    @property
    def done(self) -> bool:
        """Whether the answer is here (as far as what has arrived was looked at)."""
        return self._missing == 0

    def wait(self, timeout: Optional[float] = None) -> list[Result]:
        """All results, refusals among them. Timeout when they are not here in time; then it may be called again."""
        self._client._pump_until(lambda: self._missing == 0, timeout)
        return self._results

    def results(self, timeout: Optional[float] = None) -> list[Result]:
        """All results; raises the first refusal."""
        for result in self.wait(timeout):
            if result.error:
                raise result.error
        return self._results

    def result(self, timeout: Optional[float] = None) -> Result:
        """The only result; raises its refusal."""
        result, = self.results(timeout)
        return result

    def _settle(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._client._n_pending -= 1


class Share:
    """One part that was handed in, with its arrays in the element type of the wire."""
    __slots__ = ("lane", "flags", "n_tokens", "first", "queries", "rows", "n_bytes", "n_answer_bytes", "order", "epoch",
                 "pending", "index")

    def __init__(self, lane: "Lane", flags: int, n_tokens: int, queries: Optional[Array], rows: list[Array]) -> None:
        self.lane = lane
        self.flags = flags
        self.n_tokens = n_tokens
        self.queries = queries  # (n, H, d)
        self.rows = rows        # k, v or k1, v1, k2, v2: (n, Hkv, d), (n, Hkv, e)
        self.n_bytes = wire.PART_BYTES + sum(array.nbytes for array in rows) + (queries.nbytes if queries is not None else 0)
        shape = lane.stream.shape
        numbers = shape.widths()[1] * bool(flags & wire.ATTEND) + bool(flags & wire.PARTIAL)
        self.n_answer_bytes = 4 * n_tokens * shape.heads * numbers
        self.first = self.order = self.epoch = self.index = 0
        self.pending: Optional[Pending] = None  # who waits for the answer; None: nobody any more

    def entry(self) -> wire.Part:
        """Its line of the part table."""
        stream, layer = self.lane.stream, self.lane.layer
        return wire.Part(stream.number, self.first, stream.confirmed[layer], self.n_tokens, self.flags, 0)

    def settle(self, out: Optional[Floats] = None, lse: Optional[Floats] = None,
               error: Optional[AttndError] = None) -> None:
        """Gives the answer to who waits for it; a second one is dropped."""
        pending, self.pending = self.pending, None
        if pending is not None:
            result = pending._results[self.index]
            result.out, result.lse, result.error = out, lse, error
            pending._settle()


class Lane:
    """One layer of one stream: its parts are taken in order."""
    __slots__ = ("stream", "layer", "n_under_way", "kept_bytes", "waiting", "retry_at", "_epoch", "_order", "_delay")

    def __init__(self, stream: "Stream", layer: int) -> None:
        self.stream = stream
        self.layer = layer
        self.n_under_way = 0
        self.kept_bytes = 0             # of answers that have come, which the daemon keeps until it learns that they did
        self.waiting: list[Share] = []  # to go again, by order
        self.retry_at = 0.0
        self._epoch = 0  # counts final refusals: what was sent before one says nothing about the next index any more
        self._order = 0
        self._delay = 0.0

    def enter(self, share: Share) -> bool:
        """Gives a new share its index. False: it must wait behind others."""
        share.first, share.order, share.epoch = self.stream.next[self.layer], self._order, self._epoch
        self._order += 1
        if share.flags & wire.APPEND:
            self.stream.next[self.layer] += share.n_tokens
        if self.waiting:
            self.waiting.append(share)
            return False
        return True

    def applied(self, share: Share) -> int:
        """Returns the bytes of its answer that the daemon keeps now."""
        self._delay = 0.0
        if not share.flags & wire.APPEND:
            return 0
        confirmed = self.stream.confirmed
        confirmed[self.layer] = max(confirmed[self.layer], share.first + share.n_tokens)
        self.kept_bytes += share.n_answer_bytes
        return share.n_answer_bytes

    def confirm(self) -> int:
        """The daemon learns what has come. Returns the bytes that it need not keep any more."""
        n_bytes, self.kept_bytes = self.kept_bytes, 0
        return n_bytes

    def goes_again(self, share: Share, status: int) -> bool:
        """Whether a refused share is kept for another time."""
        behind = status == wire.WRONG_INDEX and self.waiting and self.waiting[0].order < share.order
        if status != wire.BUSY and not behind:
            return False
        bisect.insort(self.waiting, share, key=lambda other: other.order)
        if status == wire.BUSY:
            self._delay = min(max(2 * self._delay, _DELAY_SECONDS[0]), _DELAY_SECONDS[1])
            self.retry_at = time.monotonic() + self._delay
        return True

    def refused(self, share: Share, status: int, expected: int) -> None:
        """A final refusal: the stream goes on at the index that the daemon expects."""
        if not share.flags & wire.APPEND or share.epoch != self._epoch:
            return
        self._epoch += 1
        behind = [other for other in self.waiting if other.order > share.order]
        self.waiting = [other for other in self.waiting if other.order < share.order]
        known = status in (wire.WRONG_INDEX, wire.NOT_KEPT) and not self.waiting
        self.stream.next[self.layer] = expected if known else share.first
        for other in behind:
            other.settle(error=AttndError("wrong_index", "a part before it was refused", expected=self.stream.next[self.layer]))
