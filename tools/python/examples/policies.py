#!/usr/bin/python3
"""Feeds one stream through five policies, at an eighth of the full cache's bytes, and prints how far their outputs are from
full attention in numpy. A daemon must run.     PYTHONPATH=tools/python tools/python/examples/policies.py [ENDPOINT]"""
import sys

import numpy as np

import attnd

POLICIES = ("window", "uniform", "h2o", "snapkv", "subgen")
N, HEADS, KV_HEADS, DIM, BATCH = 2048, 8, 2, 64, 64

random = np.random.default_rng(1)
topics = random.normal(size=(32, DIM))  # what is spoken of changes every now and then, and comes back
topic = np.repeat(random.integers(32, size=N // 16), 16)
q = 0.7 * topics[topic][:, None] + random.normal(size=(N, HEADS, DIM))
k = topics[topic][:, None] + 0.5 * random.normal(size=(N, KV_HEADS, DIM))
v = topics[topic][:, None, ::-1] + 0.5 * random.normal(size=(N, KV_HEADS, DIM))


def full_attention(head):
    """Outputs (N, DIM) of one query head, each token attending to itself and all before it."""
    own = head // (HEADS // KV_HEADS)
    scores = np.where(np.tri(N, dtype=bool), q[:, head] @ k[:, own].T / np.sqrt(DIM), -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ v[:, own] / weights.sum(axis=1, keepdims=True)


full = np.stack([full_attention(head) for head in range(HEADS)], axis=1)
shape = attnd.Shape([("softmax", 1)], HEADS, KV_HEADS, DIM, expected_tokens=N)
with attnd.connect(sys.argv[1] if len(sys.argv) > 1 else None) as client:
    for policy in POLICIES:
        stream = client.open(f"example-{policy}", shape, policy, budget_fraction=0.125)
        pending = [stream.send(0, q[i:i + BATCH], k[i:i + BATCH], v[i:i + BATCH]) for i in range(0, N, BATCH)]
        out = np.concatenate([answer.result().out for answer in pending])
        error = np.linalg.norm(out - full, axis=2) / np.linalg.norm(full, axis=2)
        closed = stream.close()
        print(f"{policy:8} error {error[N // 2:].mean():.3f}   kept {closed.bytes / closed.bytes_full_bf16:.3f} of the bytes")
