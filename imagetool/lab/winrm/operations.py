"""Operations on shells: [MS-WSMV] 3.1.4.5 (Create, Delete, Get) and 3.1.4.9 to 14."""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from imagetool.lab.path_names import directory_here
from imagetool.lab.winrm import command_line, soap_faults
from imagetool.lab.winrm.command import Command
from imagetool.lab.winrm.envelope import (
    CMD_URI,
    SHELL,
    TRANSFER,
    SoapRequest,
    element_text,
    parse_duration,
    quote_attribute,
)
from imagetool.lab.winrm.limits import Limits
from imagetool.lab.winrm.shells import Shell, Shells, new_identifier

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_IDENTIFIER = re.compile(r"\{?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?")
_VARIABLE_NAME = re.compile(r"[^=\0]{1,255}")
_RECEIVE_OVERHEAD = 2_048
"""Bytes of a ReceiveResponse besides its streams."""
_STREAM_OVERHEAD = 160
"""Bytes of a Stream element besides its text."""
_MAX_IDLE_TIMEOUT = 2_147_483.0
"""Seconds: MaxIdleTimeout of winrm/config, which is in milliseconds."""

ACTION_NAMES = {
    f"{TRANSFER}/Create": "Create",
    f"{TRANSFER}/Delete": "Delete",
    f"{TRANSFER}/Get": "Get",
    f"{SHELL}/Command": "Command",
    f"{SHELL}/Send": "Send",
    f"{SHELL}/Receive": "Receive",
    f"{SHELL}/Signal": "Signal",
}
"""Short names of the action URIs, as in FaultInjector and ServedRequest."""


