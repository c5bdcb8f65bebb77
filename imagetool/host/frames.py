"""The frames of a session: one ASCII line each, in both directions.

A line is base64 of UTF-8 of CLIXML. A request is a dictionary:

    number       counts from 1; a number seen before is not run again, its answers are repeated
    attempt      0; 1, 2, … where it is sent again because answers may be lost
    operation    invoke, an operation of the script's own, renew, cancel or close
    cmdlet       of invoke: the name, which must be on the script's list
    parameters   of the cmdlet or the operation, by name
    references   of invoke: parameters that are kept results, by name and number
    properties   of invoke: names of the properties to return; `*`: names and types of all
    keep         of invoke: true to keep its results on the host, for later requests
    bytes        length of the payload line behind it, decoded; null where there is none

An answer is a dictionary with the number of its request and a kind: `progress` (activity, status,
percent) and `warning` (message) while a cmdlet runs, then `result` (properties, reference where it
is kept, bytes where a payload line follows) for each result or `error` (message, hresult,
exception, category, errorid), and `end` last; `again` (attempt) precedes the answers to a repeated
request. The first frame of a session has number 0 and the kind `hello` (protocol, version, edition,
language, system, computer, process, windows, emulated, modules). `renew`, `cancel` (parameters:
number) and `close` have no answer.

A payload line is a colon and base64; within CLIXML base64 would be encoded twice. Empty lines mean
nothing: they terminate a line that was cut off, which is then skipped as unreadable.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imagetool.errors import CannotOpen, HostFailed, WrongUsage
from imagetool.host.clixml import dumps, loads

_PATH_PARAMETERS = ("path", "paths", "source", "target", "directory")
"""The ends of the names of parameters that are paths, of operations and of cmdlets."""


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """A request to the script."""

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
        """Return the frame's line, and the payload line behind it."""
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
        """Read a request from its line, without the payload behind it. Raises HostFailed."""
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
    """An answer of the script: progress, warning, result, error, end, again or hello."""

    number: int
    kind: str
    content: dict[str, object] = field(default_factory=dict)
    size: int = 0
    """The length of the lines that it came in, in bytes."""

    def encode(self) -> bytes:
        """Return the frame's line."""
        return encode_frame({"number": self.number, "kind": self.kind, **self.content})

    @property
    def payload_size(self) -> int | None:
        """The length of the payload in the next line, in bytes; None without one."""
        size = self.content.get("bytes")
        return size if isinstance(size, int) else None

    @classmethod
    def decode(cls, line: bytes) -> AnswerFrame:
        """Read an answer from its line, without its payload. Raises HostFailed."""
        frame = decode_frame(line)
        content = {k: v for k, v in frame.items() if k not in ("number", "kind")}
        kind = frame.get("kind")
        if not isinstance(kind, str):
            raise HostFailed("the host answered with a frame of no kind")
        return cls(_number(frame.get("number")), kind, content, len(line))


def encode_frame(frame: dict[str, object]) -> bytes:
    """Return a dictionary as a line."""
    return base64.b64encode(dumps(frame).encode("utf-8")) + b"\n"


def encode_bytes(data: bytes) -> bytes:
    """Return bytes as a payload line."""
    return b":" + base64.b64encode(data) + b"\n"


def decode_bytes(line: bytes) -> bytes:
    """Return the bytes of a payload line. Raises HostFailed."""
    try:
        if not line.startswith(b":"):
            raise ValueError
        return base64.b64decode(line[1:].strip(), validate=True)
    except ValueError:  # its subclass binascii.Error among them
        raise HostFailed("the host answered with something that is no bytes") from None


def decode_frame(line: bytes) -> dict[str, object]:
    """Return the dictionary in a line. Raises HostFailed, which shows the line's beginning."""
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
    if not isinstance(value, int) or isinstance(value, bool):
        raise HostFailed("the host answered with a frame without a number")
    return value


def check_properties(properties: Sequence[str]) -> None:
    """Refuse a text in place of a list: its letters would be properties. Raises WrongUsage."""
    if isinstance(properties, str):
        raise WrongUsage(
            f"properties is {properties!r}, not a list of names",
            hint=f"Write properties=({properties!r},).",
        )


def is_path_parameter(name: str) -> bool:
    """True if a parameter of that name, of an operation or a cmdlet, holds paths."""
    return name.lower().endswith(_PATH_PARAMETERS)


def check_paths(parameters: Mapping[str, object]) -> None:
    """Refuse names that are not UTF-8: .NET puts U+FFFD into them, the name of another file."""
    for name, value in parameters.items():
        if not is_path_parameter(name):
            continue
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and any("\ud800" <= char <= "\udfff" for char in text):
                raise CannotOpen(
                    f"{text}: this name is not UTF-8, and would be another file's on the host",
                    hint="Give it another name, or read it where it lies.",
                )
