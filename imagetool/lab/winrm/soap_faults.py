"""Faults of WS-Management: SOAP code and subcode, Windows' error code and message.

DSP0226 1.2, section 14; [MS-WSMV] 2.2.4.43 (WSManFault); the codes and messages are those of
wsmerror.h and winerror.h.
"""

from __future__ import annotations


class SoapFault(Exception):
    """The request is to be answered with a SOAP fault."""

    def __init__(
        self,
        subcode: str,
        code: int,
        message: str,
        *,
        sender: bool = True,
        status: int = 500,
        as_wmi_error: bool = False,
    ) -> None:
        super().__init__(message)
        self.subcode = subcode
        """With its prefix: w for WS-Management, a for WS-Addressing, s for SOAP."""
        self.code = code
        self.message = message
        self.sender = sender
        self.status = status
        self.as_wmi_error = as_wmi_error
        """True if the detail is an MSFT_WmiError, as newer hosts send, in place of a WSManFault."""


def timed_out() -> SoapFault:
    """Nothing happened within OperationTimeout: 0x80338029."""
    return SoapFault(
        "w:TimedOut",
        0x80338029,
        "The WS-Management service cannot complete the operation within the time specified in "
        "OperationTimeout.  ",
        sender=False,
    )


def no_such_shell(identifier: str) -> SoapFault:
    """No shell has that identifier: 0x8033805B."""
    return SoapFault(
        "w:InvalidSelectors",
        0x8033805B,
        f"The request for the Windows Remote Shell with ShellId {identifier} failed because the "
        "shell was not found on the server. Possible causes are: the specified ShellId is "
        "incorrect or the shell no longer exists on the server. Provide the correct ShellId or "
        "create a new shell and retry the operation. ",
    )


def no_such_command() -> SoapFault:
    """The shell has no command with that identifier: 0x8033805B as well."""
    return SoapFault(
        "w:InvalidSelectors",
        0x8033805B,
        "The Windows Remote Shell received a request to perform an operation on a command "
        "identifier that does not exist. Either the command has completed execution or the client "
        "specified an invalid command identifier. ",
    )


def schema_violation(message: str) -> SoapFault:
    """The envelope does not follow its schema: 0x80338041."""
    return SoapFault("w:SchemaValidationError", 0x80338041, message)


def invalid_xml() -> SoapFault:
    """The body is no XML: 0x80338043."""
    return SoapFault(
        "w:SchemaValidationError",
        0x80338043,
        "The WS-Management service cannot process the request because the XML is invalid. ",
    )


def unknown_action(action: str) -> SoapFault:
    """The action is unknown: ERROR_WSMAN_INVALID_ACTIONURI."""
    return SoapFault(
        "a:ActionNotSupported",
        0x80338001,
        f"The action {action[:200]} is not supported by the service. ",
    )


def no_such_resource(uri: str) -> SoapFault:
    """The resource URI is unknown: ERROR_WSMAN_RESOURCE_NOT_FOUND."""
    return SoapFault(
        "a:DestinationUnreachable",
        0x80338000,
        f"The WS-Management service cannot process the request. The service cannot find the "
        f"resource identified by the resource URI {uri[:200]}. ",
    )


def envelope_too_large(limit: int) -> SoapFault:
    """The envelope is larger than MaxEnvelopeSizekb: ERROR_WSMAN_ENCODING_LIMIT."""
    return SoapFault(
        "w:EncodingLimit",
        0x80338035,
        f"The WS-Management service cannot process the request. The envelope is larger than the "
        f"service allows, {limit} bytes. ",
    )


def envelope_too_small() -> SoapFault:
    """A MaxEnvelopeSize below 8,192 bytes: ERROR_WSMAN_MIN_ENVELOPE_SIZE."""
    return SoapFault(
        "w:EncodingLimit",
        0x8033807E,
        "The WS-Management service cannot process the request. The MaxEnvelopeSize that it asks "
        "for is smaller than 8192 bytes. ",
    )


def too_many_shells(limit: int) -> SoapFault:
    """The user has MaxShellsPerUser shells: 0x803381A5."""
    return SoapFault(
        "w:QuotaLimit",
        0x803381A5,
        f"The WS-Management service cannot process the request. This user is allowed a maximum "
        f"number of {limit} concurrent shells, which has been exceeded. Close existing shells or "
        "raise the quota for this user. ",
        sender=False,
    )


def too_many_operations(limit: int) -> SoapFault:
    """The shell has had its number of operations: 0x803381A6."""
    return SoapFault(
        "w:InternalError",
        0x803381A6,
        f"The WS-Management service cannot process the request. This user is allowed a maximum "
        f"number of {limit} concurrent operations, which has been exceeded. Close existing "
        "operations for this user, or raise the quota for this user. ",
        sender=False,
        as_wmi_error=True,
    )


def too_many_processes(limit: int) -> SoapFault:
    """The shell has MaxProcessesPerShell: ERROR_WSMAN_QUOTA_MAX_COMMANDS_PER_SHELL_PPQ."""
    return SoapFault(
        "w:QuotaLimit",
        0x803381E9,
        f"The WS-Management service cannot process the request. The maximum number of processes "
        f"in this shell, {limit}, has been exceeded. ",
        sender=False,
    )


def access_denied(status: int) -> SoapFault:
    """The user has no permission: ERROR_ACCESS_DENIED."""
    return SoapFault("w:AccessDenied", 5, "Access is denied. ", status=status)


def resource_busy() -> SoapFault:
    """The resource is in use, and the client may try again: ERROR_BUSY."""
    return SoapFault("w:InternalError", 170, "The requested resource is in use. ", sender=False)


def operation_aborted() -> SoapFault:
    """The command was terminated during a Receive: ERROR_OPERATION_ABORTED."""
    return SoapFault(
        "w:InternalError",
        995,
        "The I/O operation has been aborted because of either a thread exit or an application "
        "request. ",
        sender=False,
    )


def input_closed() -> SoapFault:
    """Standard input has ended, or the process has: ERROR_NO_DATA."""
    return SoapFault("w:InternalError", 0x800700E8, "The pipe is being closed. ", sender=False)


def not_started(code: int, message: str) -> SoapFault:
    """CreateProcess failed with this Win32 error code."""
    return SoapFault("w:InternalError", 0x80070000 | code, message, sender=False)
