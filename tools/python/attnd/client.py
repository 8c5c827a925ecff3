"""The connection: one socket to the daemon, its replies handed to whom they belong, and no more sent than its credit allows."""
from __future__ import annotations

import json
import time
from typing import Any, Callable, NamedTuple, Optional, Sequence, Union

import zmq

from . import wire
from .errors import AttndError, Timeout, from_json, from_status
from .flight import Lane, Pending, Share
from .hello import reachable, read_hello
from .reply import take_apart
from .stream import Closed, Part, Result, Shape, Stream
from .subscribe import Subscription
from .tensors import joined


class _Message(NamedTuple):
    layer: int
    shares: list[Share]
    n_bytes: int  # with those of its answer


def connect(endpoint: Optional[str] = None, *, timeout: float = 30.0, max_pending: int = 32,
            context: Optional[zmq.Context[Any]] = None) -> "Client":
    """Connects to a daemon's ingest endpoint (None: the user's own) and says hello, waiting at most 5 seconds.

    timeout      seconds that calls wait for an answer before they raise Timeout
    max_pending  messages that may be pending: one more waits until the first is answered
    context      a ZeroMQ context to use; inproc needs the daemon's
    """
    return Client(endpoint, timeout, max_pending, context)


class Client:
    """A connection to a daemon; connect() makes them. It belongs to one thread at a time.

    hello  what the daemon says about itself: its limits, profiles and other endpoints
    """

    def __init__(self, endpoint: Optional[str], timeout: float, max_pending: int, context: Optional[zmq.Context[Any]]) -> None:
        if max_pending < 1:
            raise ValueError("max_pending is at least 1")
        self.endpoint = endpoint or wire.default_endpoint()
        self.timeout = timeout
        self.max_pending = max_pending
        self._context = context or zmq.Context.instance()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)  # max_pending and credit bound what waits
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._id = 0
        self._messages: dict[int, _Message] = {}  # sent and not answered, by id
        self._bytes = 0                           # of these, with their answers
        self._kept = 0                            # of answers that came and that the daemon was not told of
        self._credit = 0                          # bytes of all of these that the daemon allows
        self._n_pending = 0                       # Pendings that are not done
        self._blocked: dict[Lane, None] = {}      # lanes with shares that must go again
        self._received: dict[Stream, None] = {}   # streams with answers since they were last confirmed as a whole
        self._busy = ""                           # what was said when something had to go again
        self._answers: dict[int, Optional[dict[str, Any]]] = {}  # control requests waited for
        self._subscriptions: list[Subscription] = []
        try:
            self._socket.connect(self.endpoint)
            self.hello = read_hello(self._ask("hello", min(timeout, 5.0), {"version": wire.VERSION}))
            self._credit = self.hello.limits.credit_bytes
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects, and ends its subscriptions. Its streams stay open in the daemon, to be resumed."""
        for subscription in self._subscriptions:
            subscription.close()
        self._socket.close()

    # ---- streams

    def open(self, name: str, shape: Shape, profile: str = "full", resume: bool = False, **overrides: Any) -> Stream:
        """Opens a stream.

        profile    one of hello.profiles, or a policy
        overrides  of its keys: budget_fraction=0.125, or for pairs window_tokens=(512, 32)
        resume     takes over the stream of this name, with its profile, if there is one; what still waited for its answers here
                   ends with not_owner
        """
        words = [profile] + [f"{key}={_setting(value)}" for key, value in overrides.items()]
        answer = self.ask("open", name=name, profile=",".join(words), resume=resume, shape=shape.as_json())
        opened = Stream(self, name, shape, answer)
        self._give_up(opened.number, AttndError("not_owner", f"stream '{name}' was taken over"))
        return opened

    def close_stream(self, stream: Union[Stream, int]) -> Closed:
        """Closes a stream, by its number also another client's."""
        if isinstance(stream, Stream):
            lanes = stream._lanes  # the daemon answers what it has; what it has refused for now must go there first
            self._pump_until(lambda: not any(lane.waiting for lane in lanes), None)
        number = stream.number if isinstance(stream, Stream) else stream
        answer = self.ask("close", stream=number)
        self._give_up(number, AttndError("unknown_stream", "the stream was closed"))
        try:
            return Closed(*[answer[field] for field in Closed._fields])
        except KeyError as error:
            raise AttndError("malformed", f"the answer to close lacks {error}") from None

    def status(self, stream: Union[Stream, int] = 0) -> dict[str, Any]:
        """The daemon's status, or one stream's."""
        answer = self.ask("status", stream=stream.number if isinstance(stream, Stream) else stream)
        status = answer.get("status")
        if not isinstance(status, dict):
            raise AttndError("malformed", "the answer to status lacks it")
        return status

    def confirm(self, stream: Stream) -> int:
        """Tells the daemon that answers have come up to stream.confirmed; returns the stream's bytes that it keeps still."""
        self._kept -= sum(lane.confirm() for lane in stream._lanes)
        kept = self.ask("confirm", stream=stream.number, received=stream.confirmed).get("unconfirmed_bytes")
        if not isinstance(kept, int):
            raise AttndError("malformed", "the answer to confirm lacks unconfirmed_bytes")
        return kept

    # ---- data

    def send(self, layer: int, parts: Sequence[Part]) -> Pending:
        """Sends one message, one layer of the parts' streams, and returns at once, unless as much as allowed is pending.

        Arrays that have the wire's element type are sent without a copy when they are a message's only part: don't write into
        them before the answer has come. Several parts are copied together.
        """
        shares = [part.stream._share(layer, part) for part in parts]
        n_bytes = self._check(layer, shares)
        self._pump_until(lambda: self._n_pending < self.max_pending and self._makes_room(n_bytes), None)
        pending = Pending(self, len(shares))
        self._n_pending += 1
        go = []
        for index, share in enumerate(shares):
            share.pending, share.index = pending, index
            if share.lane.enter(share):
                go.append(share)
        if go:
            self._transmit(layer, go)
        return pending

    def step(self, layer: int, parts: Sequence[Part]) -> list[Result]:
        """Sends one message and waits. Raises the first refusal; other parts may have been applied, send().wait() tells all."""
        return self.send(layer, parts).results()

    def drain(self, timeout: Optional[float] = None) -> None:
        """Waits until nothing is pending. Refusals stay in their Pendings."""
        self._pump_until(lambda: self._n_pending == 0, timeout)

    # ---- subscriptions

    def outputs(self, stream: str = "", layer: Optional[int] = None, **options: Any) -> Subscription:
        """Outputs as they are made: of all streams, of one by its name, or of one of its layers. Options: see Subscription."""
        topic = "out/" + (f"{stream}/" if stream else "") + (f"{layer}/" if stream and layer is not None else "")
        return self.subscribe(reachable(self.hello.outputs, self.endpoint), topic, **options)

    def telemetry(self, what: str = "", **options: Any) -> Subscription:
        """Telemetry: everything, or "daemon", "pools", "profiles", "streams" ... Options: see Subscription."""
        topic = "telemetry/" + (f"{what}/" if what else "")
        return self.subscribe(reachable(self.hello.telemetry, self.endpoint), topic, **options)

    def subscribe(self, endpoint: str, topic: str, **options: Any) -> Subscription:
        """Publications of all topics that begin so, at this endpoint."""
        subscription = Subscription(self._context, endpoint, topic, **options)
        self._subscriptions.append(subscription)
        return subscription

    # ---- control

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """A control request and its answer; raises the error that it holds."""
        return self._ask(op, self.timeout, fields)

    def _ask(self, op: str, timeout: float, fields: dict[str, Any]) -> dict[str, Any]:
        self._id += 1
        asked = self._id
        self._answers[asked] = None
        try:
            self._socket.send(json.dumps({"op": op, "id": asked, **fields}).encode())
            self._pump_until(lambda: self._answers[asked] is not None, timeout)
        finally:
            answer = self._answers.pop(asked)
        assert answer is not None
        if answer.get("ok") is not True:
            raise from_json(answer.get("error"))
        return answer

    # ---- messages out

    def _check(self, layer: int, shares: list[Share]) -> int:
        """The message's bytes with its answer's; raises where the daemon would refuse it as a whole."""
        limits = self.hello.limits
        n_bytes = wire.HEAD_BYTES + sum(share.n_bytes for share in shares)
        for what, size, limit in (("parts", len(shares), limits.parts), ("bytes", n_bytes, limits.message_bytes),
                                  ("tokens in one part", max((share.n_tokens for share in shares), default=0),
                                   limits.tokens_per_message)):
            if size > limit:
                raise AttndError("too_large", f"the message has {size} {what}, the daemon takes {limit}")
        if len({share.lane.stream.kinds[layer] for share in shares}) != 1:
            raise ValueError("a message has at least one part, and all its streams have the same attention at its layer")
        return n_bytes + sum(share.n_answer_bytes for share in shares)

    def _makes_room(self, n_bytes: int) -> bool:
        """Whether so much more is within the credit, if need be after confirming what has come. What comes alone always is."""
        if self._kept and self._bytes + self._kept + n_bytes > self._credit:
            self._confirm_all()
        return not self._messages or self._bytes + self._kept + n_bytes <= self._credit

    def _confirm_all(self) -> None:
        """Tells what has come of all layers: answers that are not confirmed take up credit."""
        for stream in self._received:
            self._id += 1  # nobody waits for the answer
            request = {"op": "confirm", "id": self._id, "stream": stream.number, "received": stream.confirmed}
            self._socket.send(json.dumps(request).encode())
            self._kept -= sum(lane.confirm() for lane in stream._lanes)
        self._received.clear()

    def _transmit(self, layer: int, shares: list[Share]) -> None:
        self._id += 1
        frames: list[Any] = [wire.encode_request(layer, self._id, [share.entry() for share in shares])]
        queries = [share.queries for share in shares if share.queries is not None]
        if queries:
            frames.append(joined(queries))
        rows = [share.rows for share in shares if share.rows]
        frames += [joined(arrays) for arrays in zip(*rows)]
        n_bytes = wire.HEAD_BYTES + sum(share.n_bytes + share.n_answer_bytes for share in shares)
        self._messages[self._id] = _Message(layer, shares, n_bytes)
        self._bytes += n_bytes
        for share in shares:
            share.lane.n_under_way += 1
            self._kept -= share.lane.confirm()
        self._socket.send_multipart(frames, copy=False)

    def _send_again(self) -> float:
        """Sends what was refused for now and can go. Returns seconds until more can, by the clock; infinity: none."""
        soonest = float("inf")
        for lane in list(self._blocked):
            if not lane.waiting:
                del self._blocked[lane]
            elif lane.n_under_way == 0:
                delay = lane.retry_at - time.monotonic()
                if delay > 0:
                    soonest = min(soonest, delay)
                    continue
                while lane.waiting:
                    first = lane.waiting[0]
                    if not self._makes_room(wire.HEAD_BYTES + first.n_bytes + first.n_answer_bytes):
                        break
                    self._transmit(lane.layer, [lane.waiting.pop(0)])
        return soonest

    def _give_up(self, number: int, error: AttndError) -> None:
        """Ends all waiting for answers about this stream: over a connection that was lost they never come."""
        for lane in [lane for lane in self._blocked if lane.stream.number == number]:
            for share in lane.waiting:
                share.settle(error=error)
            lane.waiting.clear()
            del self._blocked[lane]
        for stream in [stream for stream in self._received if stream.number == number]:
            self._kept -= sum(lane.confirm() for lane in stream._lanes)
            del self._received[stream]
        for message_id, message in list(self._messages.items()):
            for share in message.shares:
                if share.lane.stream.number == number:
                    share.settle(error=error)
            if all(share.pending is None for share in message.shares):
                del self._messages[message_id]
                self._bytes -= message.n_bytes

    # ---- messages in

    def _pump_until(self, condition: Callable[[], bool], timeout: Optional[float]) -> None:
        """Takes in replies until the condition holds."""
        if condition():
            return
        timeout = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        while not condition():
            again = self._send_again() if self._blocked else float("inf")
            left = deadline - time.monotonic()
            if not self._receive(max(0.0, min(left, again))) and left <= 0:
                why = f"; refused for now: {self._busy}" if self._blocked else ""
                raise Timeout(f"no answer from {self.endpoint} within {timeout:g} s{why}")

    def _receive(self, timeout: float) -> bool:
        """Takes in one message; False when none came in time."""
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            wait = -1 if timeout == float("inf") else int(timeout * 1000) + (timeout > 0)
            if not wait or not self._socket.poll(wait):
                return False
            frames = self._socket.recv_multipart(copy=False)
        head = frames[0].bytes
        if head[:1] == b"{":
            self._take_answer(wire.decode_object(head))
        else:
            self._take_reply(wire.decode(head), frames[1:])
        return True

    def _take_answer(self, answer: dict[str, Any]) -> None:
        if answer.get("op") == "lease":  # the daemon has looked whether this connection lives
            return
        number = answer.get("id")
        if not isinstance(number, int):
            raise AttndError("malformed", "an answer came without the id of what was asked")
        if number == 0 and len(self._answers) == 1:  # the daemon could not read what was asked
            number = next(iter(self._answers))
        if number in self._answers:
            self._answers[number] = answer

    def _take_reply(self, reply: wire.Message, frames: list[zmq.Frame]) -> None:
        message = self._messages.pop(reply.id, None) if reply.kind == wire.REPLY else None
        if message is None:
            return
        self._bytes -= message.n_bytes
        self._credit = reply.credit_bytes or self._credit
        for share in message.shares:
            share.lane.n_under_way -= 1
        try:
            faults, outs, lses = take_apart(reply, frames, message.shares)
        except AttndError as unreadable:
            for share in message.shares:
                share.settle(error=unreadable)
            return
        for index, share in enumerate(message.shares):
            entry = reply.parts[index] if reply.parts else None
            if entry is not None and entry.status == 0:
                self._kept += share.lane.applied(share)
                self._received[share.lane.stream] = None
                share.settle(outs[index], lses[index])
            else:
                status, expected = (entry.status, entry.position) if entry else (0, 0)  # 0: the message as a whole
                error = faults.get(index if entry else None) or from_status(status, expected, index)
                self._refuse(share, status, expected, error)

    def _refuse(self, share: Share, status: int, expected: int, error: AttndError) -> None:
        if share.pending is not None and share.lane.goes_again(share, status):
            self._blocked[share.lane] = None
            if status == wire.BUSY:
                self._busy = error.sentence
                self._confirm_all()
            return
        if error.part is not None:
            error.part = share.index  # as the caller counts: a part that went again came alone
        share.lane.refused(share, status, expected)
        share.settle(error=error)


def _setting(value: Any) -> str:
    """A value of a profile's key as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "x".join(str(x) for x in value) if isinstance(value, (tuple, list)) else str(value)
