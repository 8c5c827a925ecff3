"""What a daemon says about itself: versions, limits, profiles, and where its other sockets are."""
from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from . import wire
from .errors import AttndError


class Limits(NamedTuple):
    message_bytes: int       # all frames of a message
    parts: int               # of a message
    tokens_per_message: int  # of a part
    credit_bytes: int        # of a connection: requests that wait or run, and answers not confirmed


class Hello(NamedTuple):
    """What the daemon says about itself."""
    protocol: int
    version: str
    isa: str
    instance: str            # new at every start
    outputs: list[str]       # endpoints
    telemetry: list[str]
    limits: Limits
    profiles: list[str]


def read_hello(answer: dict[str, Any]) -> Hello:
    """The answer to `hello`; version when its daemon speaks another one."""
    if answer.get("protocol") != wire.VERSION:
        raise AttndError("version", f"the daemon speaks version {answer.get('protocol')}, this client {wire.VERSION}")
    try:
        limits = Limits(*[int(answer["limits"][field]) for field in Limits._fields])
        lists = {field: [str(word) for word in answer[field]] for field in ("outputs", "telemetry", "profiles")}
        return Hello(wire.VERSION, str(answer["version"]), str(answer["isa"]), str(answer["instance"]), limits=limits, **lists)
    except (KeyError, TypeError, ValueError) as error:
        raise AttndError("malformed", f"the answer to hello lacks {error}") from None


def reachable(endpoints: Sequence[str], own: str) -> str:
    """Of a daemon's endpoints the one to take for who reached it at `own`: over the same transport if there is one, and at the
    same host where the daemon serves all of its addresses."""
    if not endpoints:
        raise AttndError("not_found", "the daemon has no such endpoint", "give it one in its configuration")
    transport = own.split("://")[0]
    chosen = next((endpoint for endpoint in endpoints if endpoint.split("://")[0] == transport), endpoints[0])
    for anywhere in ("tcp://0.0.0.0:", "tcp://*:", "tcp://[::]:"):
        if chosen.startswith(anywhere) and transport == "tcp":
            return own.rsplit(":", 1)[0] + ":" + chosen[len(anywhere):]
    return chosen
