"""The Python client against a daemon that misbehaves on purpose, and against bytes that nobody would send."""
import json
import random
import struct
import time
import unittest

import numpy as np
import zmq

import attnd
from attnd import hello, subscribe, tensors, wire
from fake_daemon import APPEND, ATTEND, HEADS, KEY_DIM, KV_HEADS, VALUE_DIM, FakeDaemon

SHAPE = attnd.Shape([("softmax", 2)], HEADS, KV_HEADS, KEY_DIM, VALUE_DIM)


def tokens(first, n):
    """q, k, v of n tokens, which begin with the token's index."""
    index = np.arange(first, first + n, dtype=np.float32)[:, None, None]
    return (index + np.zeros((n, HEADS, KEY_DIM), np.float32), index + np.zeros((n, KV_HEADS, KEY_DIM), np.float32),
            np.zeros((n, KV_HEADS, VALUE_DIM), np.float32))


def code_of(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except attnd.AttndError as error:
        return error.code
    return None


class Flow(unittest.TestCase):
    def feed(self, daemon, seed, n_messages=150):
        """Random parts of two streams, several messages ahead; outputs are right, each token was appended once, in order."""
        choose = random.Random(seed)
        with attnd.connect(daemon.endpoint, max_pending=8, timeout=20) as client:
            streams = [client.open(str(name), SHAPE) for name in (1, 2)]
            sent = []
            for _ in range(n_messages):
                layer, parts = choose.randrange(2), []
                ahead = {stream: stream.next[layer] for stream in streams}
                for _ in range(choose.randint(1, 3)):
                    stream = choose.choice(streams)
                    n = choose.randint(1, 4)
                    q, k, v = tokens(ahead[stream], n)
                    ahead[stream] += n
                    attend = choose.random() < 0.7
                    parts.append((ahead[stream] - n, attnd.Part(stream, q, k, v, attend, attend and choose.random() < 0.3)))
                sent.append((client.send(layer, [part for _, part in parts]), parts))
            for pending, parts in sent:
                for result, (first, part) in zip(pending.results(), parts):
                    n = len(part.q)
                    self.assertEqual(result.out is None, not part.attend)
                    self.assertEqual(result.lse is None, not part.partial)
                    if part.attend:
                        self.assertTrue((result.out == np.arange(first, first + n)[:, None, None]).all())
                        self.assertEqual(result.out.shape, (n, HEADS, VALUE_DIM))
                    if part.partial:
                        self.assertTrue((result.lse == 7).all() and result.lse.shape == (n, HEADS))
            for (stream, layer), held in daemon.applied.items():
                self.assertEqual(held, list(range(len(held))))
                self.assertEqual(streams[stream - 1].next[layer], len(held))
                self.assertEqual(streams[stream - 1].confirmed[layer], len(held))
            self.assertEqual(sum(map(len, daemon.applied.values())), sum(len(p.q) for _, parts in sent for _, p in parts))
            self.assertEqual((client._bytes, client._n_pending, client._messages), (0, 0, {}))
            self.assertEqual(client._kept, sum(size for kept in daemon.kept.values() for _, size in kept))

    def test_every_token_goes_once_and_in_order(self):
        with FakeDaemon(hold=5) as daemon:
            self.feed(daemon, 1)
            self.assertEqual(daemon.n_refused, 0)

    def test_what_was_busy_goes_again_in_its_order(self):
        for seed in range(4):
            choose = random.Random(seed)
            with FakeDaemon(lambda part: 14 if choose.random() < 0.2 else 0, hold=1 + 2 * seed) as daemon:
                self.feed(daemon, seed)
                self.assertGreater(daemon.n_refused, 20)

    def test_no_more_goes_than_the_credit_allows(self):
        with FakeDaemon(hold=64, credit=2048) as daemon:
            self.feed(daemon, 2)
            self.assertLessEqual(daemon.most_bytes, 2048)
            self.assertGreater(daemon.most_bytes, 1024)
            daemon.credit, daemon.most_bytes, daemon.applied, daemon.kept = 1 << 20, 0, {}, {}
            self.feed(daemon, 2)
            self.assertGreater(daemon.most_bytes, 2048)

    def test_credit_that_a_reply_takes_back_counts_at_once(self):
        with FakeDaemon(hold=64) as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            daemon.credit = 2048
            stream.attend(0, *tokens(0, 1))
            for first in range(1, 30):
                stream.send(0, *tokens(first, 1))
            client.drain()
            self.assertLessEqual(daemon.most_bytes, 2048)
            self.assertGreater(daemon.most_bytes, 1024)

    def test_answers_are_confirmed_when_credit_is_short_and_only_then(self):
        with FakeDaemon(credit=4096) as daemon, attnd.connect(daemon.endpoint) as client:
            streams = [client.open(str(name), SHAPE) for name in range(1, 30)]
            for stream in streams:  # 160 bytes of answers, which no later message of their layer confirms
                stream.send(0, *tokens(0, 10)).result()
                kept = sum(size for kept in daemon.kept.values() for _, size in kept)
                self.assertEqual(kept, client._kept)
            self.assertLessEqual(daemon.most_bytes, 4096)
            self.assertGreater(daemon.most_bytes, 3000)
            self.assertEqual((daemon.n_refused, streams[-1].confirm()), (0, 0))

    def test_a_timeout_says_why_the_daemon_did_not_take_it(self):
        with FakeDaemon(lambda part: 14) as daemon, attnd.connect(daemon.endpoint, timeout=0.05) as client:
            with self.assertRaisesRegex(attnd.Timeout, "so it is"):
                client.open("1", SHAPE).attend(0, *tokens(0, 1))

    def test_what_is_larger_than_the_credit_goes_alone(self):
        with FakeDaemon(credit=100) as daemon:
            self.feed(daemon, 3, n_messages=20)

    def test_no_more_is_pending_than_asked_for(self):
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint, max_pending=3, timeout=0.2) as client:
            stream = client.open("1", SHAPE)
            daemon.mute = True
            for first in range(3):
                stream.send(0, *tokens(first, 1))
            self.assertEqual(code_of(stream.send, 0, *tokens(3, 1)), "timeout")
            self.assertEqual(stream.next[0], 3)
            daemon.mute = False
            self.assertTrue((stream.attend(0, *tokens(3, 1)) == 3).all())

    def test_a_refusal_ends_what_was_sent_behind_it(self):
        refused = []

        def refuse(part):
            if part[2] == 4 and not refused:
                refused.append(part)
                return 12
            return 0
        with FakeDaemon(refuse, hold=4) as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            pending = [stream.send(0, *tokens(first, 2)) for first in range(0, 10, 2)]
            errors = [p.wait()[0].error for p in pending]
            self.assertEqual([e and e.code for e in errors], [None, None, "not_finite", "wrong_index", "wrong_index"])
            self.assertEqual(stream.next, [4, 0])
            self.assertEqual((errors[2].sentence, errors[2].advice, errors[2].part), ("so it is", "do", 0))
            self.assertEqual((errors[3].expected, errors[4].expected), (4, 4))
            self.assertTrue((stream.attend(0, *tokens(4, 6)).max(axis=(1, 2)) == range(4, 10)).all())
            self.assertEqual(daemon.applied[1, 0], list(range(10)))

    def test_a_refusal_ends_what_waits_behind_it_too(self):
        """Token 2 is busy, then refused for good: nothing of what came behind it may be appended, whether it was sent already
        or, where the credit is for one message only, waited here."""
        for credit, n_refused in ((1 << 20, 1 + 3 + 1 + 3), (180, 2)):
            said = [14, 12]
            with FakeDaemon(lambda part: said.pop(0) if part[2] == 2 and said else 0, credit=credit) as daemon:
                with attnd.connect(daemon.endpoint) as client:
                    stream = client.open("1", SHAPE)
                    pending = [stream.send(0, *tokens(first, 1)) for first in range(6)]
                    self.assertEqual([p.wait()[0].error and p.wait()[0].error.code for p in pending],
                                     [None, None, "not_finite", "wrong_index", "wrong_index", "wrong_index"])
                    self.assertEqual((stream.next, daemon.applied[1, 0]), ([2, 0], [0, 1]))
                    stream.attend(0, *tokens(2, 1))
                    self.assertEqual((daemon.applied[1, 0], daemon.n_refused), ([0, 1, 2], n_refused))

    def test_answers_to_what_was_sent_before_a_refusal_do_not_move_the_next_index(self):
        said = [12]
        with FakeDaemon(lambda part: said.pop() if said else 0) as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            daemon.mute = True
            refused, behind = stream.send(0, *tokens(0, 2)), stream.send(0, *tokens(2, 2))
            daemon.release = 1
            self.assertEqual(refused.wait()[0].error.code, "not_finite")
            again = stream.send(0, *tokens(0, 3))
            daemon.mute = False
            self.assertEqual([p.wait()[0].error and p.wait()[0].error.code for p in (behind, again)], ["wrong_index", None])
            self.assertEqual(stream.next, [3, 0])

    def test_a_part_is_named_by_its_place_in_the_message_though_it_went_again_alone(self):
        said = [14, 12]
        with FakeDaemon(lambda part: said.pop(0) if part[0] == 2 else 0) as daemon, attnd.connect(daemon.endpoint) as client:
            parts = [attnd.Part(client.open(name, SHAPE), *tokens(0, 1)) for name in "12"]
            results = client.send(0, parts).wait()
            self.assertEqual((results[0].error, results[1].error.code, results[1].error.part), (None, "not_finite", 1))

    def test_confirmation_follows_the_answers(self):
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            for first in range(3):
                stream.attend(0, *tokens(first, 1))
                self.assertEqual(daemon.confirmed[1, 0], first)
            self.assertEqual(stream.confirmed, [3, 0])

    def test_answers_are_matched_to_their_parts_when_some_are_refused(self):
        with FakeDaemon(lambda part: 12 if part[0] == 2 else 0) as daemon, attnd.connect(daemon.endpoint) as client:
            streams = [client.open(name, SHAPE) for name in "123"]
            parts = [attnd.Part(stream, *tokens(0, n), partial=n == 2) for n, stream in enumerate(streams, 1)]
            results = client.send(1, parts).wait()
            self.assertEqual([r.error and (r.error.code, r.error.part) for r in results], [None, ("not_finite", 1), None])
            self.assertEqual([r.out is not None and len(r.out) for r in results], [1, False, 3])
            self.assertEqual([stream.next[1] for stream in streams], [1, 0, 3])
            self.assertEqual(code_of(client.step, 1, [attnd.Part(streams[1], *tokens(0, 1))]), "not_finite")

    def test_waiting_may_go_on_after_a_timeout(self):
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            daemon.mute = True
            pending = stream.send(0, *tokens(0, 2))
            with self.assertRaises(attnd.Timeout) as raised:
                pending.result(timeout=0.05)
            self.assertIsInstance(raised.exception, TimeoutError)
            self.assertEqual((raised.exception.code, pending.done), ("timeout", False))
            self.assertEqual(code_of(client.drain, 0.01), "timeout")
            daemon.mute = False
            self.assertEqual(len(pending.result().out), 2)
            self.assertTrue(pending.done)
            client.drain(0)

    def test_taking_a_stream_over_ends_the_waiting_for_its_old_answers(self):
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint, max_pending=2) as client:
            old, other = client.open("1", SHAPE), client.open("2", SHAPE)
            daemon.mute = True
            lost = client.send(0, [attnd.Part(old, *tokens(0, 2)), attnd.Part(other, *tokens(0, 2))])
            time.sleep(0.05)
            new = client.open("1", SHAPE, resume=True)
            self.assertFalse(lost.done)
            again = client.open("2", SHAPE, resume=True)
            self.assertEqual([r.error.code for r in lost.wait(0)], ["not_owner", "not_owner"])
            daemon.waiting.clear()
            daemon.mute = False
            self.assertEqual(new.next, [0, 0])
            for _ in range(3):
                client.send(0, [attnd.Part(new, *tokens(new.next[0], 2)), attnd.Part(again, *tokens(again.next[0], 1))])
            client.drain()
            self.assertEqual((len(daemon.applied[1, 0]), len(daemon.applied[2, 0])), (6, 3))


    def test_what_nobody_waits_for_any_more_does_not_go_again(self):
        with FakeDaemon(lambda part: 14 if part[0] == 1 else 0) as daemon, attnd.connect(daemon.endpoint) as client:
            daemon.mute = True
            old, other = client.open("1", SHAPE), client.open("2", SHAPE)
            sent = client.send(0, [attnd.Part(old, *tokens(0, 2)), attnd.Part(other, *tokens(0, 2))])
            new = client.open("1", SHAPE, resume=True)
            daemon.mute = False
            self.assertEqual([r.error and r.error.code for r in sent.wait()], ["not_owner", None])
            other.attend(0, *tokens(2, 1))
            self.assertEqual((daemon.n_refused, client._blocked, new.next), (1, {}, [0, 0]))


