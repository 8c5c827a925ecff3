#!/usr/bin/env python3
"""What keeping some rows costs, in float64 and numpy, from the rules alone: a second opinion on `attn eval`.

Usage: tests/tools/reference_eval.py TRACE [--rows N] [--interval N] [--attn build/attn]

Runs a softmax trace (safetensors: layer.L.q, .k, .v) through window, uniform, h2o, tova and balance with N rows, 4 sink
tokens and the policies' own shares of recent rows, and prints the mean relative error over the second half of the trace. With --attn
it runs `attn eval` with the same settings too, prints both, and exits 1 where they differ by more than 10 %. uniform draws numbers, of
its own in either: it is averaged over several draws; balance tosses the same coins in both. Needs numpy.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

SINKS = 4
RECENT = {"window": None, "uniform": 0.25, "h2o": 0.5, "tova": 0.25, "balance": 0.25}
DRAWS = {"uniform": 6}
TOLERANCE = 0.1
WORD = (1 << 64) - 1
LANE_BALANCE = 13


def mix(x):
    """lib/base/coins.h, as are coin and head_seed."""
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


def coin(seed, lane, token, slot):
    return (mix(mix(mix(mix(seed) ^ lane) ^ token) ^ slot) >> 11) * 2.0**-53


def head_seed(seed, layer, head):
    return mix(mix(mix(seed) ^ layer) ^ head)


def read_trace(path):
    """Layers as (q, k, v), (n, heads, width) in float64, and the scale."""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    header, base = json.loads(data[8:8 + size]), 8 + size

    def tensor(name):
        entry = header[name]
        begin, end = entry["data_offsets"]
        raw = data[base + begin:base + end]
        if entry["dtype"] == "BF16":
            x = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            x = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        return x.astype(np.float64).reshape(entry["shape"])

    layers = []
    while f"layer.{len(layers)}.q" in header:
        layers.append(tuple(tensor(f"layer.{len(layers)}.{part}") for part in "qkv"))
    scale = np.float32(header.get("__metadata__", {}).get("scale", layers[0][0].shape[2] ** -0.5))
    return layers, float(scale)


def attend(scores, values, log_weights=None):
    """scores (g, rows), values (rows, e): outputs (g, e), and the weights before any log_weights."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    plain = p / p.sum(axis=1, keepdims=True)
    if log_weights is None:
        return plain @ values, plain
    weighted = scores + log_weights
    p = np.exp(weighted - weighted.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) @ values, plain


def window_rows(t, rows):
    last = np.arange(max(0, t + 1 - (rows - SINKS)), t + 1)
    return np.concatenate([np.arange(min(SINKS, last[0])), last])


class Held:
    """Tokens held, oldest first. When `rows` are there, the next token first drops `interval` of the candidates."""

    def __init__(self, policy, rows, interval, seed):
        self.policy, self.rows, self.interval = policy, rows, interval
        self.recent = int(RECENT[policy] * rows)
        self.random = np.random.default_rng(seed)
        self.tokens = np.empty(0, int)
        self.score = np.empty(0)
        self.in_sample = np.empty(0, bool)
        self.n_offered = 0

    def keep(self, mask):
        self.tokens, self.score, self.in_sample = self.tokens[mask], self.score[mask], self.in_sample[mask]

    def drop(self):
        candidates = np.arange(SINKS, self.rows - self.recent)
        mask = np.ones(self.rows, bool)
        if self.policy == "uniform":
            size = len(candidates) - self.interval
            sample = list(candidates[:size])
            for row in candidates[size:]: # Vitter's algorithm R, by row numbers
                self.n_offered += 1
                slot = self.random.integers(self.n_offered)
                if slot < size:
                    sample[slot] = row
            mask[candidates] = False
            mask[sample] = True
            self.in_sample[sample] = True
        else:
            mask[candidates[np.argsort(self.score[candidates], kind="stable")[:self.interval]]] = False
        self.keep(mask)

    def log_weights(self):
        if self.policy != "uniform" or not self.in_sample.any():
            return None
        return np.where(self.in_sample, np.log(self.n_offered / self.in_sample.sum()), 0.0)

    def append(self, t):
        if len(self.tokens) == self.rows:
            if self.policy == "uniform" and self.n_offered == 0: # the first ones fill the sample
                self.n_offered = self.rows - self.recent - SINKS - self.interval
                self.in_sample[SINKS:SINKS + self.n_offered] = True
            self.drop()
        self.tokens = np.append(self.tokens, t)
        self.score = np.append(self.score, 0.0)
        self.in_sample = np.append(self.in_sample, False)

    def observe(self, probability):
        total = probability.sum(axis=0)
        self.score = total if self.policy == "tova" else self.score + total


