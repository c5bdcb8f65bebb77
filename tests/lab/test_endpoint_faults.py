"""What a test can tell the endpoint to do wrong, and how a client sees it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest
import requests
from winrm.exceptions import (
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)
from winrm.protocol import Protocol

from imagetool.lab.winrm import Endpoint, FaultInjector

Serve = Callable[..., Endpoint]
Connect = Callable[..., Protocol]
GONE = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)
COUNT = (
    "$reader = [IO.StreamReader]::new([Console]::OpenStandardInput()); "
    "while ($null -ne ($line = $reader.ReadLine())) { [Console]::Out.WriteLine($line) }"
)


@pytest.fixture
def faults() -> FaultInjector:
    return FaultInjector()


@pytest.fixture
def endpoint(serve: Serve, faults: FaultInjector) -> Endpoint:
    return serve(faults=faults)


@pytest.fixture
def protocol(endpoint: Endpoint, connect: Connect) -> Protocol:
    return connect(endpoint)


def start(protocol: Protocol) -> tuple[str, str]:
    shell = protocol.open_shell(codepage=65001)
    script = base64.b64encode(COUNT.encode("utf-16-le")).decode()
    command = f"powershell -NoProfile -EncodedCommand {script}"
    return shell, protocol.run_command(shell, command, console_mode_stdin=False)


def finish(protocol: Protocol, shell: str, command: str) -> bytes:
    protocol.send_command_input(shell, command, b"end\n", end=True)
    return protocol.get_command_output(shell, command)[0]


def again(protocol: Protocol) -> None:
    """Forget the connection, so that the next request makes a handshake of its own."""
    protocol.transport.close_session()
    protocol.transport.encryption = None


def test_a_request_is_dropped_before_it_counts(
    endpoint: Endpoint, faults: FaultInjector, protocol: Protocol
) -> None:
    shell, command = start(protocol)
    faults.drop_before(2, "Send")
    protocol.send_command_input(shell, command, b"one\n")
    with pytest.raises(GONE):
        protocol.send_command_input(shell, command, b"two\n")
    again(protocol)
    assert finish(protocol, shell, command) == b"one\nend\n"
    assert [served.status for served in endpoint.served_requests if served.action == "Send"] == [
        200,
        0,
        200,
    ]
    assert faults.pending == 0


@pytest.mark.parametrize("how", ["drop_after", "drop_within"])
def test_a_request_counts_whose_answer_is_dropped(
    faults: FaultInjector, protocol: Protocol, how: str
) -> None:
    shell, command = start(protocol)
    getattr(faults, how)(1, "Send")
    with pytest.raises(GONE):
        protocol.send_command_input(shell, command, b"one\n")
    again(protocol)
    assert finish(protocol, shell, command) == b"one\nend\n"


def test_output_that_was_on_its_way_is_lost(faults: FaultInjector, protocol: Protocol) -> None:
    shell, command = start(protocol)
    protocol.send_command_input(shell, command, b"one\n")
    faults.drop_within(1, "Receive")
    with pytest.raises(GONE):
        protocol.get_command_output_raw(shell, command)
    again(protocol)
    assert finish(protocol, shell, command) == b"end\n"


def test_a_handshake_is_dropped(faults: FaultInjector, protocol: Protocol) -> None:
    faults.drop_before(2, "Authenticate")
    with pytest.raises(GONE):
        protocol.open_shell()
    # pywinrm keeps the session that has no context, and would send everything plain from here on.
    with pytest.raises(WinRMTransportError, match="500"):
        protocol.open_shell()
    again(protocol)
    protocol.open_shell()


def test_any_request_can_be_meant(faults: FaultInjector, protocol: Protocol) -> None:
    faults.drop_before(3)
    shell, command = start(protocol)
    with pytest.raises(GONE):
        protocol.send_command_input(shell, command, b"one\n")


def test_the_process_is_killed(
    endpoint: Endpoint, faults: FaultInjector, protocol: Protocol
) -> None:
    shell, command = start(protocol)
    protocol.send_command_input(shell, command, b"one\n")
    faults.kill(2, "Receive")
    out, _, _, done = protocol.get_command_output_raw(shell, command)
    assert (out, done) == (b"one\n", False)
    _, _, code, done = protocol.get_command_output_raw(shell, command)
    assert (code, done) == (1, True)
    assert endpoint.process_ids == []
    with pytest.raises(WSManFaultError):
        protocol.send_command_input(shell, command, b"two\n")


def test_an_answer_comes_late(faults: FaultInjector, protocol: Protocol) -> None:
    faults.delay(0.5, 1, "Create")
    started = time.monotonic()
    protocol.open_shell()
    assert time.monotonic() - started >= 0.5


def test_closing_does_not_wait_for_a_late_answer(
    serve: Serve, connect: Connect, faults: FaultInjector
) -> None:
    endpoint = serve(faults=faults.delay(60, 1, "Create"))
    with pytest.raises(requests.exceptions.ReadTimeout):
        connect(endpoint, operation_timeout_sec=1, read_timeout_sec=2).open_shell()
    started = time.monotonic()
    endpoint.close()
    assert time.monotonic() - started < 3


def test_a_send_that_timed_out_was_taken(faults: FaultInjector, protocol: Protocol) -> None:
    shell, command = start(protocol)
    faults.send_times_out()
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.send_command_input(shell, command, b"one\n")
    assert finish(protocol, shell, command) == b"one\nend\n"


def test_a_send_that_was_refused_as_busy_was_not(faults: FaultInjector, protocol: Protocol) -> None:
    shell, command = start(protocol)
    faults.send_busy()
    with pytest.raises(WSManFaultError) as caught:
        protocol.send_command_input(shell, command, b"one\n")
    assert caught.value.wsman_fault_code == 170
    assert finish(protocol, shell, command) == b"end\n"


@pytest.mark.parametrize("status", [500, 403])
def test_a_shell_is_denied(faults: FaultInjector, protocol: Protocol, status: int) -> None:
    faults.deny_create(status=status)
    with pytest.raises(WSManFaultError) as caught:
        protocol.open_shell()
    assert caught.value.wsman_fault_code == 5
    assert caught.value.code == status
    protocol.open_shell()


def test_without_a_reader_a_sender_waits(endpoint: Endpoint, connect: Connect) -> None:
    protocol = connect(endpoint, operation_timeout_sec=1)
    shell = protocol.open_shell()
    script = base64.b64encode("[Threading.Thread]::Sleep(30000)".encode("utf-16-le"))
    command = protocol.run_command(
        shell, f"pwsh -EncodedCommand {script.decode()}", console_mode_stdin=False
    )
    with pytest.raises(WinRMOperationTimeoutError):
        for _ in range(30):
            protocol.send_command_input(shell, command, b"x" * 100_000)
    sent = [served for served in endpoint.served_requests if served.action == "Send"]
    assert 10 <= len(sent) <= 14


def test_what_was_served_is_counted(endpoint: Endpoint, protocol: Protocol) -> None:
    shell, command = start(protocol)
    assert (endpoint.shell_count, len(endpoint.process_ids)) == (1, 1)
    finish(protocol, shell, command)
    protocol.close_shell(shell)
    actions = [served.action for served in endpoint.served_requests]
    assert actions[3:6] == ["Create", "Command", "Send"]
    assert actions[-1] == "Delete"
    assert all(
        served.received > 500 and served.sent > 500 for served in endpoint.served_requests[3:]
    )


def test_a_transport_error_is_no_fault(serve: Serve, connect: Connect) -> None:
    endpoint = serve()
    with pytest.raises(WinRMTransportError) as caught:
        connect(endpoint, url=endpoint.url.replace("wsman", "other")).open_shell()
    assert caught.value.code == 404