class Arrays(unittest.TestCase):
    def test_wrong_shapes_and_types_are_named_before_anything_is_sent(self):
        q, k, v = tokens(0, 4)
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", attnd.Shape([("softmax", 1), ("tensor", 1)], HEADS, KV_HEADS, KEY_DIM, VALUE_DIM))
            for arguments in ((0, q[0], k, v), (0, q, k[:, :, :2], v), (0, q, k, v[:3]), (0, q[:0], k[:0], v[:0]), (0, q, k),
                              (0,), (1, q, k, v), (1, q, (k, k), (v,)), (1, q, (k, k[:2]), (v, v))):
                self.assertRaises(ValueError, stream.send, *arguments)
            self.assertRaises(ValueError, stream.send, 0, None, k, v, partial=True)
            self.assertRaises(IndexError, stream.send, 2, q)
            self.assertRaises(TypeError, stream.send, 0, q.astype(np.uint16), k, v)
            self.assertRaises(TypeError, stream.send, 0, q.astype(complex), k, v)
            self.assertRaises(ValueError, client.send, 0, [])
            other = client.open("2", attnd.Shape([("tensor", 1)], HEADS, KV_HEADS, KEY_DIM, VALUE_DIM))
            self.assertRaises(ValueError, client.send, 0, [attnd.Part(stream, q), attnd.Part(other, q)])
            self.assertRaises(ValueError, client.open, "3", attnd.Shape([("softmax", 1)], 1, 1, 1, element="f64"))
            self.assertEqual((stream.next, daemon.applied), ([0, 0], {}))

    def test_what_is_above_a_limit_is_refused_here(self):
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream, wide = client.open("1", SHAPE), client.open("2", attnd.Shape([("softmax", 1)], 1000, 1, 400))
            self.assertEqual(code_of(stream.send, 0, *tokens(0, 101)), "too_large")
            self.assertEqual(code_of(client.send, 0, [attnd.Part(stream, tokens(0, 1)[0])] * 9), "too_large")
            self.assertEqual(code_of(wide.send, 0, np.zeros((2, 1000, 400))), "too_large")
            self.assertEqual(stream.next, [0, 0])

    def test_numbers_of_any_layout_and_type_are_converted(self):
        q, k, v = tokens(0, 6)
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            for i, kind in enumerate((np.float64, np.float16, ">f4", np.int32)):
                out = stream.attend(0, (q + 6 * i).astype(kind), (k + 6 * i).astype(kind), v.astype(kind))
                self.assertTrue((out[:, 0, 0] == np.arange(6 * i, 6 * i + 6)).all())
            out = stream.attend(0, np.asfortranarray(q + 24)[::-1], (k + 24)[::2].repeat(2, axis=0), v[:, :, ::-1])
            self.assertTrue((out[:, 0, 0] == np.arange(29, 23, -1)).all())
            self.assertEqual(daemon.applied[1, 0], list(range(24)) + [24, 24, 26, 26, 28, 28])

    def test_bf16_is_rounded_to_nearest_even(self):
        random_bits = np.random.default_rng(1).integers(0, 1 << 32, 200000, dtype=np.uint32)
        every_upper_half = np.arange(0, 1 << 32, 1 << 15, dtype=np.uint32)
        x = np.concatenate([random_bits, random_bits & 0xFFFF8000, every_upper_half]).view(np.float32)
        bits = tensors.to_bf16(x)
        self.assertTrue((np.isnan(tensors.from_bf16(bits)) == np.isnan(x)).all())
        x, bits = x[np.isfinite(x)].astype(np.float64), bits[np.isfinite(x)]
        low, high = bits - 1, bits + 1
        error = abs(tensors.from_bf16(bits).astype(np.float64) - x)
        error[np.isinf(error)] = abs(2.0 ** 128 - abs(x[np.isinf(error)]))  # what rounds to infinity is nearer to 2^128
        for other in (low, high):
            with np.errstate(invalid="ignore"):  # a neighbour of the largest is a NaN
                beside = abs(tensors.from_bf16(other).astype(np.float64) - x)
            self.assertFalse(((beside < error) | ((beside == error) & (bits & 1 == 1))).any())
        self.assertTrue((tensors.to_bf16(tensors.from_bf16(bits)) == bits).all())


