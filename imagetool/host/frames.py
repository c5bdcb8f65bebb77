"""The frames of a session: one ASCII line each, in both directions.

A line is base64 of UTF-8 of CLIXML. A request is a dictionary:

    number       counts from 1; one that was seen before is not run again, its answers are repeated
    operation    invoke, a file operation, renew, cancel or close
    cmdlet       of invoke: the name, which must be on the script's list
    parameters   of the cmdlet or the operation, by name
    properties   of invoke: which properties of its results are wanted

An answer is a dictionary with the number of its request and a kind: `progress` (activity, status,
percent) and `warning` (message) while a cmdlet runs, then `result` (properties) for each result or
`error` (message, hresult, exception, category, errorid), and `end` last. The first frame of all has
number 0 and the kind `hello` (protocol, version, edition, system, computer, process). `renew` and
`cancel` (parameters: number) have no answer.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from imagetool.errors import HostFailed
from imagetool.host.clixml import dumps, loads


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks."""

    number: int
    operation: str
    cmdlet: str = ""
    parameters: dict[str, object] = field(default_factory=dict)
    properties: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The line."""
        return encode(
            {
                "number": self.number,
                "operation": self.operation,
                "cmdlet": self.cmdlet,
                "parameters": self.parameters,
                "properties": list(self.properties),
            }
        )

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """The request in a line. Raises HostFailed."""
        frame = decode(line)
        parameters, properties = frame.get("parameters"), frame.get("properties")
        return cls(
            number=_number(frame.get("number")),
            operation=str(frame.get("operation") or ""),
            cmdlet=str(frame.get("cmdlet") or ""),
            parameters=parameters if isinstance(parameters, dict) else {},
            properties=tuple(map(str, properties)) if isinstance(properties, list) else (),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script says."""

    number: int
    kind: str
    content: dict[str, object] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The line."""
        return encode({"number": self.number, "kind": self.kind, **self.content})

    @classmethod
    def decode(cls, line: bytes) -> Answer:
        """The answer in a line. Raises HostFailed."""
        frame = decode(line)
        content = {k: v for k, v in frame.items() if k not in ("number", "kind")}
        return cls(_number(frame.get("number")), str(frame.get("kind") or ""), content)


def encode(frame: dict[str, object]) -> bytes:
    """A dictionary as a line."""
    return base64.b64encode(dumps(frame).encode("utf-8")) + b"\n"


def decode(line: bytes) -> dict[str, object]:
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
