"""A client of attnd, the daemon that holds key-value caches and answers attention from them. Needs numpy and pyzmq.

    import attnd
    with attnd.connect() as client:
        shape = attnd.Shape([("softmax", 2)], heads=8, kv_heads=2, key_dim=64, element="bf16", expected_tokens=4096)
        with client.open("chat-1", shape, "window", budget_fraction=0.125) as stream:
            out = stream.attend(0, q, k, v)     # (n, 8, 64), (n, 2, 64), (n, 2, 64) -> (n, 8, 64)

    pipelining      pending = stream.send(layer, q, k, v) ... pending.result().out
    several streams client.step(layer, [attnd.Part(a, q=qa, k=ka, v=va), attnd.Part(b, q=qb, k=kb, v=vb)])
    watching        for published in client.outputs("chat-1", heads=8): published.out, published.lost
    errors          AttndError, which carries code, sentence and advice

Nothing is applied twice or lost: see Stream.next for how to go on after a refusal or a lost connection. What goes over the wire
is in lib/wire/README.md.
"""
from .client import Client, connect
from .errors import CODES, AttndError, Timeout
from .flight import Pending
from .hello import Hello, Limits
from .stream import Closed, Part, Result, Shape, Stream
from .subscribe import Publication, Subscription
from .tensors import from_bf16, to_bf16

__all__ = ["AttndError", "CODES", "Client", "Closed", "Hello", "Limits", "Part", "Pending", "Publication", "Result", "Shape",
           "Stream", "Subscription", "Timeout", "connect", "from_bf16", "to_bf16"]
