"""A daemon that keeps no caches but follows the rules of the index (lib/wire/README.md, 1.4), and misbehaves as a test wants.

The output of a token of a part that attends is its q's first number of each head, in every value dimension; lse is 7.
It runs in a thread of its own. Written with struct alone, so that the client's bytes are read by other code than its own.
"""
import json
import random
import struct
import threading

import numpy as np
import zmq

APPEND, ATTEND, PARTIAL, OBSERVE = 1, 2, 4, 8
HEADS, KV_HEADS, KEY_DIM, VALUE_DIM = 2, 1, 3, 2
WORDS = {"message": "so it is", "advice": "do"}
CODES = {8: "wrong_index", 12: "not_finite", 14: "busy"}


class FakeDaemon(threading.Thread):
    """refuse(part): the status to refuse an append with that the index allows, or 0; called in this thread.

    hold           requests that are kept before the first is answered (or until nothing more comes)
    mute           takes requests and does not answer, but for so many of `release`
    answer         frames to reply with instead, once
    applied        (stream, layer): first tokens' q numbers, in the order in which they were appended
    most_bytes     outstanding at once: requests that wait, their answers, and answers not confirmed
    """

    def __init__(self, refuse=lambda part: 0, hold=1, credit=1 << 20, protocol=1):
        super().__init__(daemon=True)
        self.refuse, self.hold, self.credit, self.protocol = refuse, hold, credit, protocol
        self.mute, self.release, self.answer, self.control_error = False, 0, None, None
        self.applied, self.most_bytes, self.n_refused, self.confirmed = {}, 0, 0, {}
        self.waiting, self.kept, self.stop = [], {}, threading.Event()
        self.endpoint = f"inproc://fake-{random.getrandbits(64)}"
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.bind(self.endpoint)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()
        self.socket.close(0)

    def run(self):
        while not self.stop.is_set():
            if self.socket.poll(1):
                frames = self.socket.recv_multipart()
                if frames[1][:1] == b"{":
                    self.socket.send_multipart([frames[0], self.control(json.loads(frames[1]))])
                else:
                    self.waiting.append(frames)
                    for part in self.table(frames[1]):
                        self.receive((part[0], struct.unpack_from("<I", frames[1], 12)[0]), part[2])
                    self.most_bytes = max(self.most_bytes, self.outstanding())
                    if len(self.waiting) < self.hold:
                        continue
            if self.waiting and (not self.mute or self.release):
                self.release = max(0, self.release - 1)
                frames = self.waiting.pop(0)
                answer, self.answer = self.answer, None
                self.socket.send_multipart([frames[0]] + (answer or self.data(frames[1], frames[2:])))

    @staticmethod
    def table(head):
        return [struct.unpack_from("<QQQIHH", head, at) for at in range(32, len(head), 32)]

    def outstanding(self):
        asked = [part for frames in self.waiting for part in self.table(frames[1])]
        answers = sum(4 * part[3] * HEADS * (VALUE_DIM * bool(part[4] & ATTEND) + bool(part[4] & PARTIAL)) for part in asked)
        return (answers + sum(len(frame) for frames in self.waiting for frame in frames[1:]) +
                sum(size for kept in self.kept.values() for _, size in kept))

    def receive(self, lane, confirmed):
        self.kept[lane] = [(end, size) for end, size in self.kept.get(lane, []) if end > confirmed]

    def control(self, request):
        answer = {"op": request["op"], "id": request["id"], "ok": self.control_error is None, "novelty": [1]}
        if self.control_error:
            answer["error"] = self.control_error
        elif request["op"] == "hello":
            answer.update(protocol=self.protocol, version="9", isa="none", instance="x", outputs=[], telemetry=[], profiles=[],
                          limits={"message_bytes": 1 << 20, "parts": 8, "tokens_per_message": 100, "credit_bytes": self.credit})
        elif request["op"] == "open":
            layers = sum(group["count"] for group in request["shape"]["layers"])
            stream = int(request["name"])
            answer.update(stream=stream, seed="1", isa="none", rules="",
                          next_token=[len(self.applied.get((stream, layer), [])) for layer in range(layers)])
        elif request["op"] == "confirm":
            for layer, confirmed in enumerate(request["received"]):
                self.receive((request["stream"], layer), confirmed)
            answer["unconfirmed_bytes"] = sum(size for lane, kept in self.kept.items() for _, size in kept
                                              if lane[0] == request["stream"])
        elif request["op"] == "close":
            answer.update(bytes=1, bytes_full_bf16=2, tokens=3, attention_seconds=0.5)
        return json.dumps(answer).encode()

    def data(self, head, tensors):
        magic, version, kind, zero, n_parts, layer, message_id, frames, zero_too = struct.unpack_from("<4sBBHIIQII", head)
        assert (magic, version, kind, zero, frames, zero_too) == (b"ATND", 1, 1, 0, 0, 0) and len(head) == 32 + 32 * n_parts
        table = self.table(head)
        asks = [part for part in table if part[4] & (ATTEND | OBSERVE)]
        q = np.frombuffer(tensors[0], "<f4").reshape(-1, HEADS, KEY_DIM) if asks else None
        tokens = sum(part[3] for part in table if part[4] & APPEND)
        assert len(tensors) == bool(asks) + 2 * bool(tokens)
        if tokens:
            assert len(tensors[-2]) == tokens * KV_HEADS * KEY_DIM * 4 and len(tensors[-1]) == tokens * KV_HEADS * VALUE_DIM * 4
            keys = np.frombuffer(tensors[-2], "<f4").reshape(tokens, -1)
        lines, outs, lses, faults, at, row = [], [], [], [], 0, 0
        for index, (stream, first, confirmed, n, flags, status) in enumerate(table):
            assert status == 0 and n > 0
            mine = q[at:at + n] if flags & (ATTEND | OBSERVE) else None
            at += n if mine is not None else 0
            rows = keys[row:row + n, 0] if flags & APPEND else None
            row += n if flags & APPEND else 0
            held = self.applied.setdefault((stream, layer), [])
            self.confirmed[stream, layer] = confirmed
            code = 8 if first != len(held) else self.refuse((stream, layer, first, n, flags))
            if code:
                self.n_refused += 1
                faults.append({"code": CODES[code], **WORDS, "part": index, "expected": len(held)})
            elif flags & APPEND:
                held.extend(rows.tolist())
            answered = n if flags & ATTEND and not code else 0
            lines.append(struct.pack("<QQQIHH", stream, first, len(held), answered, flags, code))
            if answered and flags & APPEND:
                size = 4 * n * HEADS * (VALUE_DIM + bool(flags & PARTIAL))
                self.kept.setdefault((stream, layer), []).append((first + n, size))
            if answered:
                outs.append(np.repeat(mine[:, :, :1], VALUE_DIM, axis=2).tobytes())
            if answered and flags & PARTIAL:
                lses.append(np.full((n, HEADS), 7, "<f4").tobytes())
        bits = (1 if outs else 0) | (2 if lses else 0) | (4 if faults else 0)
        reply = [struct.pack("<4sBBHIIQII", b"ATND", 1, 2, 0, n_parts, layer, message_id, bits,
                             self.credit // 1024) + b"".join(lines)]
        return reply + [b"".join(x) for x in (outs, lses) if x] + ([json.dumps(faults).encode()] if faults else [])
