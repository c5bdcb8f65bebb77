"""The WinRM endpoint, asked by other people's clients: pywinrm and pypsrp."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import ModuleType

import pytest
import requests
import winrm
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)
from winrm.protocol import Protocol

from imagetool.errors import HostFailed, WrongUsage
from imagetool.lab.winrm import Endpoint, Limits, read_limits

WAYS = [(False, "ntlm"), (True, "basic"), (True, "ntlm"), (True, "ssl")]
Serve = Callable[..., Endpoint]
Connect = Callable[..., Protocol]
# Reads lines until there are no more, and says each: a session of imagetool's does the same.
ECHO = (
    "$reader = [IO.StreamReader]::new([Console]::OpenStandardInput()); "
    "while ($null -ne ($line = $reader.ReadLine())) { [Console]::Out.WriteLine('<' + $line + '>') }"
)


def encoded(script: str) -> str:
    text = base64.b64encode(script.encode("utf-16-le")).decode()
    return f"powershell.exe -NoProfile -NonInteractive -EncodedCommand {text}"


def run(protocol: Protocol, command: str, *arguments: str) -> tuple[bytes, bytes, int]:
    shell = protocol.open_shell(codepage=65001)
    try:
        identifier = protocol.run_command(shell, command, arguments)
        output = protocol.get_command_output(shell, identifier)
        protocol.cleanup_command(shell, identifier)
        return output
    finally:
        protocol.close_shell(shell)


@pytest.mark.parametrize(("https", "transport"), WAYS)
def test_pywinrm_runs_powershell(serve: Serve, https: bool, transport: str) -> None:
    endpoint = serve(https=https)
    session = winrm.Session(
        endpoint.url,
        auth=(endpoint.user, endpoint.password),
        transport=transport,
        proxy=None,
        ca_trust_path=str(endpoint.certificate) if https else None,
    )
    answer = session.run_ps("'Größe 日本'; exit 3")
    assert answer.std_out.decode() == "Größe 日本\n"
    assert answer.status_code == 3
    assert session.run_ps("throw 'no'").status_code == 1
    assert endpoint.shell_count == 0
    assert endpoint.process_ids == []


def test_what_goes_over_http_is_sealed(serve: Serve, connect: Connect) -> None:
    endpoint = serve()
    protocol = connect(endpoint)
    protocol.open_shell()
    assert protocol.transport.encryption is not None
    actions = [(served.action, served.status) for served in endpoint.served_requests]
    assert actions == [
        ("Authenticate", 401), ("Authenticate", 401), ("Authenticate", 200), ("Create", 200)
    ]  # fmt: skip


def test_other_programs_are_not_recognized(serve: Serve, connect: Connect) -> None:
    out, error, code = run(connect(serve()), "ipconfig", "/all")
    assert (out, code) == (b"", 1)
    assert error.startswith(b"'ipconfig' is not recognized as an internal or external command,\r\n")


def test_a_line_that_cmd_would_not_take_is_refused(serve: Serve, connect: Connect) -> None:
    out, error, code = run(connect(serve()), "pwsh", "-Command", "'" + "x" * 8200 + "'")
    assert (out, error, code) == (b"", b"The command line is too long.\r\n", 1)


@pytest.mark.parametrize(
    "command",
    [
        r'"C:\Windows\System32\WindowsPowerShell\v1.0\PowerShell.EXE" -NoProfile -Command "1 + 1"',
        "pwsh -NoProfile -Command 1 + 1",
    ],
)
def test_the_engine_is_known_by_its_name(serve: Serve, connect: Connect, command: str) -> None:
    assert run(connect(serve()), command) == (b"2\n", b"", 0)


def test_megabytes_come_through_whole(serve: Serve, connect: Connect) -> None:
    script = "for ($i = 0; $i -lt 40000; $i++) { [Console]::Out.WriteLine('{0:d99}', $i) }"
    started = time.monotonic()
    out, error, code = run(connect(serve()), encoded(script))
    assert (len(out), error, code) == (4_000_000, b"", 0)
    lines = out.split(b"\n")
    assert [int(line) for line in lines[:-1]] == list(range(40_000))
    assert time.monotonic() - started < 20


def test_answers_are_no_larger_than_the_client_takes(serve: Serve, connect: Connect) -> None:
    endpoint = serve(https=True, limits=Limits(max_envelope_size_kb=16))
    script = "[Console]::Out.Write('x' * 100000); [Console]::Error.Write('y' * 100000)"
    out, error, _ = run(connect(endpoint, "basic"), encoded(script))
    assert (out.count(b"x"), error.count(b"y")) == (100_000, 100_000)
    assert max(served.sent for served in endpoint.served_requests) <= 16 * 1024


def test_input_is_fed_and_ended(serve: Serve, connect: Connect) -> None:
    protocol = connect(serve())
    shell = protocol.open_shell(codepage=65001)
    command = protocol.run_command(shell, encoded(ECHO), console_mode_stdin=False)
    protocol.send_command_input(shell, command, "größe\n".encode())
    first = b""
    while not first:
        first, _, _, done = protocol.get_command_output_raw(shell, command)
        assert not done
    assert first.decode() == "<größe>\n"
    big = b"z" * 100_000
    protocol.send_command_input(shell, command, big + b"\nlast", end=True)
    assert protocol.get_command_output(shell, command) == (
        b"<" + big + b">\n<last>\n", b"", 0
    )  # fmt: skip
    with pytest.raises(WSManFaultError) as caught:
        protocol.send_command_input(shell, command, b"more\n")
    assert caught.value.wsman_fault_code == 0x800700E8


def test_input_is_fed_while_output_is_waited_for(serve: Serve, connect: Connect) -> None:
    # Over http each needs a connection of its own: pywinrm has one context, whose sealed messages
    # must come in the order of their numbers.
    endpoint = serve()
    reader, writer = connect(endpoint), connect(endpoint)
    shell = reader.open_shell(codepage=65001)
    command = reader.run_command(shell, encoded(ECHO), console_mode_stdin=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reader.get_command_output_raw, shell, command)
        assert not wait([waiting], timeout=0.3).done
        writer.send_command_input(shell, command, b"one\n")
        assert waiting.result(timeout=10)[0] == b"<one>\n"


def test_with_a_console_input_is_keystrokes(serve: Serve, connect: Connect) -> None:
    protocol = connect(serve())
    shell = protocol.open_shell(codepage=65001)
    command = protocol.run_command(shell, encoded(ECHO), console_mode_stdin=True)
    protocol.send_command_input(shell, command, b"a\nb\r", end=True)
    out, _, _ = protocol.get_command_output(shell, command)
    assert out == b"a\nb\r<ab>\n"


def test_a_receive_without_news_times_out(serve: Serve, connect: Connect) -> None:
    protocol = connect(serve(), operation_timeout_sec=1)
    shell = protocol.open_shell()
    command = protocol.run_command(shell, encoded(ECHO), console_mode_stdin=False)
    started = time.monotonic()
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    assert 0.9 < time.monotonic() - started < 3
    protocol.cleanup_command(shell, command)


def test_a_terminated_command_is_gone_with_its_children(
    serve: Serve, connect: Connect, soon: Callable[..., bool]
) -> None:
    endpoint = serve()
    protocol = connect(endpoint)
    shell = protocol.open_shell()
    script = (
        "$child = [Diagnostics.Process]::Start('sleep', '60'); "
        "[Console]::Out.WriteLine($child.Id); [Threading.Thread]::Sleep(60000)"
    )
    command = protocol.run_command(shell, encoded(script))
    out, *_ = protocol.get_command_output_raw(shell, command)
    child = int(out)
    assert len(endpoint.process_ids) == 1
    protocol.cleanup_command(shell, command)
    assert endpoint.process_ids == []
    assert soon(lambda: not alive(child))
    with pytest.raises(WSManFaultError) as caught:
        protocol.get_command_output_raw(shell, command)
    assert caught.value.wsman_fault_code == 2150858843


def alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_closing_a_shell_kills_what_it_started(
    serve: Serve, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    endpoint = serve()
    protocol = connect(endpoint)
    shell = protocol.open_shell()
    for _ in range(2):
        protocol.run_command(shell, encoded(ECHO), console_mode_stdin=False)
    assert len(endpoint.process_ids) == 2
    protocol.close_shell(shell)
    assert (endpoint.shell_count, endpoint.process_ids) == (0, [])
    endpoint.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_open_at_the_end_is_closed(serve: Serve, connect: Connect) -> None:
    endpoint = serve()
    protocol = connect(endpoint)
    protocol.run_command(protocol.open_shell(), encoded(ECHO), console_mode_stdin=False)
    assert len(endpoint.process_ids) == 1
    endpoint.close()
    assert endpoint.process_ids == []
    with pytest.raises(requests.exceptions.ConnectionError):
        protocol.open_shell()


def test_environment_and_directory_are_the_shells(
    serve: Serve, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_PASSWORD", "secret")
    endpoint = serve()
    protocol = connect(endpoint)
    shell = protocol.open_shell(working_directory=str(tmp_path), env_vars={"ONE": "1 & <2>"})
    command = protocol.run_command(
        shell,
        encoded("$env:ONE; [Environment]::CurrentDirectory; \"[$env:IMAGETOOL_PASSWORD]\"; "
                "\"[$env:NTLM_USER_FILE]\""),
    )  # fmt: skip
    out, _, _ = protocol.get_command_output(shell, command)
    assert out.decode().splitlines() == ["1 & <2>", str(tmp_path), "[]", "[]"]
    nowhere = protocol.open_shell(working_directory="C:\\nowhere")
    with pytest.raises(WSManFaultError) as caught:
        protocol.run_command(nowhere, "pwsh")
    assert caught.value.wsman_fault_code == 0x8007010B


def test_a_code_page_is_the_engines(serve: Serve, connect: Connect) -> None:
    protocol = connect(serve())
    shell = protocol.open_shell(codepage=850)
    command = protocol.run_command(shell, encoded("'Größe'"))
    out, _, _ = protocol.get_command_output(shell, command)
    assert out == "Größe\n".encode("cp850")


def test_the_emulated_host_is_there(serve: Serve, connect: Connect, template: Path) -> None:
    script = f"(Get-VHD -Path '{template}').VhdFormat; Get-Disk -Number 77"
    out, error, _ = run(connect(serve()), encoded(script))
    assert out.split() == [b"VHDX"]
    assert error.startswith(b"#< CLIXML")
    assert b"No MSFT_Disk objects found" in error


def test_an_idle_shell_is_deleted(
    serve: Serve, connect: Connect, soon: Callable[..., bool]
) -> None:
    endpoint = serve()
    protocol = connect(endpoint, operation_timeout_sec=2)
    shell = protocol.open_shell(idle_timeout="PT1.2S")
    other = protocol.open_shell()
    command = protocol.run_command(shell, encoded(ECHO), console_mode_stdin=False)
    with pytest.raises(WinRMOperationTimeoutError):  # it is waited for, so it is not idle
        protocol.get_command_output_raw(shell, command)
    assert endpoint.shell_count == 2
    assert soon(lambda: endpoint.shell_count == 1)
    assert soon(lambda: endpoint.process_ids == [])
    with pytest.raises(WSManFaultError) as caught:
        protocol.get_command_output_raw(shell, command)
    assert caught.value.wsman_fault_code == 2150858843
    assert caught.value.fault_subcode == "w:InvalidSelectors"
    protocol.close_shell(other)


def test_an_idle_timeout_is_a_duration(serve: Serve, connect: Connect) -> None:
    with pytest.raises(WSManFaultError) as caught:
        connect(serve()).open_shell(idle_timeout=300)
    assert caught.value.fault_subcode == "w:SchemaValidationError"
    assert caught.value.wsman_fault_code == 0x80338041


def test_there_are_only_so_many_shells_and_commands(serve: Serve, connect: Connect) -> None:
    limits = Limits(max_shells_per_user=2, max_operations_per_shell=2, max_processes_per_shell=1)
    protocol = connect(serve(limits=limits))
    shell, other = protocol.open_shell(), protocol.open_shell()
    with pytest.raises(WSManFaultError) as caught:
        protocol.open_shell()
    assert caught.value.wsman_fault_code == 0x803381A5
    for _ in range(2):  # those that have ended count as well
        command = protocol.run_command(shell, "nothing")
        protocol.get_command_output(shell, command)
        protocol.cleanup_command(shell, command)
    with pytest.raises(WSManFaultError) as caught:
        protocol.run_command(shell, "nothing")
    assert caught.value.wmierror_code == 0x803381A6
    protocol.run_command(other, encoded(ECHO), console_mode_stdin=False)
    with pytest.raises(WSManFaultError) as caught:
        protocol.run_command(other, encoded(ECHO), console_mode_stdin=False)
    assert caught.value.wsman_fault_code == 0x803381E9


@pytest.mark.parametrize(("https", "transport"), WAYS[:3])
def test_a_wrong_password_is_refused(
    serve: Serve, connect: Connect, https: bool, transport: str
) -> None:
    endpoint = serve(https=https)
    for wrong in ({"password": "wrong"}, {"username": "other"}, {"username": "LAB\\other"}):
        with pytest.raises(InvalidCredentialsError):
            connect(endpoint, transport, **wrong).open_shell()
    for right in ("IMAGETOOL", "lab\\ImageTool", ".\\imagetool"):
        connect(endpoint, transport, username=right).open_shell()


def test_nothing_plain_goes_over_http(serve: Serve, connect: Connect) -> None:
    endpoint = serve()
    with pytest.raises(InvalidCredentialsError):
        connect(endpoint, "basic").open_shell()
    offered = requests.post(endpoint.url, timeout=5, proxies={"http": ""}).headers
    assert offered["WWW-Authenticate"] == "Negotiate, CredSSP"
    with pytest.raises(WinRMTransportError) as caught:
        connect(endpoint, "ntlm", message_encryption="never").open_shell()
    assert caught.value.code == 500
    assert endpoint.shell_count == 0


def test_a_context_is_its_connections(serve: Serve, connect: Connect) -> None:
    endpoint = serve()
    protocol = connect(endpoint)
    protocol.open_shell()
    assert protocol.transport.session is not None
    protocol.transport.session.close()
    # pywinrm makes a new handshake of its own accord, but what it sealed before is lost on it.
    with pytest.raises(WinRMTransportError) as caught:
        protocol.open_shell()
    assert caught.value.code == 400


def test_endpoints_live_side_by_side(serve: Serve, connect: Connect) -> None:
    endpoints = [serve(), serve(https=True), serve()]
    assert len({endpoint.password for endpoint in endpoints}) == 3
    for endpoint in endpoints:
        connect(endpoint).open_shell()
    endpoints[0].close()
    connect(endpoints[1]).open_shell()
    connect(endpoints[2]).open_shell()


@pytest.mark.parametrize(
    ("https", "auth"), [(False, "negotiate"), (False, "ntlm"), (True, "negotiate"), (True, "basic")]
)
def test_pypsrp_runs_a_process(
    serve: Serve,
    psrp: Callable[..., object],
    library: Callable[[str], ModuleType],
    https: bool,
    auth: str,
) -> None:
    shells = library("pypsrp.shell")
    endpoint = serve(https=https)
    with shells.WinRS(psrp(endpoint, auth), codepage=65001, idle_time_out=300) as shell:
        assert shell._get_shell()["ShellId"] == shell.id
        process = shells.Process(shell, "powershell.exe", ["-NoProfile", "-Command", "'é'; exit 4"])
        process.invoke()
        assert (process.stdout.decode(), process.rc) == ("é\n", 4)
        process.signal(shells.SignalCode.TERMINATE)
        fed = shells.Process(shell, encoded(ECHO))
        fed.begin_invoke()
        fed.send(b"one\n", end=False)
        fed.poll_invoke()
        fed.send(b"two\n" * 20_000, end=True)
        fed.end_invoke()
        assert fed.stdout.count(b"<two>\n") == 20_000
        assert fed.stdout.startswith(b"<one>\n")
        left = shells.Process(shell, encoded(ECHO))
        left.begin_invoke()
        left.signal(shells.SignalCode.CTRL_C)  # nobody has a console there
        assert len(endpoint.process_ids) == 1
        left.signal(shells.SignalCode.TERMINATE)
        assert endpoint.process_ids == []
    assert endpoint.shell_count == 0


def test_pypsrp_seals_over_https_too(
    serve: Serve, psrp: Callable[..., object], library: Callable[[str], ModuleType]
) -> None:
    shells = library("pypsrp.shell")
    with shells.WinRS(psrp(serve(https=True), "negotiate", encryption="always")) as shell:
        process = shells.Process(shell, "nothing")
        process.invoke()
        assert process.rc == 1


def test_who_is_there_is_said_to_anybody(serve: Serve) -> None:
    endpoint = serve()
    body = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
        "<s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>"
    )
    post = {"data": body, "timeout": 5, "proxies": {"http": ""}}
    answer = requests.post(endpoint.url, headers={"WSMANIDENTIFY": "unauthenticated"}, **post)
    assert answer.status_code == 200
    assert "OS: 0.0.0" in "".join(ET.fromstring(answer.text).itertext())
    assert requests.post(endpoint.url, **post).status_code == 401


def test_hundreds_of_requests_take_a_moment(serve: Serve, connect: Connect) -> None:
    protocol = connect(serve(https=True), "basic")
    shell = protocol.open_shell()
    command = protocol.run_command(shell, encoded(ECHO), console_mode_stdin=False)
    started = time.monotonic()
    for _ in range(200):
        protocol.send_command_input(shell, command, b"x")
    assert time.monotonic() - started < 4


# The command


def serving(*arguments: str, path: str | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "imagetool", "lab", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ({"PATH": path} if path is not None else {}),
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_lab_serve_says_where_and_cleans_up(engine: str, number: signal.Signals, code: int) -> None:
    path = f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}"
    with serving("--https", path=path) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert set(said) == {"url", "user", "password", "certificate"}
        certificate = Path(said["certificate"])
        assert certificate.parent.stat().st_mode & 0o777 == 0o700
        session = winrm.Session(
            said["url"], auth=(said["user"], said["password"]), transport="ssl", proxy=None,
            ca_trust_path=said["certificate"],
        )  # fmt: skip
        assert session.run_ps("2 + 3").std_out.strip() == b"5"
        process.send_signal(number)
        rest, _ = process.communicate(timeout=20)
        assert (process.returncode, rest) == (code, "")
    assert not certificate.parent.exists()


def test_lab_serve_says_what_is_wrong(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    for text, sentence in (
        ("[limits]\nmax_shells = 1\n", "there is no limit 'max_shells'"),
        ("[limits]\nmax_shells_per_user = 0\n", "max_shells_per_user is 0"),
        ("[limits]\nmax_shells_per_user = true\n", "max_shells_per_user is True"),
        ("limits = 1\n", "'limits' is no table"),
        ("[other]\n", "'other' is no table"),
        ("[", "is no TOML"),
    ):
        file.write_text(text)
        with pytest.raises(WrongUsage, match=sentence.replace("[", "\\[")):
            read_limits(file)
    file.write_text("[limits]\nidle_timeout_ms = 60000\nmax_envelope_size_kb = 150\n")
    assert read_limits(file) == Limits(idle_timeout_ms=60_000, max_envelope_size_kb=150)
    with serving("--config", str(tmp_path / "none.toml")) as process:
        _, error = process.communicate(timeout=20)
        assert process.returncode == 2
        assert "cannot be read" in error
    with Endpoint(engine=engine) as endpoint:
        port = int(endpoint.url.split(":")[2].split("/")[0])
        with pytest.raises(HostFailed, match=f"port {port}"):
            Endpoint(engine=engine, port=port)


def test_without_an_engine_there_is_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostFailed, match="there is none in PATH"):
        Endpoint()