class Errors(unittest.TestCase):
    def test_every_code_comes_as_an_exception_that_carries_it(self):
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            entry = struct.pack("<QQQIHH", 1, 0, 0, 0, APPEND | ATTEND, 0)
            for number, code, sentence, advice in attnd.CODES + (attnd.CODES[0]._replace(number=99, name="novel"),):
                fault = {"code": code, "message": "m", "advice": "a"}
                for faults, said in (([dict(fault, part=0)], ("m", "a")), ([], (sentence, advice))):
                    if number == 14 or (number == 99 and not faults):
                        continue
                    head = struct.pack("<4sBBHIIQII", b"ATND", 1, 2, 0, 1, 0, client._id + 1, 4, 0)
                    daemon.answer = [head + entry[:-2] + struct.pack("<H", number), json.dumps(faults).encode()]
                    with self.assertRaises(attnd.AttndError) as raised:
                        stream.attend(0, *tokens(0, 1))
                    error = raised.exception
                    self.assertEqual((error.code, error.sentence, error.advice, error.part), (code, *said, 0))
                    self.assertEqual(str(error), f"{code}: {said[0]}; {said[1]}")
                daemon.control_error = dict(fault, expected=3)
                with self.assertRaises(attnd.AttndError) as raised:
                    client.status()
                daemon.control_error = None
                self.assertEqual((raised.exception.code, raised.exception.expected), (code, 3))
            self.assertTrue((stream.attend(0, *tokens(0, 2))[1] == 1).all())

    def test_a_message_refused_as_a_whole_refuses_every_part(self):
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            streams = [client.open(name, SHAPE) for name in "12"]
            daemon.answer = [struct.pack("<4sBBHIIQII", b"ATND", 1, 2, 0, 0, 0, client._id + 1, 4, 0),
                             b'[{"code": "too_large", "message": "m", "advice": "a"}]']
            results = client.send(0, [attnd.Part(stream, *tokens(0, 2)) for stream in streams]).wait()
            self.assertEqual([(r.error.code, r.error.part) for r in results], [("too_large", None)] * 2)
            self.assertEqual([stream.next for stream in streams], [[0, 0]] * 2)

    def test_another_version_and_no_daemon_are_told(self):
        with FakeDaemon(protocol=2) as daemon:
            self.assertEqual(code_of(attnd.connect, daemon.endpoint), "version")
        self.assertEqual(code_of(attnd.connect, "ipc:///dev/null/nobody", timeout=0.05), "timeout")