class Balanced:
    """The same of rows with levels, weight 2^level: when they are full, half of a group goes (lib/cache/balance). There must be enough
    rows that two are always of one level."""

    def __init__(self, rows, seed, k, v, scale):
        self.rows, self.seed, self.k, self.v, self.scale = rows, seed, k, v, scale
        self.recent = int(RECENT["balance"] * rows)
        self.half = max(1, min(256, (rows - self.recent - SINKS) // 8) // 2)
        self.tokens = np.empty(0, int)
        self.level = np.empty(0, int)

    def group(self):
        """Held rows that are halved next."""
        level = self.level[SINKS:self.rows - self.recent]
        pairs = None
        for low in np.unique(level):
            below = max(0, level[0] - 1 - low)
            drop = max(1, self.half // 8, self.half >> below)
            mine = SINKS + np.flatnonzero(level == low)
            if len(mine) >= 2 * drop:
                return mine[:2 * drop]
            if pairs is None and len(mine) >= 2:
                pairs = mine[:len(mine) // 2 * 2]
        return pairs

    def signs(self, group, token):
        k, v = self.k[self.tokens[group]], self.v[self.tokens[group]]
        centred = k - k.mean(axis=0)
        exponent = self.scale * centred @ centred.T
        y = np.exp(exponent - exponent.max()) * (v @ v.T + (v * v).sum(axis=1).mean())
        largest, sign = y.diagonal().max(), np.zeros(len(group))
        for i in range(len(group)):
            chance = 0.5 - (y[i] @ sign / (2 * largest) if largest > 0 else 0)
            sign[i] = 1 if coin(self.seed, LANE_BALANCE, token, i) < chance else -1
            for full in (1, -1):
                if (sign[:i] == full).sum() == len(group) // 2:
                    sign[i] = -full
        return sign

    def append(self, t):
        if len(self.tokens) == self.rows:
            group = self.group()
            stays = self.signs(group, t) > 0
            self.level[group] += 1
            self.tokens = np.delete(self.tokens, group[~stays])
            self.level = np.delete(self.level, group[~stays])
        self.tokens = np.append(self.tokens, t)
        self.level = np.append(self.level, 0)

    def log_weights(self):
        return self.level * np.log(2)


def head_errors(policy, q, k, v, scale, rows, interval, seed):
    """q (n, g, d), scaled: relative errors of the second half, (n / 2, g)."""
    n, held, errors = len(k), None, []
    if policy == "balance":
        held = Balanced(rows, seed, k, v, scale)
    elif policy != "window":
        held = Held(policy, rows, interval, seed)
    for t in range(n):
        weights = None
        if held:
            held.append(t)
            kept, weights = held.tokens, held.log_weights()
        else:
            kept = window_rows(t, rows)
        out, probability = attend(q[t] @ k[kept].T, v[kept], weights)
        if policy in ("h2o", "tova"):
            held.observe(probability)
        if t >= n // 2:
            full, _ = attend(q[t] @ k[:t + 1].T, v[:t + 1])
            errors.append(np.linalg.norm(out - full, axis=1) / np.linalg.norm(full, axis=1))
    return np.array(errors)


def trace_error(policy, layers, scale, rows, interval):
    errors = []
    for draw in range(DRAWS.get(policy, 1)):
        for index, (q, k, v) in enumerate(layers):
            group = q.shape[1] // k.shape[1]
            for head in range(k.shape[1]):
                mine, seed = q[:, head * group:(head + 1) * group] * scale, head_seed(draw, index, head)
                errors.append(head_errors(policy, mine, k[:, head], v[:, head], scale, rows, interval, seed))
    return float(np.mean(errors))


def attn_errors(attn, trace, rows, interval):
    """error_mean of each policy, from `attn eval`, averaged over its draws."""
    lines, names = ["profiles:"], {}
    for policy, draw in [(policy, draw) for policy in RECENT for draw in range(DRAWS.get(policy, 1))]:
        share, name = RECENT[policy], f"its_{policy}_{draw}"
        names[name] = policy
        settings = f"window_tokens: {rows - SINKS}" if share is None else f"rows: {rows}, recent_tokens: {int(share * rows)}"
        if policy in ("uniform", "h2o", "tova"):
            settings += f", interval: {interval}"
        lines += [f"  - name: {name}", "    rules:",
                  f"      - {{attention: softmax, policy: {policy}, storage: f32, seed: {draw}, sink_tokens: {SINKS}, {settings}}}"]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        file.write("\n".join(lines) + "\n")
    try:
        done = subprocess.run([attn, "eval", "--trace", trace, "--config", file.name, "--profiles",
                               ",".join(names), "--json"], stdout=subprocess.PIPE, check=True)
    finally:
        os.unlink(file.name)
    errors = {policy: [] for policy in RECENT}
    for row in json.loads(done.stdout)["rows"]:
        errors[names[row["policy"]]].append(row["error_mean"])
    return {policy: float(np.mean(mine)) for policy, mine in errors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trace")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--interval", type=int, default=16)
    parser.add_argument("--attn")
    options = parser.parse_args()
    layers, scale = read_trace(options.trace)
    theirs = attn_errors(options.attn, options.trace, options.rows, options.interval) if options.attn else {}
    failed = False
    for policy in RECENT:
        error = trace_error(policy, layers, scale, options.rows, options.interval)
        line = f"{policy:8} {error:.5f}"
        if options.attn:
            ratio = theirs.get(policy, float("nan")) / error
            right = abs(ratio - 1) <= TOLERANCE
            failed = failed or not right
            line += f"   attn eval {theirs.get(policy, float('nan')):.5f}   ratio {ratio:.4f}{'' if right else '   DIFFERS'}"
        print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
