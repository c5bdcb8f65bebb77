"""A session with a host: cmdlets are invoked by name, and results are plain data."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from imagetool.errors import HostFailed
from imagetool.host.files import FileOperations
from imagetool.host.frames import Answer, Request
from imagetool.host.transport import Transport

_RENEW_EVERY = 60.0
_START_PATIENCE = 90.0
_CANCEL_PATIENCE = 120.0
_TICK = 0.5


class CmdletFailed(HostFailed):
    """A cmdlet or file operation failed on the host. The errors are data."""

    def __init__(
        self, cmdlet: str, message: str, hresult: int, category: str, error_id: str
    ) -> None:
        code = f" (0x{hresult:08X})" if hresult else ""
        # A message of several lines repeats itself in its later ones.
        first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
        hint = _HINTS.get(hresult, "")
        if error_id.startswith("CommandNotFound"):
            hint = f"The host lacks the module of {cmdlet}: is it a Hyper-V host?"
        super().__init__(f"{cmdlet} failed on the host: {first}{code}", hint=hint)
        self.cmdlet = cmdlet
        self.host_message = message
        self.hresult = hresult
        """Unsigned, 32 bits; 0 where there is none."""
        self.category = category
        self.error_id = error_id


_HINTS = {
    0x80070005: "Access is denied: the session needs an elevated administrator of the host.",
    0x80070020: "Another process holds the file: a running virtual machine, or a scanner.",
    0x800F0805: "The package is damaged or no CBS package: compare it with its origin.",
    0x800F0806: "Servicing is pending in the image: boot the guest once, then try again.",
    0x800F081E: "The package does not apply: wrong system, wrong architecture, or superseded.",
    0x800F0823: "The image's servicing stack, or the host's DISM, is too old for the package.",
    0x800F0830: "The image cannot be serviced any more: start again from a good copy.",
    0xC1510111: "The image cannot be written: it is mounted read-only.",
}


@dataclass(frozen=True, slots=True)
class Event:
    """What a cmdlet says while it runs: kind "progress" or "warning"."""

    kind: str
    text: str
    percent: int | None = None


OnEvent = Callable[[Event], None]


class Session:
    """One script on one host. Close it, or use it as a context manager.

    Raises HostFailed where the host ends the conversation, CmdletFailed where what was asked
    failed. Requests come one after the other; only the lease is renewed beside them.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._sending = threading.Lock()
        self._number = 0
        self._unfinished: int | None = None
        self._stop = threading.Event()
        self.files = FileOperations(self)
        try:
            hello = self._receive(_START_PATIENCE, "the start of the script")
            if hello.kind != "hello" or hello.content.get("protocol") != 1:
                raise HostFailed("the host runs another version of the session's script")
        except BaseException:
            transport.close()
            raise
        self.hello = hello.content
        self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewal.start()

    @property
    def description(self) -> str:
        """Which PowerShell answers, for people."""
        name = "Windows PowerShell" if self.hello.get("edition") == "Desktop" else "PowerShell"
        if self.hello.get("edition") == "Python":
            name = "Python in place of PowerShell"
        return f"{name} {self.hello.get('version')}"

    def invoke(
        self,
        cmdlet: str,
        *,
        properties: Sequence[str] = (),
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> list[dict[str, object]]:
        """Run a cmdlet with parameters by name; the wanted properties of each of its results.

        `deadline` in seconds: then it is cancelled, and HostFailed is raised. Raises CmdletFailed
        where it reports an error of any kind.
        """
        self._number += 1
        request = Request(self._number, "invoke", cmdlet, parameters, tuple(properties))
        return self._ask(request, cmdlet, deadline, on_event)

    def operate(self, operation: str, **parameters: object) -> dict[str, object]:
        """Run a file operation of the script's own. Raises CmdletFailed."""
        self._number += 1
        request = Request(self._number, operation, parameters=parameters)
        results = self._ask(request, operation, None, None)
        return results[0] if results else {}

    def _ask(
        self, request: Request, name: str, deadline: float | None, on_event: OnEvent | None
    ) -> list[dict[str, object]]:
        self._finish()
        results: list[dict[str, object]] = []
        failure: CmdletFailed | None = None
        end = None if deadline is None else time.monotonic() + deadline
        self._unfinished = request.number
        self._send(request)
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            answer = self._receive(left, name)
            content = answer.content
            if answer.number != request.number:
                continue  # the rest of a request that was given up
            if answer.kind == "end":
                self._unfinished = None
                break
            if answer.kind == "result":
                properties = content.get("properties")
                results.append(properties if isinstance(properties, dict) else {})
            elif answer.kind == "error" and failure is None:
                code = content.get("hresult")
                failure = CmdletFailed(
                    name,
                    str(content.get("message") or ""),
                    code if isinstance(code, int) else 0,
                    str(content.get("category") or ""),
                    str(content.get("errorid") or ""),
                )
            elif on_event is not None and answer.kind in ("progress", "warning"):
                on_event(_event(answer))
        if failure is not None:
            raise failure
        return results

    def _finish(self) -> None:
        """Cancel and await a request that was interrupted: what comes next must find it done."""
        if self._unfinished is None:
            return
        number, self._unfinished = self._unfinished, None
        self._send(Request(0, "cancel", parameters={"number": number}))
        while True:
            answer = self._receive(_CANCEL_PATIENCE, "the end of a cancelled cmdlet")
            if answer.number == number and answer.kind == "end":
                return

    def _send(self, request: Request) -> None:
        with self._sending:
            self._transport.send_line(request.encode())

    def _receive(self, patience: float | None, what: str) -> Answer:
        end = None if patience is None else time.monotonic() + patience
        while True:
            line = self._transport.receive_line(_TICK)
            if line is not None:
                return Answer.decode(line)
            if end is not None and time.monotonic() >= end:
                raise HostFailed(
                    f"the host did not answer in time: {what}",
                    hint="Look on the host whether powershell.exe or dismhost.exe hangs.",
                )

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_EVERY):
            try:
                self._send(Request(0, "renew"))
            except HostFailed:
                return

    def close(self) -> None:
        """End the script. What it still has mounted it dismounts itself."""
        if not self._stop.is_set():
            self._stop.set()
            self._transport.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _event(answer: Answer) -> Event:
    if answer.kind == "warning":
        return Event("warning", str(answer.content.get("message") or ""))
    percent = answer.content.get("percent")
    known = isinstance(percent, int) and 0 <= percent <= 100
    text = str(answer.content.get("status") or answer.content.get("activity") or "")
    return Event("progress", text, percent if known and isinstance(percent, int) else None)