class ShellOperations:
    """Processes requests on shells; every process inherits `environment`."""

    def __init__(
        self,
        shells: Shells,
        limits: Limits,
        engine: Sequence[str],
        environment: Mapping[str, str],
        owner: str,
        url: str,
    ) -> None:
        self._shells = shells
        self._limits = limits
        self._engine = engine
        self._environment = environment
        self._owner = owner
        self._url = url

    def answer(self, request: SoapRequest) -> tuple[str, str]:
        """Process a request; return the response's action and body, as XML. Raises SoapFault."""
        name = ACTION_NAMES.get(request.action)
        if name is None:
            raise soap_faults.unknown_action(request.action)
        if request.resource not in (CMD_URI, SHELL):
            raise soap_faults.no_such_resource(request.resource)
        if name == "Create":
            return f"{request.action}Response", self._create(request)
        if name == "Delete":
            self._shells.delete(request.shell_id)
            return f"{request.action}Response", ""
        with self._shells.using(request.shell_id) as shell:
            if name == "Get":
                return f"{request.action}Response", self._describe(shell)
            method = {
                "Command": self._command,
                "Send": self._send,
                "Receive": self._receive,
                "Signal": self._signal,
            }[name]
            return f"{request.action}Response", method(shell, request)

    # Shells

    def _create(self, request: SoapRequest) -> str:
        element = _body_element(request, "Shell")
        wanted = element_text(element.find(f"{{{SHELL}}}IdleTimeOut"))
        environment = {}
        for variable in element.iterfind(f"{{{SHELL}}}Environment/{{{SHELL}}}Variable"):
            name, value = variable.get("Name", ""), variable.text or ""
            if not _VARIABLE_NAME.fullmatch(name) or "\0" in value:
                raise soap_faults.schema_violation(
                    f"{name[:100]!r} is no name of an environment variable. "
                )
            environment[name] = value
        code_page = request.options.get("WINRS_CODEPAGE", "437")
        if not re.fullmatch(r"\d{1,5}", code_page):
            raise soap_faults.schema_violation(f"{code_page[:100]!r} is no code page. ")
        identifier = element.get("ShellId", "") or new_identifier()
        if not _IDENTIFIER.fullmatch(identifier):
            raise soap_faults.schema_violation(
                f"{identifier[:100]!r} is no identifier of a shell. "
            )
        shell = Shell(
            identifier=identifier.upper(),
            idle_timeout=min(
                parse_duration(wanted) if wanted else self._limits.idle_timeout_ms / 1000,
                _MAX_IDLE_TIMEOUT,
            ),
            environment=environment,
            working_directory=element_text(element.find(f"{{{SHELL}}}WorkingDirectory")),
            code_page=int(code_page),
            input_streams=element_text(element.find(f"{{{SHELL}}}InputStreams")) or "stdin",
            output_streams=element_text(element.find(f"{{{SHELL}}}OutputStreams"))
            or "stdout stderr",
        )
        self._shells.add(shell)
        return (
            f"<x:ResourceCreated><a:Address>{self._url}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{CMD_URI}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{shell.identifier}</w:Selector></w:SelectorSet>'
            f"</a:ReferenceParameters></x:ResourceCreated>{self._describe(shell)}"
        )

    def _describe(self, shell: Shell) -> str:
        now = time.monotonic()
        return (
            f"<rsp:Shell><rsp:ShellId>{shell.identifier}</rsp:ShellId>"
            f"<rsp:ResourceUri>{CMD_URI}</rsp:ResourceUri>"
            f"<rsp:Owner>{escape(self._owner)}</rsp:Owner>"
            f"<rsp:ClientIP>127.0.0.1</rsp:ClientIP>"
            f"<rsp:IdleTimeOut>PT{shell.idle_timeout:.3f}S</rsp:IdleTimeOut>"
            f"<rsp:InputStreams>{escape(shell.input_streams)}</rsp:InputStreams>"
            f"<rsp:OutputStreams>{escape(shell.output_streams)}</rsp:OutputStreams>"
            f"<rsp:ShellRunTime>PT{now - shell.created:.0f}S</rsp:ShellRunTime>"
            f"<rsp:ShellInactivity>PT{now - shell.last_used:.0f}S</rsp:ShellInactivity></rsp:Shell>"
        )

    # Commands

    def _command(self, shell: Shell, request: SoapRequest) -> str:
        element = _body_element(request, "CommandLine")
        for child in element:
            name = child.tag.rpartition("}")[2]
            if name not in ("Command", "Arguments"):
                raise soap_faults.schema_violation(
                    "The Windows Remote Shell cannot process the request. The SOAP packet contains "
                    f"an element {name[:100]} that is invalid. Retry the request with the correct "
                    "XML element. "
                )
        line = command_line.join(
            element_text(element.find(f"{{{SHELL}}}Command")),
            [child.text or "" for child in element.iterfind(f"{{{SHELL}}}Arguments")],
        )
        identifier = element.get("CommandId", "") or new_identifier()
        if not _IDENTIFIER.fullmatch(identifier):
            raise soap_faults.schema_violation(
                f"{identifier[:100]!r} is no identifier of a command. "
            )
        console = _is_true(request.options.get("WINRS_CONSOLEMODE_STDIN", ""))
        direct = _is_true(request.options.get("WINRS_SKIP_CMD_SHELL", ""))
        command = Command(identifier.upper(), console)
        self._shells.add_command(shell, command)
        try:
            self._start(shell, command, line, direct)
        except BaseException:  # an interruption, too
            self._shells.drop_command(shell, command.identifier)
            raise
        if shell.commands.get(command.identifier) is not command:
            command.terminate()  # the shell was deleted before the process started
            raise soap_faults.no_such_shell(shell.identifier)
        return (
            f"<rsp:CommandResponse><rsp:CommandId>{command.identifier}</rsp:CommandId>"
            "</rsp:CommandResponse>"
        )

    def _start(self, shell: Shell, command: Command, line: str, direct: bool) -> None:
        if len(line) > (
            command_line.MAX_COMMAND_LINE if direct else command_line.MAX_CMD_COMMAND_LINE
        ):
            if direct:
                raise soap_faults.not_started(206, "The filename or extension is too long. ")
            command.fail(b"The command line is too long.\r\n", 1)
            return
        arguments = command_line.powershell_arguments(line)
        if arguments is None:
            if direct:
                raise soap_faults.not_started(2, "The system cannot find the file specified. ")
            command.fail(command_line.not_recognized_message(line).encode(), 1)
            return
        environment = {**self._environment, **shell.environment}
        if shell.code_page not in (437, 65001):
            # PowerShell has no console here to take it from; 437 is the default of clients.
            environment["PWSH_CODEPAGE"] = str(shell.code_page)
        folder = directory_here(shell.working_directory, self._environment)
        if folder and not os.path.isdir(folder):  # noqa: PTH112  # a client's text
            raise soap_faults.not_started(267, "The directory name is invalid. ")
        try:
            command.start([*self._engine, *arguments], environment, folder)
        except (OSError, ValueError):
            raise soap_faults.not_started(5, "The program cannot be started. ") from None

    def _send(self, shell: Shell, request: SoapRequest) -> str:
        element = _body_element(request, "Send")
        for stream in element.iterfind(f"{{{SHELL}}}Stream"):
            if stream.get("Name") not in shell.input_streams.split():
                raise soap_faults.schema_violation(
                    f"There is no stream {stream.get('Name', '')[:100]!r}. "
                )
            command = shell.command(stream.get("CommandId", ""))
            try:
                data = base64.b64decode("".join((stream.text or "").split()), validate=True)
            except (binascii.Error, ValueError):
                raise soap_faults.schema_violation("The stream's text is no base64. ") from None
            if not command.send(data, _is_true(stream.get("End", "")), self._timeout(request)):
                raise soap_faults.timed_out()
        return "<rsp:SendResponse/>"

    def _receive(self, shell: Shell, request: SoapRequest) -> str:
        wanted = _body_element(request, "Receive").find(f"{{{SHELL}}}DesiredStream")
        if wanted is None:
            raise soap_faults.schema_violation("The element DesiredStream is missing. ")
        command = shell.command(wanted.get("CommandId", ""))
        size = min(request.max_envelope_size, self._limits.max_envelope_size) - _RECEIVE_OVERHEAD
        output = command.receive(size * 3 // 5, self._timeout(request))
        if output is None:
            raise soap_faults.timed_out()
        named = f'CommandId="{command.identifier}"'
        parts = [
            f'<rsp:Stream Name="{name}" {named}>{base64.b64encode(data).decode("ascii")}'
            "</rsp:Stream>"
            for name, data in _merge_chunks(output.chunks, size)
        ]
        if output.exit_code is None:
            state = f'<rsp:CommandState {named} State="{SHELL}/CommandState/Running"/>'
        else:
            parts += [
                f'<rsp:Stream Name={quote_attribute(name)} {named} End="true"/>'
                for name in shell.output_streams.split()
            ]
            state = (
                f'<rsp:CommandState {named} State="{SHELL}/CommandState/Done">'
                f"<rsp:ExitCode>{output.exit_code}</rsp:ExitCode></rsp:CommandState>"
            )
        return f"<rsp:ReceiveResponse>{''.join(parts)}{state}</rsp:ReceiveResponse>"

    def _signal(self, shell: Shell, request: SoapRequest) -> str:
        element = _body_element(request, "Signal")
        code = element_text(element.find(f"{{{SHELL}}}Code")).rpartition("/")[2].lower()
        identifier = element.get("CommandId", "")
        if code in ("ctrl_c", "ctrl_break"):
            shell.command(identifier).interrupt()
        elif code == "terminate":
            self._shells.drop_command(shell, identifier).terminate()
        else:
            raise soap_faults.schema_violation(f"There is no signal {code[:100]!r}. ")
        return "<rsp:SignalResponse/>"

    def _timeout(self, request: SoapRequest) -> float:
        return min(request.timeout, self._limits.max_timeout_ms / 1000)


def _merge_chunks(chunks: list[tuple[str, bytes]], size: int) -> list[tuple[str, bytes]]:
    """Merge adjacent chunks of one stream; sort by stream first where there are too many."""
    if len(chunks) * _STREAM_OVERHEAD > size // 5:
        chunks = sorted(chunks, key=lambda chunk: chunk[0])
    found: list[tuple[str, bytes]] = []
    for name, data in chunks:
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + data)
        else:
            found.append((name, data))
    return found


def _body_element(request: SoapRequest, name: str) -> Element:
    if request.body is None or request.body.tag != f"{{{SHELL}}}{name}":
        raise soap_faults.schema_violation(f"The element {name} is missing from the body. ")
    return request.body


def _is_true(value: str) -> bool:
    return value.strip().lower() in ("true", "1")
