"""The answers of a host as plain data: results, errors and events, one request at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping

from imagetool.contracts import Event, OnEvent, Reference, Result
from imagetool.errors import HostFailed
from imagetool.host.frames import AnswerFrame, RequestFrame
from imagetool.host.hresults import EXPLANATIONS, find_code


class CmdletFailed(HostFailed):
    """An error record of a cmdlet or of an operation of the script, as data."""

    def __init__(
        self,
        cmdlet: str,
        message: str,
        hresult: int,
        category: str,
        error_id: str,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        # A message of several lines repeats itself in its later ones.
        first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
        hresult = find_code(hresult, message)
        code = f" (0x{hresult:08X})" if hresult else ""
        meaning, hint = EXPLANATIONS.get(hresult, ("", ""))
        said = f"{meaning}{code}; the host says: {first}" if meaning else f"{first}{code}"
        if error_id.startswith("CommandNotFound"):
            hint = f"The host lacks the module of {cmdlet}: is it a Hyper-V host?"
        super().__init__(f"{cmdlet} failed on the host: {said}", hint=hint)
        self.cmdlet = cmdlet
        self.host_message = message
        self.hresult = hresult
        """The code that explains it, unsigned, 32 bits; 0 where there is none."""
        self.category = category
        self.error_id = error_id
        self.parameters = {
            name: _display_value(name, value) for name, value in (parameters or {}).items()
        }
        """Its parameters as short text; values of secrets are replaced by "(hidden)"."""
        self.other_errors: list[CmdletFailed] = []
        """Further errors of the same request, in order."""


_RESULT_SIZE = 1024
"""Counted for each result beside its line."""
MAX_ANSWER_BYTES = 64 << 20
"""The lines of all results and errors of one request, in bytes."""
_SECRET = re.compile("password|credential|secret|token|key$", re.IGNORECASE)
_MAX_VALUE_CHARACTERS = 200


def _display_value(name: str, value: object) -> str:
    if _SECRET.search(name):
        return "(hidden)"
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else f"{text[:_MAX_VALUE_CHARACTERS]}…"


class AnswerCollector:
    """Collects the answers to one request; starts over where the script repeats them."""

    def __init__(self, request: RequestFrame, name: str, on_event: OnEvent | None) -> None:
        self.number = request.number
        self.name = name
        self.complete = False
        self._request = request
        self._on_event = on_event
        self._awaited_attempt = 0
        self._reported_warnings = 0
        self._received_warnings = 0
        self._results: list[Result] = []
        self._failures: list[CmdletFailed] = []
        self._size = 0

    @property
    def awaiting_repeat(self) -> bool:
        """True until the script acknowledges the repetition; till then answers are dropped."""
        return self._awaited_attempt > 0

    def begin_repeat(self, attempt: int) -> None:
        """Drop answers until the script acknowledges this attempt of the request."""
        self._awaited_attempt = attempt

    def add(self, answer: AnswerFrame) -> bool:
        """Add an answer; False for one to another request, which was given up, is dropped.

        Raises HostFailed where the answers have no end.
        """
        if answer.number != self.number:
            return False
        self._add(answer)
        return True

    def _add(self, answer: AnswerFrame) -> None:
        content = answer.content
        if answer.kind == "again":
            if content.get("attempt") == self._awaited_attempt:
                self._awaited_attempt = self._received_warnings = 0
                self._results.clear()
                self._failures.clear()
                self._size = 0
            return
        if self._awaited_attempt:
            return
        if answer.kind == "end":
            self.complete = True
        elif answer.kind == "result":
            self._charge(answer)
            self._results.append(_result(content))
        elif answer.kind == "error":
            self._charge(answer)
            self._failures.append(self._failure(content))
        elif answer.kind in ("progress", "warning"):
            self._report(answer)

    def _charge(self, answer: AnswerFrame) -> None:
        self._size += answer.size + _RESULT_SIZE
        if self._size > MAX_ANSWER_BYTES:
            raise HostFailed(
                f"{self.name}: the host answers without an end",
                hint="Look on the host what is wrong there, or ask for less at once.",
            )

    def _report(self, answer: AnswerFrame) -> None:
        if answer.kind == "warning":
            self._received_warnings += 1
            if self._received_warnings <= self._reported_warnings:
                return  # reported before the repetition
            self._reported_warnings = self._received_warnings
        if self._on_event is not None:
            self._on_event(_event(answer))

    def _failure(self, content: dict[str, object]) -> CmdletFailed:
        code = content.get("hresult")
        return CmdletFailed(
            self.name,
            _text(content.get("message")),
            code if isinstance(code, int) else 0,
            _text(content.get("category")),
            _text(content.get("errorid")),
            self._request.parameters,
        )

    def results_or_raise(self) -> list[Result]:
        """Return the results. Raises CmdletFailed with the first error where there is one."""
        if self._failures:
            self._failures[0].other_errors = self._failures[1:]
            raise self._failures[0]
        return self._results


def _result(content: dict[str, object]) -> Result:
    properties, reference = content.get("properties"), content.get("reference")
    data = content.get("data")
    result = Result(properties if isinstance(properties, dict) else {})
    result.reference = Reference(reference) if isinstance(reference, int) else None
    result.data = data if isinstance(data, bytes) else b""
    return result


def _text(value: object) -> str:
    """The text of an answer; empty where it has another type."""
    return value if isinstance(value, str) else ""


def _event(answer: AnswerFrame) -> Event:
    if answer.kind == "warning":
        return Event("warning", _text(answer.content.get("message")))
    percent = answer.content.get("percent")
    known = isinstance(percent, int) and 0 <= percent <= 100
    text = _text(answer.content.get("status")) or _text(answer.content.get("activity"))
    return Event("progress", text, percent if known and isinstance(percent, int) else None)