class Garbage(unittest.TestCase):
    def test_decoders_refuse_random_bytes_by_name(self):
        choose = random.Random(1)
        good = wire.encode_request(1, 2, [wire.Part(1, 2, 3, 4, 3, 0)] * 2)
        good = good[:5] + b"\x02" + good[6:]
        counted = {"malformed": 0, "version": 0, None: 0}
        for i in range(20000):
            frame = bytearray(good if i % 2 else choose.randbytes(choose.choice((0, 3, 32, 64, 96))))
            for _ in range(choose.randint(0, 3)):
                if frame:
                    frame[choose.randrange(len(frame))] = choose.randrange(256)
            counted[code_of(wire.decode, bytes(frame[:choose.choice((len(frame), len(frame), 40))]))] += 1
        self.assertTrue(all(n > 10 for n in counted.values()), counted)
        self.assertEqual(code_of(wire.decode, wire.encode_request(0, 1, [])), "malformed")  # no reply
        self.assertIsNone(code_of(wire.decode, good))
        for at in (0, 6, 7):
            self.assertEqual(code_of(wire.decode, good[:at] + b"\x01" + good[at + 1:]), "malformed")
        for text in (b"", b"[", b"{}", b"\xff", b"[" * 100000, b"1" * 10000):
            self.assertEqual(code_of(wire.decode_faults, text), "malformed")
        for text in (b"[1]", b"[{}]", b'[{"code": 1}]', b"[null]"):
            self.assertEqual(wire.decode_faults(text)[0].code, "malformed")

    def test_a_reply_whose_frames_do_not_add_up_is_malformed(self):
        entry = struct.pack("<QQQIHH", 1, 0, 2, 2, 3, 0)
        whole = bytes(2 * HEADS * VALUE_DIM * 4)
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            for n_parts, bits, frames in ((1, 1, [whole + bytes(4)]), (1, 1, [whole[4:]]), (1, 1, [whole[1:]]), (1, 1, []),
                                          (1, 0, []), (1, 1, [whole, whole]), (1, 3, [whole, bytes(4)]), (2, 1, [whole]),
                                          (1, 4, [b"1"])):
                head = struct.pack("<4sBBHIIQII", b"ATND", 1, 2, 0, n_parts, 0, client._id + 1, bits, 0)
                daemon.answer = [head + n_parts * entry] + frames
                stream.next[0] = 0
                self.assertEqual(code_of(stream.attend, 0, *tokens(0, 2)), "malformed")
            daemon.answer = [struct.pack("<4sBBHIIQII", b"ATND", 1, 2, 0, 1, 0, client._id + 1, 1, 0) + entry, whole]
            stream.next[0] = 0
            self.assertEqual(stream.attend(0, *tokens(0, 2)).tobytes(), whole)

    def opened_at_last(self, client):
        """Opens stream 1 again; replies that a slow machine has not delivered yet come first, and are reported."""
        for _ in range(300):
            try:
                return client.open("1", SHAPE, resume=True)
            except attnd.AttndError as error:
                self.assertIn(error.code, ("malformed", "version"))
        return self.fail("there are more late replies than messages were sent")

    def test_a_client_survives_what_it_cannot_read(self):
        """Random replies are reported or passed over, and then the client goes on."""
        choose = random.Random(2)
        with FakeDaemon() as daemon, attnd.connect(daemon.endpoint) as client:
            stream = client.open("1", SHAPE)
            for i in range(300):
                head = struct.pack("<4sBBHIIQII", b"ATND", 1, 2, 0, 1, 0, client._id + 1, choose.randrange(8), 0)
                entry = struct.pack("<QQQIHH", 1, 0, 0, 1, 3, choose.choice((0, 0, 1, 8)))
                frames = [choose.randbytes(choose.randrange(40)) for _ in range(choose.randrange(4))]
                daemon.answer = [choose.choice((head + entry, head, choose.randbytes(64), b"{" + choose.randbytes(9), b"",
                                                b'{"id": [1]}', b'{"id": 5, "ok": true}'))] + frames
                try:
                    stream.next[0] = 0
                    stream.send(0, *tokens(0, 1)).result(timeout=0.002)
                except attnd.AttndError as error:
                    self.assertIn(error.code, ("malformed", "version", "timeout", "no_memory", "wrong_index"))
                client._give_up(1, attnd.AttndError("timeout"))
            daemon.applied.clear()
            again = self.opened_at_last(client)
            self.assertTrue((again.attend(0, *tokens(0, 2))[1] == 1).all())


