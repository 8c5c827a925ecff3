"""Errors: one exception that carries what the daemon says, and the table of codes (lib/wire/README.md, section 4)."""
from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional

__all__ = ["CODES", "Code", "AttndError", "Timeout"]


class Code(NamedTuple):
    number: int  # the status of a part
    name: str
    sentence: str
    advice: str


CODES: tuple[Code, ...] = (
    Code(1, "no_memory", "memory could not be allocated", "close streams or lower budgets, then send again"),
    Code(2, "invalid", "a value is outside what is allowed", "correct the value that the message names"),
    Code(3, "unsupported", "this combination is not supported", "choose another policy, storage or flag"),
    Code(4, "malformed", "the bytes do not follow the format", "compare them with lib/wire/README.md"),
    Code(5, "version", "the protocol version is not spoken here", "use a client of the version that hello reports"),
    Code(6, "too_large", "a size is above its limit", "split it; hello tells the limits"),
    Code(7, "wrong_shape", "a tensor's bytes do not match the stream", "send as many bytes as the stream's shape says"),
    Code(8, "wrong_index", "first_token is not the next index", "continue at the index that `expected` gives"),
    Code(9, "unknown_stream", "no such stream is open here", "open it, or resume it after a restart"),
    Code(10, "unknown_profile", "no profile has this name", "use a profile that hello lists"),
    Code(11, "exists", "a stream of this name is open already", "open with resume, or take another name"),
    Code(12, "not_finite", "a tensor holds NaN or infinity", "repair the input; nothing was applied"),
    Code(13, "overflow", "a number does not fit the row storage", "use a wider storage; nothing was applied"),
    Code(14, "busy", "the credit for queued bytes is used up", "wait for replies, then send again from `expected`"),
    Code(15, "not_kept", "the reply was confirmed and is gone", "do not resend what was confirmed"),
    Code(16, "needs_queries", "the policy learns from queries", "send q with append, or use the observe flag"),
    Code(17, "failed", "the stream failed and takes nothing more", "close it and open it anew"),
    Code(18, "closing", "the daemon is draining and takes no more", "connect again after its restart"),
    Code(19, "io", "reading or writing failed", "see the system's reason in the message"),
    Code(20, "not_found", "it does not exist", "check the name"),
    Code(21, "timeout", "no answer came in time", "check that the daemon runs at this endpoint"),
    Code(22, "gap", "publications were lost on the way", "read faster, or raise the subscriber's limits"),
    Code(23, "not_owner", "another connection writes this stream", "open it with resume to take it over"),
)
_BY_NUMBER = {code.number: code for code in CODES}
_BY_NAME = {code.name: code for code in CODES}


class AttndError(Exception):
    """What was refused, why, and what to do.

    code      for programs: a name of CODES, or one that a newer daemon has
    sentence  what is wrong here
    advice    what to do
    expected  the layer's next index, with wrong_index and busy; else None
    part      which part of the message it is about, from 0; None: the message as a whole
    """

    def __init__(self, code: str, sentence: str = "", advice: str = "", expected: Optional[int] = None,
                 part: Optional[int] = None) -> None:
        known = _BY_NAME.get(code)
        self.code = code
        self.sentence = sentence or (known.sentence if known else "the daemon refused it")
        self.advice = advice or (known.advice if known else "see the code in the daemon's lib/wire/README.md")
        self.expected = expected
        self.part = part
        super().__init__(f"{self.code}: {self.sentence}; {self.advice}")


class Timeout(AttndError, TimeoutError):
    """No answer in time. What was sent may still be applied, and waiting may go on."""

    def __init__(self, sentence: str = "") -> None:
        super().__init__("timeout", sentence)


def from_status(number: int, expected: Optional[int], part: int) -> AttndError:
    """The error of a part whose fault was not explained."""
    code = _BY_NUMBER.get(number)
    return AttndError(code.name if code else f"status_{number}", expected=expected, part=part)


def from_json(fault: Any) -> AttndError:
    """The error of a JSON object with code, message, advice and perhaps expected and part."""
    if not isinstance(fault, Mapping) or not isinstance(fault.get("code"), str):
        return AttndError("malformed", "an error came that is no object with a code")
    text = {key: value if isinstance(value := fault.get(key), str) else "" for key in ("message", "advice")}
    number = {key: value if isinstance(value := fault.get(key), int) else None for key in ("expected", "part")}
    return AttndError(fault["code"], text["message"], text["advice"], number["expected"], number["part"])
