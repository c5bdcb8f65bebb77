"""The frames of a session: one ASCII line each, in both directions.

A line is base64 of UTF-8 of CLIXML. A request is a dictionary:

    number       counts from 1; one that was seen before is not run again, its answers are repeated
    attempt      0; 1, 2, … where it is sent again because answers may be lost
    operation    invoke, an operation of the script's own, renew, cancel or close
    cmdlet       of invoke: the name, which must be on the script's list
    parameters   of the cmdlet or the operation, by name
    references   of invoke: parameters that are kept results, by name and number
    properties   of invoke: which properties of its results are wanted; `*`: names and types of all
    keep         of invoke: whether its results are kept on the host, for later requests
    bytes        how many bytes come in a line of their own behind it, or nothing

An answer is a dictionary with the number of its request and a kind: `progress` (activity, status,
percent) and `warning` (message) while a cmdlet runs, then `result` (properties, reference where it
is kept, bytes where a line of bytes follows) for each result or `error` (message, hresult,
exception, category, errorid), and `end` last; `again` (attempt) comes before answers to what was
sent again. The first frame of all has number 0 and the kind `hello` (protocol, version, edition,
language, system, computer, process, windows, modules). `renew`, `cancel` (parameters: number) and
`close` have no answer.

A line of bytes is a colon and base64: within CLIXML it would cost a third again. Empty lines mean
nothing; they end a line that broke on its way, and what cannot be read then is passed over.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from imagetool.errors import HostFailed
from imagetool.host.clixml import dumps, loads


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """What a client asks."""

    number: int
    operation: str
    cmdlet: str = ""
    parameters: dict[str, object] = field(default_factory=dict)
    properties: tuple[str, ...] = ()
    references: dict[str, int] = field(default_factory=dict)
    keep: bool = False
    data: bytes | None = None
    attempt: int = 0

    def encode(self) -> bytes:
        """The line, and the line of bytes behind it."""
        line = encode_frame(
            {
                "number": self.number,
                "attempt": self.attempt,
                "operation": self.operation,
                "cmdlet": self.cmdlet,
                "parameters": self.parameters,
                "references": self.references,
                "properties": list(self.properties),
                "keep": self.keep,
                "bytes": None if self.data is None else len(self.data),
            }
        )
        return line if self.data is None else line + encode_bytes(self.data)

    @classmethod
    def decode(cls, line: bytes) -> RequestFrame:
        """The request in a line; the bytes behind it are not in it. Raises HostFailed."""
        frame = decode_frame(line)
        parameters, properties = frame.get("parameters"), frame.get("properties")
        references, attempt = frame.get("references"), frame.get("attempt")
        return cls(
            number=_number(frame.get("number")),
            operation=str(frame.get("operation") or ""),
            cmdlet=str(frame.get("cmdlet") or ""),
            parameters=parameters if isinstance(parameters, dict) else {},
            properties=tuple(map(str, properties)) if isinstance(properties, list) else (),
            references=references if isinstance(references, dict) else {},
            keep=frame.get("keep") is True,
            data=b"" if isinstance(frame.get("bytes"), int) else None,
            attempt=attempt if isinstance(attempt, int) else 0,
        )


@dataclass(frozen=True, slots=True)
class AnswerFrame:
    """What the script says."""

    number: int
    kind: str
    content: dict[str, object] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The line."""
        return encode_frame({"number": self.number, "kind": self.kind, **self.content})

    @property
    def payload_size(self) -> int | None:
        """How many bytes come in a line of their own behind it."""
        size = self.content.get("bytes")
        return size if isinstance(size, int) else None

    @classmethod
    def decode(cls, line: bytes) -> AnswerFrame:
        """The answer in a line. Raises HostFailed."""
        frame = decode_frame(line)
        content = {k: v for k, v in frame.items() if k not in ("number", "kind")}
        return cls(_number(frame.get("number")), str(frame.get("kind") or ""), content)


def encode_frame(frame: dict[str, object]) -> bytes:
    """A dictionary as a line."""
    return base64.b64encode(dumps(frame).encode("utf-8")) + b"\n"


def encode_bytes(data: bytes) -> bytes:
    """Bytes as a line of their own."""
    return b":" + base64.b64encode(data) + b"\n"


def decode_bytes(line: bytes) -> bytes:
    """The bytes in a line of their own. Raises HostFailed."""
    try:
        if not line.startswith(b":"):
            raise ValueError
        return base64.b64decode(line[1:].strip(), validate=True)
    except ValueError:  # binascii.Error is one
        raise HostFailed("the host answered with something that is no bytes") from None


def decode_frame(line: bytes) -> dict[str, object]:
    """The dictionary in a line. Raises HostFailed, showing the line's beginning."""
    try:
        text = base64.b64decode(line.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise HostFailed(
            f"the host answered with something that is no frame: {line[:80]!r}",
            hint="A profile or a banner may write to standard output there.",
        ) from None
    frame = loads(text)
    if not isinstance(frame, dict):
        raise HostFailed("the host answered with a frame that is no dictionary")
    return frame


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise HostFailed("the host answered with a frame without a number")
    return value