class Gaps(unittest.TestCase):
    def setUp(self):
        self.context = zmq.Context.instance()
        self.socket = self.context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.endpoint = f"inproc://publisher-{random.getrandbits(64)}"
        self.socket.bind(self.endpoint)

    def tearDown(self):
        self.socket.close(0)

    def subscribed(self, topic, **options):
        subscription = subscribe.Subscription(self.context, self.endpoint, topic, timeout=2, **options)
        self.socket.recv()
        return subscription

    def output(self, sequence, stream=1, layer=0, n=2, numbers=12):
        head = struct.pack("<4sBBHIIQII", b"ATND", 1, 3, 0, 1, layer, sequence, 1, 0)
        part = struct.pack("<QQQIHH", stream, 10, 12, n, 3, 0)
        self.socket.send_multipart([f"out/s/{layer}/".encode(), head + part, np.arange(numbers, dtype="<f4").tobytes()])

    def tell(self, sequence, instance="a", what="daemon"):
        self.socket.send_multipart([f"telemetry/{what}/".encode(),
                                    json.dumps({"instance": instance, "sequence": sequence, "x": 1}).encode()])

    def test_outputs_say_what_they_are_and_what_was_lost_before(self):
        with self.subscribed("out/", heads=3) as subscription:
            for sequence, layer in ((5, 0), (6, 0), (9, 0), (0, 1), (10, 0), (2, 1)):
                self.output(sequence, layer=layer)
            got = [next(subscription) for _ in range(6)]
            self.assertEqual([(p.sequence, p.layer, p.lost) for p in got],
                             [(5, 0, 0), (6, 0, 0), (9, 0, 2), (0, 1, 0), (10, 0, 0), (2, 1, 1)])
            self.assertEqual(subscription.lost, 3)
            one = got[0]
            self.assertEqual((one.topic, one.stream, one.first, one.next, one.flags), ("out/s/0/", "s", 10, 12, 3))
            self.assertTrue((one.out == np.arange(12).reshape(2, 3, 2)).all() and one.out.dtype == np.float32)
            self.output(11, numbers=11)
            self.assertEqual(code_of(next, subscription), "malformed")

    def test_a_stream_opened_anew_begins_its_count_again(self):
        with self.subscribed("out/s/0/") as subscription:
            for sequence, stream in ((7, 1), (0, 2), (1, 2), (3, 4)):
                self.output(sequence, stream)
            self.assertEqual([next(subscription).lost for _ in range(4)], [0, 0, 0, 3])

    def test_telemetry_told_again_is_no_news_and_a_restart_no_loss(self):
        with self.subscribed("telemetry/") as subscription:
            for told in ((4,), (4,), (5,), (0, "b"), (0, "b"), (3, "b"), (1, "b", "pools")):
                self.tell(*told)
            got = [next(subscription) for _ in range(5)]
            self.assertEqual([(p.sequence, p.lost) for p in got], [(4, 0), (5, 0), (0, 0), (3, 2), (1, 0)])
            self.assertEqual((got[0].json["x"], got[0].topic, got[4].topic), (1, "telemetry/daemon/", "telemetry/pools/"))

    def test_strict_subscriptions_raise_a_gap_and_go_on(self):
        with self.subscribed("out/", strict=True) as subscription:
            for sequence in (0, 2, 3):
                self.output(sequence)
            self.assertEqual(next(subscription).sequence, 0)
            self.assertEqual(code_of(next, subscription), "gap")
            self.assertEqual([next(subscription).sequence for _ in range(2)], [2, 3])
            self.assertEqual(code_of(subscription.next, 0.01), "timeout")

    def test_random_publications_are_refused_by_name(self):
        choose = random.Random(3)
        with self.subscribed("") as subscription:
            for i in range(500):
                topic = choose.choice((b"out/a/0/", b"out/", b"telemetry/x/", b"\xff", b"o"))
                self.socket.send_multipart([topic] + [choose.choice((choose.randbytes(64), b'{"sequence": []}', b"{"))
                                                      for _ in range(choose.randrange(4))])
                self.assertEqual(code_of(next, subscription), "malformed")

    def test_an_endpoint_is_taken_as_the_daemon_was_reached(self):
        both = ["ipc:///x", "tcp://0.0.0.0:5"]
        self.assertEqual(hello.reachable(both, "tcp://host:1"), "tcp://host:5")
        self.assertEqual(hello.reachable(both, "ipc:///y"), "ipc:///x")
        self.assertEqual(hello.reachable(["tcp://*:5"], "tcp://[::1]:1"), "tcp://[::1]:5")
        self.assertEqual(hello.reachable(["tcp://10.0.0.1:5"], "tcp://host:1"), "tcp://10.0.0.1:5")
        self.assertEqual(code_of(hello.reachable, [], "tcp://host:1"), "not_found")


if __name__ == "__main__":
    unittest.main()
