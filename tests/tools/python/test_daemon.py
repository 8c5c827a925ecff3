"""The Python client against a real daemon, at $ATTND_ENDPOINT; its configuration is in test_python.c."""
import json
import os
import struct
import time
import unittest

import numpy as np

import attnd
from attnd import wire
from relay import Relay

ENDPOINT = os.environ.get("ATTND_ENDPOINT")
KINDS = ("softmax", "tensor")
WIRE_TYPES = {"f32": "<f4", "f16": "<f2", "bf16": "<u2"}


def read_golden(path):
    """The arrays of a safetensors file, and its metadata."""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    arrays = {name: np.frombuffer(data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]],
                                  {"F32": "<f4", "F64": "<f8", "I64": "<i8"}[entry["dtype"]]).reshape(entry["shape"])
              for name, entry in header.items() if name != "__metadata__"}
    return arrays, header["__metadata__"]


def code_of(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except attnd.AttndError as error:
        return error.code
    return None


class Case(unittest.TestCase):
    """One connection, and a stream's tokens: heads 4 on 2, d = 16, e = 8, f32."""
    SHAPE = attnd.Shape([("softmax", 2)], 4, 2, 16, 8, expected_tokens=512)

    def setUp(self):
        self.client = attnd.connect(ENDPOINT)
        self.addCleanup(self.client.close)
        self.name = self.id().rsplit(".", 1)[-1][:60]
        random = np.random.default_rng(7)
        self.q = random.normal(size=(200, 4, 16)).astype(np.float32)
        self.k = random.normal(size=(200, 2, 16)).astype(np.float32)
        self.v = random.normal(size=(200, 2, 8)).astype(np.float32)

    def rows(self, first, last):
        return self.q[first:last], self.k[first:last], self.v[first:last]

    def open(self, profile="full", name="", **options):
        return self.client.open(name or self.name, self.SHAPE, profile, **options)

    def full(self, last, queries=None):
        """Attention of these queries, by default the last token's, to the first `last` tokens: (n, H, e) and lse (n, H)."""
        q = (self.q[last - 1:last] if queries is None else queries).astype(np.float64)
        own = np.arange(4) // 2
        scores = np.einsum("nhd,mhd->nhm", q, self.k[:last, own].astype(np.float64)) / 4
        weights = np.exp(scores)
        return np.einsum("nhm,mhe->nhe", weights / weights.sum(2, keepdims=True), self.v[:last, own]), np.log(weights.sum(2))


class Outputs(Case):
    def test_outputs_equal_the_golden_files(self):
        cases = {"softmax": {"softmax": "full", "window": "window,window_tokens=16,sink_tokens=4,storage=f32",
                             "window_unmasked": "window,window_tokens=16,sink_tokens=0,unmasked=true,storage=f32"},
                 "tensor": {"tensor": "full", "tensor_window": "window,window_tokens=12x7,sink_tokens=0,storage=f32"}}
        for kind in KINDS:
            for tag in ("small", "odd", "wide"):
                golden, metadata = read_golden(f"tests/golden/{kind}_{tag}.safetensors")
                one = {name: golden[name][:, None] for name in ("q", "k", "v", "k1", "v1", "k2", "v2") if name in golden}
                k, v = (one["k"], one["v"]) if kind == "softmax" else ((one["k1"], one["k2"]), (one["v1"], one["v2"]))
                shape = attnd.Shape([(kind, 1)], 1, 1, one["q"].shape[2], (v if kind == "softmax" else v[0]).shape[2],
                                    scale=float(metadata["scale"]))
                for wanted, profile in cases[kind].items():
                    with self.client.open(f"golden-{kind}-{tag}-{wanted}", shape, profile) as stream:
                        out = stream.attend(0, one["q"], k, v)[:, 0]
                    error = np.linalg.norm(out - golden[wanted], axis=1) / np.linalg.norm(golden[wanted], axis=1)
                    self.assertLess(error.max(), 1e-5)

    def test_outputs_have_the_bits_of_the_c_path(self):
        """The C side leaves a folder of cases: what it sent, as bytes of the wire, and what came out in process."""
        folder = os.environ["ATTND_CASES"]
        with open(os.path.join(folder, "cases.json"), encoding="utf-8") as file:
            cases = json.load(file)
        self.assertGreaterEqual(len(cases), 4)
        for number, case in enumerate(cases):
            def array(name, heads, width, kind):
                x = np.fromfile(os.path.join(folder, f"{number}.{name}"), kind)
                return x.reshape((case["tokens"], heads, width) if width else (case["tokens"], heads))
            element = WIRE_TYPES[case["element"]]
            names = [("k", "v")] if case["attention"] == "softmax" else [("k1", "v1"), ("k2", "v2")]
            q = array("q", case["heads"], case["key_dim"], element)
            k = [array(key, case["kv_heads"], case["key_dim"], element) for key, _ in names]
            v = [array(value, case["kv_heads"], case["value_dim"], element) for _, value in names]
            wide = {"k": k, "v": v, "q": [q]}
            if case["widened"]:  # the client rounds f32 back to the bits that these numbers are
                widen = attnd.from_bf16 if case["element"] == "bf16" else np.float32
                wide = {name: [widen(x) for x in wide[name]] for name in wide}
            shape = attnd.Shape([(case["attention"], 1)], case["heads"], case["kv_heads"], case["key_dim"], case["value_dim"],
                                scale=case["scale"], element=case["element"], expected_tokens=case["expected_tokens"])
            with self.client.open(f"bits-{number}", shape, case["profile"]) as stream:
                first, pending = 0, []
                for n in case["batches"]:
                    rows = [[x[first:first + n] for x in wide[name]] for name in "kv"]
                    rows = [x[0] if len(names) == 1 else x for x in rows]
                    pending.append(stream.send(0, wide["q"][0][first:first + n], *rows, partial=True))
                    first += n
                results = [p.result() for p in pending]
            out, lse = np.concatenate([r.out for r in results]), np.concatenate([r.lse for r in results])
            self.assertEqual(out.tobytes(), array("out", case["heads"], case["value_dim"], "<f4").tobytes(), case)
            self.assertEqual(lse.tobytes(), array("lse", case["heads"], 0, "<f4").tobytes(), case)

    def test_queries_alone_attend_to_all_that_is_held_and_change_nothing(self):
        with self.open() as stream:
            stream.append(0, *self.rows(0, 50)[1:])
            out, lse = stream.attend_partial(0, self.q[:5])
            wanted, wanted_lse = self.full(50, self.q[:5])
            self.assertLess(np.linalg.norm(out - wanted) / np.linalg.norm(wanted), 1e-5)
            self.assertLess(abs(lse - wanted_lse).max(), 1e-5)
            self.assertEqual(stream.next, [50, 0])
            self.assertFalse(out.flags.writeable)

    def test_partial_outputs_of_two_streams_merge_into_that_of_the_whole(self):
        with self.open(name="left") as left, self.open(name="right") as right:
            left.append(0, *self.rows(0, 120)[1:])
            right.append(0, *self.rows(120, 200)[1:])
            (a, la), (b, lb) = (stream.attend_partial(0, self.q[:3]) for stream in (left, right))
            weight = 1 / (1 + np.exp((lb - la).astype(np.float64)))[:, :, None]
            wanted, wanted_lse = self.full(200, self.q[:3])
            self.assertLess(np.linalg.norm(weight * a + (1 - weight) * b - wanted) / np.linalg.norm(wanted), 1e-5)
            self.assertLess(abs(np.logaddexp(la, lb) - wanted_lse).max(), 1e-5)

    def test_parts_of_several_streams_in_one_message_are_as_if_sent_alone(self):
        sizes, outs = (1, 3, 7), []
        with self.open(name="a") as a, self.open("window,window_tokens=8", name="b") as b, self.open(name="c") as c:
            results = self.client.step(1, [attnd.Part(s, *self.rows(0, n), partial=s is b) for s, n in zip((a, b, c), sizes)])
            self.client.step(1, [attnd.Part(a, None, *self.rows(1, 2)[1:]), attnd.Part(b, self.q[3:4]),
                                 attnd.Part(c, *self.rows(7, 9), attend=False), attnd.Part(a, *self.rows(2, 4))])
            self.assertEqual([s.next for s in (a, b, c)], [[0, 4], [0, 3], [0, 9]])
            self.assertEqual([r.lse is not None for r in results], [False, True, False])
            outs = [s.attend(1, self.q[9:10]) for s in (a, b, c)]
        for index, (profile, n) in enumerate(zip(("full", "window,window_tokens=8", "full"), sizes)):
            with self.open(profile, name="alone") as alone:
                self.assertEqual(alone.attend(1, *self.rows(0, n)).tobytes(), results[index].out.tobytes())
                alone.append(1, *self.rows(n, (4, 3, 9)[index])[1:]) if index != 1 else None
                self.assertLess(np.linalg.norm(alone.attend(1, self.q[9:10]) - outs[index]), 1e-5)

    def test_a_policy_learns_from_observed_queries(self):
        settings = {"rows": 32, "interval": 8, "storage": "f32"}
        outs = []
        for observed in (self.q[:8], self.q[8:16]):
            with self.open("snapkv", **settings) as stream:
                for first in range(0, 200, 8):
                    stream.append(0, *self.rows(first, first + 8)[1:], q=observed)
                    stream.observe(0, observed)
                outs.append(stream.attend(0, self.q[:4]))
        self.assertFalse((outs[0] == outs[1]).all())


class Resending(Case):
    def test_a_resend_is_answered_with_the_same_bits_and_applied_once(self):
        sent = self.open()  # all at once, so that no message confirms another
        first = [p.result() for p in [sent.send(0, *self.rows(i, i + 5), partial=True) for i in range(0, 20, 5)]]
        with attnd.connect(ENDPOINT) as other, other.open(self.name, self.SHAPE, resume=True) as stream:
            self.assertEqual(stream.next, [20, 0])
            for i, result in zip(range(0, 15, 5), first):
                stream.next[0] = i
                out, lse = stream.attend_partial(0, *self.rows(i, i + 5))
                self.assertEqual((out.tobytes(), lse.tobytes()), (result.out.tobytes(), result.lse.tobytes()))
            stream.next[0] = 16
            self.assertEqual(stream.attend(0, *self.rows(16, 18)).tobytes(), first[3].out[1:3].tobytes())
            stream.next[0] = 20
            out = stream.attend(0, *self.rows(20, 21))
            self.assertLess(np.linalg.norm(out[0] - self.full(21)[0][0]), 1e-5)
            self.assertEqual(stream.close().tokens, 21)

    def test_a_connection_that_was_cut_loses_and_repeats_nothing(self):
        with self.open(name="undisturbed") as stream:
            wanted = [stream.attend(0, *self.rows(i, i + 5)) for i in range(0, 60, 5)]
        outs = {}
        with Relay(ENDPOINT) as relay, attnd.connect(relay.endpoint) as client:
            stream = client.open(self.name, self.SHAPE)
            for i in range(0, 20, 5):
                outs[i] = stream.attend(0, *self.rows(i, i + 5))
            relay.flows.clear()
            lost = [stream.send(0, *self.rows(i, i + 5)) for i in range(20, 40, 5)]
            while self.client.status(stream)["streams"][0]["tokens_total"] < 40:  # applied, and the answers kept back
                time.sleep(0.005)
            relay.cut()
            self.assertEqual(code_of(lost[0].result, 0.05), "timeout")
            again = client.open(self.name, self.SHAPE, resume=True)
            self.assertGreaterEqual(relay.n_connections, 2)
            self.assertEqual((again.number, again.next), (stream.number, [40, 0]))
            self.assertEqual({p.wait(0)[0].error.code for p in lost}, {"not_owner"})
            again.next[0] = stream.confirmed[0]
            self.assertEqual(again.next[0], 20)
            pending = {i: again.send(0, *self.rows(i, i + 5)) for i in range(20, 60, 5)}
            outs.update({i: p.result().out for i, p in pending.items()})
            self.assertEqual([outs[i].tobytes() for i in range(0, 60, 5)], [out.tobytes() for out in wanted])
            self.assertEqual(again.close().tokens, 60)

    def test_who_lost_the_connection_without_resuming_is_told_so(self):
        with Relay(ENDPOINT) as relay, attnd.connect(relay.endpoint) as client:
            stream = client.open(self.name, self.SHAPE)
            stream.attend(0, *self.rows(0, 1))
            relay.cut()
            while code_of(client.ask, "hello", version=1) is not None or relay.n_connections < 2:
                time.sleep(0.01)
            self.assertEqual(code_of(stream.attend, 0, *self.rows(1, 2)), "not_owner")
            self.assertEqual(client.open(self.name, self.SHAPE, resume=True).next, [1, 0])
            client.close_stream(stream.number)

    def test_a_stream_left_open_by_an_exception_can_be_resumed(self):
        with self.assertRaises(KeyError), self.open() as stream:
            stream.append(1, *self.rows(0, 3)[1:])
            raise KeyError
        with attnd.connect(ENDPOINT) as other, other.open(self.name, self.SHAPE, resume=True) as stream:
            self.assertEqual(stream.next, [0, 3])
        self.assertEqual(self.open().next, [0, 0])


class Watching(Case):
    def test_published_outputs_are_those_of_the_replies(self):
        outputs, layer1 = self.client.outputs(self.name, heads=4, timeout=10), self.client.outputs(self.name, 1, timeout=10)
        with self.open() as stream:
            first = 0
            while not outputs._socket.poll(20):  # the subscriptions take effect a moment after they were made
                stream.attend(0, *self.rows(first, first + 1))
                first += 1
            seen = next(outputs)
            while seen.next < first:
                seen = next(outputs)
            out = stream.attend(0, *self.rows(first, first + 4))
            published = next(outputs)
            self.assertEqual((published.first, published.next, published.lost, published.layer), (first, first + 4, 0, 0))
            self.assertEqual((published.stream, published.sequence), (self.name, seen.sequence + 1))
            self.assertEqual(published.out.tobytes(), out.tobytes())
            self.assertEqual(published.out.shape, (4, 4, 8))
            out = stream.attend(1, *self.rows(0, 2))
            self.assertEqual(next(layer1).out.tobytes(), out.tobytes())
            stream.attend(0, self.q[:1])
            self.assertEqual([p.next for p in (next(outputs), next(outputs))], [2, first + 4])

    def test_what_a_slow_subscriber_lost_is_counted_to_the_message(self):
        """The daemon keeps 8 messages for a subscriber, and the sockets some hundred KiB; 400 of 64 KiB are published."""
        outputs = self.client.outputs(self.name, 0, queue=1, timeout=10)
        with self.client.open(self.name, attnd.Shape([("softmax", 1)], 64, 1, 1, 256)) as stream:
            q, k, v = np.zeros((1, 64, 1)), np.zeros((1, 1, 1)), np.zeros((1, 1, 256))
            while not outputs._socket.poll(20):
                stream.attend(0, q, k, v)
            first = next(outputs).sequence
            for _ in range(400):
                stream.attend(0, q)
            read = 1
            while outputs._socket.poll(100):
                next(outputs)
                read += 1
            stream.attend(0, q)
            last = next(outputs).sequence
            self.assertGreater(outputs.lost, 0)
            self.assertEqual(read + 1 + outputs.lost, last - first + 1)

    def test_telemetry_comes_at_once_and_then_again(self):
        with self.client.telemetry("daemon", timeout=10) as telemetry:
            told = [next(telemetry) for _ in range(3)]
        self.assertEqual([t.sequence - told[0].sequence for t in told], [0, 1, 2])
        self.assertEqual((told[0].topic, told[0].lost), ("telemetry/daemon/", 0))
        self.assertGreaterEqual(told[2].json["daemon"]["uptime_seconds"], told[0].json["daemon"]["uptime_seconds"])
        self.assertEqual(told[0].json["instance"], self.client.hello.instance)


class Refusals(Case):
    """At a daemon with narrow limits."""

    def raw(self, *frames):
        """What the daemon's faults say to these frames."""
        socket = self.client._socket
        socket.send_multipart(frames)
        self.assertTrue(socket.poll(10000))
        answer = socket.recv_multipart()
        fault = json.loads(answer[-1])
        return (fault[0] if isinstance(fault, list) else fault["error"])["code"]

    def test_every_refusal_comes_with_its_code(self):
        stream, one = self.open(), self.rows(0, 1)
        open_, shape = self.client.open, self.SHAPE
        bad = [x.copy() for x in one]
        bad[0][0, 1, 2] = np.nan
        self.assertEqual(code_of(stream.attend, 0, *bad), "not_finite")
        self.assertEqual(stream.next, [0, 0])
        self.assertEqual(code_of(open_, "x", attnd.Shape([("softmax", 1)], 4, 3, 16)), "invalid")
        self.assertEqual(code_of(open_, "a name with spaces", shape), "invalid")
        tensor = attnd.Shape([("tensor", 1)], 1, 1, 4)
        self.assertEqual(code_of(open_, "x", tensor, "subgen2", history=True, budget_bytes=1 << 20), "unsupported")
        self.assertEqual(code_of(open_, "x", shape, "nobodys"), "unknown_profile")
        self.assertEqual(code_of(open_, self.name, shape), "exists")
        self.assertEqual(code_of(open_, self.name, attnd.Shape([("softmax", 2)], 4, 1, 16, 8), resume=True), "wrong_shape")
        self.assertEqual(code_of(self.client.ask, "close", stream=12345), "unknown_stream")
        self.assertEqual(code_of(self.client.ask, "frobnicate"), "malformed")
        self.assertEqual(code_of(self.client.ask, "hello", version=1, more=2), "malformed")
        stream.next[0] = 5
        with self.assertRaises(attnd.AttndError) as raised:
            stream.attend(0, *one)
        self.assertEqual((raised.exception.code, raised.exception.expected, raised.exception.part), ("wrong_index", 0, 0))
        self.assertEqual(stream.next, [0, 0])
        with self.open("h2o", name="learns") as learns:
            self.assertEqual(code_of(learns.append, 0, *one[1:]), "needs_queries")
            learns.append(0, *one[1:], q=one[0])
        with self.open("full", name="narrow", storage="f16") as narrow:
            self.assertEqual(code_of(narrow.attend, 0, one[0], one[1], one[2] * 0 + 1e30), "overflow")
            self.assertEqual(narrow.attend(0, *one).shape, (1, 4, 8))
        with attnd.connect(ENDPOINT) as other:
            theirs = other.open(self.name, shape, resume=True)
            self.assertEqual(code_of(stream.attend, 0, *one), "not_owner")
            theirs.close()
        self.assertEqual(code_of(stream.attend, 0, *one), "unknown_stream")

    def test_what_was_confirmed_is_not_kept(self):
        sent = self.open()
        outs = [p.result().out for p in [sent.send(0, *self.rows(i, i + 1)) for i in range(20)]]
        with attnd.connect(ENDPOINT) as other, other.open(self.name, self.SHAPE, resume=True) as stream:
            def again(token):
                stream.next[0] = token
                return stream.attend(0, *self.rows(token, token + 1)).tobytes()
            self.assertEqual([again(token) == outs[token].tobytes() for token in (3, 12, 15, 19)], [True] * 4)
            self.assertEqual(code_of(again, 15), "not_kept")
            self.assertEqual(stream.next, [20, 0])
            stream.attend(0, *self.rows(20, 21))
            self.assertEqual(stream.next, [21, 0])

    def test_what_is_too_large_is_refused_by_either_side(self):
        limits = self.client.hello.limits
        self.assertEqual((limits.parts, limits.tokens_per_message, limits.message_bytes), (8, 64, 256 << 10))
        with self.open() as stream:
            far = limits._replace(parts=100, tokens_per_message=1000, message_bytes=1 << 30)
            messages = ([attnd.Part(stream, *(x[:65] for x in (self.q, self.k, self.v)))], [attnd.Part(stream, self.q[:1])] * 9)
            for hello in (self.client.hello, self.client.hello._replace(limits=far)):
                self.client.hello = hello
                self.assertEqual([code_of(self.client.step, 0, parts) for parts in messages], ["too_large"] * 2)
                self.assertEqual(stream.next, [0, 0])
            with self.client.open("wide", attnd.Shape([("softmax", 1)], 64, 1, 1024)) as wide:
                self.assertEqual(code_of(wide.attend, 0, np.zeros((2, 64, 1024))), "too_large")
            stream.attend(0, *self.rows(0, 1))

    def test_memory_above_the_limit_is_refused(self):
        shape = attnd.Shape([("softmax", 1)], 1, 1, 1024)
        with self.client.open(self.name, shape) as stream:
            x = np.zeros((30, 1, 1024))
            codes = [code_of(stream.append, 0, x, x) for _ in range(40)]
            self.assertEqual(set(codes), {None, "no_memory"})
            self.assertEqual(stream.next[0], 30 * codes.count(None))
            self.assertEqual(stream.attend(0, x[:1]).shape, (1, 1, 1024))

    def test_a_client_that_knows_no_credit_gets_through_by_sending_again(self):
        self.client._makes_room = lambda n_bytes: True
        self.client.max_pending = 100
        q, k, v = (np.random.default_rng(1).normal(size=(6400, heads, dim)) for heads, dim in ((4, 16), (2, 16), (2, 8)))
        batches = [slice(i, i + 64) for i in range(0, 6400, 64)]
        with self.open(name="ahead") as stream, self.open(name="slowly") as alone:
            pending = [stream.send(0, q[i], k[i], v[i]) for i in batches]
            for i, answer in zip(batches, pending):
                self.assertEqual(answer.result().out.tobytes(), alone.attend(0, q[i], k[i], v[i]).tobytes())
            self.assertEqual(stream.next[0], 6400)
        self.assertGreater(self.client.status()["daemon"]["refused_total"]["busy"], 0)

    def test_answers_that_are_not_confirmed_take_up_credit_until_they_are(self):
        """8 KiB of outputs from each of 40 layers, several ahead: more than the credit, and no message of theirs comes that would
        confirm them. A client that counts along is refused nothing."""
        shape = attnd.Shape([("softmax", 40)], 4, 2, 16, 8)
        busy = self.client.status()["daemon"]["refused_total"].get("busy", 0)
        with self.client.open(self.name, shape) as stream:
            for pending in [stream.send(layer, *self.rows(0, 64)) for layer in range(40)]:
                self.assertEqual(pending.result().out.shape, (64, 4, 8))
            self.assertEqual(self.client.status()["daemon"]["refused_total"].get("busy", 0), busy)
            self.assertGreater(self.client.status()["daemon"]["kept_reply_bytes"], 0)
            self.assertEqual(stream.confirm(), 0)
            self.assertEqual(stream.next, [64] * 40)

    def test_random_bytes_are_answered_and_leave_others_alone(self):
        random = np.random.default_rng(5)
        with attnd.connect(ENDPOINT) as other, other.open(self.name, self.SHAPE) as stream:
            before = stream.attend(0, *self.rows(0, 20))
            good = wire.encode_request(0, 1, [wire.Part(stream.number, 20, 0, 1, 1, 0)])
            for i in range(200):
                frame = bytearray(good if i % 2 else random.bytes(int(random.integers(100))))
                for at in random.integers(len(frame), size=3) if frame else ():
                    frame[at] = random.integers(256)
                self.assertIn(self.raw(bytes(frame), *[random.bytes(int(random.integers(200)))
                                                       for _ in range(int(random.integers(4)))]),
                              ("malformed", "version", "wrong_shape", "unknown_stream", "not_owner", "too_large"))
            self.assertEqual(self.raw(good[:4] + b"\x02" + good[5:]), "version")
            self.assertEqual(self.raw(b'{"op": 1'), "malformed")
            self.assertEqual(stream.attend(0, self.q[19:20]).tobytes(), before[19:20].tobytes())
            self.assertEqual(stream.next, [20, 0])


if __name__ == "__main__":
    unittest.main()
