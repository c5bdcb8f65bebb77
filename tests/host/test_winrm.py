"""The real script in the real engine behind a real WinRM endpoint, asked through pywinrm."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from imagetool.contracts import Event
from imagetool.errors import HostFailed, WrongUsage
from imagetool.host import session as session_module
from imagetool.host.answers import CmdletFailed
from imagetool.host.configuration import ConfiguredHost
from imagetool.host.configuration.credentials import Credentials
from imagetool.host.frames import decode_bytes, decode_frame
from imagetool.host.session import Session
from imagetool.host.transport import bootstrap_command, read_script, startup_error
from imagetool.host.winrm import open_winrm
from imagetool.host.winrm import shell as winrm_module
from imagetool.host.winrm.wsman import WSManConnection
from imagetool.lab.winrm import Endpoint, FaultInjector, Limits
from tests.host.test_session import HOSTILE
from tests.waiting import until

Connect = Callable[..., Session]


def host_of(endpoint: Endpoint, **changes: Any) -> ConfiguredHost:
    known: dict[str, Any] = {
        "name": "hv01",
        "url": endpoint.url,
        "transport": "ntlm",
        "certificate": str(endpoint.certificate or ""),
    }
    return ConfiguredHost(**(known | changes))


@pytest.fixture
def serve(
    engine: str, modules_beside_the_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Starts endpoints whose engine finds the functions of conftest.py beside the lab's cmdlets."""
    monkeypatch.setenv("PSModulePath", str(modules_beside_the_lab))
    monkeypatch.delenv("IMAGETOOL_LAB_FAULTS", raising=False)
    monkeypatch.setattr(winrm_module, "_RECEIVE_MARGIN", 0.2)  # the network takes no time here
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Endpoint(engine=engine, **options))


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def open_it(endpoint: Endpoint, **changes: Any) -> Session:
            credentials = Credentials(endpoint.user, endpoint.password)
            session = open_winrm(host_of(endpoint, **changes), lambda: credentials)
            return stack.enter_context(session)

        yield open_it


def nothing_is_left(endpoint: Endpoint) -> bool:
    return (
        not endpoint.shell_count and not endpoint.process_ids and not endpoint.emulated_host.disks
    )


def running(endpoint: Endpoint) -> list[int]:
    """The processes that still run: one whose last words nobody has received is a zombie."""

    def runs(process: int) -> bool:
        try:
            stat = Path(f"/proc/{process}/stat").read_text("ascii")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"

    return [process for process in endpoint.process_ids if runs(process)]


@pytest.mark.parametrize(
    ("https", "kind"), [(False, "ntlm"), (True, "basic"), (True, "ntlm")], ids=str
)
def test_a_whole_conversation(
    serve: Any, connect: Connect, tmp_path: Path, https: bool, kind: str
) -> None:
    endpoint = serve(https=https)
    session = connect(endpoint, transport=kind)
    assert session.hello["language"] == "FullLanguage"
    assert {"Hyper-V", "Dism", "Storage"} <= set(session.hello["modules"])  # type: ignore[call-overload]
    for text in HOSTILE:
        assert session.invoke("Get-VMHost", Name=text, properties=("Value",)) == [{"Value": text}]
    events: list[Event] = []
    with pytest.raises(CmdletFailed, match="one") as caught:
        session.invoke("Get-VMIntegrationService", on_event=events.append)
    assert [item.host_message for item in caught.value.other_errors] == ["two"]
    assert [event.text for event in events] == ["first", "second"]
    with pytest.raises(CmdletFailed) as missing:
        session.invoke("Get-VHD", Path="/nowhere")
    assert missing.value.hresult == 0x80070002
    rows = session.invoke("Get-VMHost", Name="2000 results", properties=("Text", "Number"))
    assert [row["Number"] for row in rows] == list(range(2000))
    assert {row["Text"] for row in rows} == {"x" * 1000}
    data = os.urandom(3_000_000)
    folder = session.files.temporary_directory()
    session.files.upload(data, f"{folder}/file")
    assert Path(folder, "file").read_bytes() == data
    (vm,) = session.invoke("Get-VMHost", Name="one", keep=True, properties=("Stamp",))
    (found,) = session.invoke(
        "Enable-VMIntegrationService", VM=vm.reference, Name="x", properties=("Stamp",)
    )
    assert found["Stamp"] == vm["Stamp"]
    session.close()
    assert nothing_is_left(endpoint)
    assert not Path(folder).exists()


def test_how_many_round_trips_a_session_and_a_request_take(serve: Any, connect: Connect) -> None:
    endpoint = serve()
    session = connect(endpoint)
    started = [item.action for item in endpoint.served_requests]
    assert started.count("Create") == started.count("Command") == 1
    assert len(started) <= 7, started  # one of them sends the script
    session.invoke("Get-VMHost", Name="warm", properties=("Value",))
    before = len(endpoint.served_requests)
    session.invoke("Get-VMHost", Name="x", properties=("Value",))
    assert len(endpoint.served_requests) - before <= 3


MESSAGES = 22  # more than the conversation below has


@pytest.mark.parametrize("number", range(1, MESSAGES + 1))
@pytest.mark.parametrize("how", ["drop_before", "drop_after", "drop_within"])
def test_a_connection_that_breaks_at_any_message_is_made_anew(
    serve: Any, connect: Connect, tmp_path: Path, how: str, number: int, template: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(winrm_module, "LEASE_SECONDS", 8)  # PowerShell must have started by then
    monkeypatch.setattr(session_module, "_POLL_INTERVAL", 0.5)
    monkeypatch.setattr("imagetool.host.winrm.wsman.IDLE_TIMEOUT", 3)
    counter = tmp_path / "counter"
    faults = FaultInjector()
    getattr(faults, how)(number)
    endpoint = serve(faults=faults)
    session = connect(endpoint)
    assert session.invoke("Disable-VMIntegrationService", Name=str(counter)) == [{}]
    assert session.invoke("Get-VMHost", Name="é", properties=("Value",)) == [{"Value": "é"}]
    rows = session.invoke("Get-VMHost", Name="300 results", properties=("Text", "Number"))
    assert [row["Number"] for row in rows] == list(range(300))
    session.invoke("Mount-VHD", Path=str(template), NoDriveLetter=True, ReadOnly=True)
    folder = session.files.temporary_directory()
    session.files.upload(b"x" * 300_000, f"{folder}/file")
    assert Path(folder, "file").read_bytes() == b"x" * 300_000
    session.close()
    assert counter.read_text() == "x"
    assert until(lambda: nothing_is_left(endpoint)), (endpoint.shell_count, endpoint.process_ids)
    if not faults.pending:
        # A shell is given up only where its making, or its deletion, was not confirmed.
        created = [item.action for item in endpoint.served_requests].count("Create")
        assert created <= 2
    gc.collect()


def test_input_that_was_taken_is_not_taken_twice(
    serve: Any, connect: Connect, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    endpoint = serve()
    session = connect(endpoint)
    endpoint.faults.send_times_out().send_busy(3)
    for _ in range(3):
        session.invoke("Disable-VMIntegrationService", Name=str(counter))
    assert counter.read_text() == "xxx"
    assert endpoint.faults.pending == 0
    endpoint.faults.delay(1.5, action="Receive").delay(1.0, action="Send")
    assert session.invoke("Get-VMHost", Name="late", properties=("Value",)) == [{"Value": "late"}]


def test_a_killed_process_is_said_and_leaves_nothing(serve: Any, connect: Connect) -> None:
    endpoint = serve()
    session = connect(endpoint)
    endpoint.faults.kill(action="Receive")
    with pytest.raises(HostFailed, match="hv01: PowerShell ended there"):
        session.invoke("Get-VMHost", Name=5)
    session.close()
    assert until(lambda: nothing_is_left(endpoint))


def test_a_deadline_and_an_interruption_end_the_cmdlet_and_the_session_goes_on(
    serve: Any, connect: Connect
) -> None:
    session = connect(serve())
    with pytest.raises(HostFailed, match="did not answer in time"):
        session.invoke("Get-VMHost", Name=60, deadline=1.0)
    assert session.invoke("Get-VMHost", Name="a", properties=("Value",)) == [{"Value": "a"}]
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.6)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.invoke("Get-VMHost", Name=60)
    signal.signal(signal.SIGALRM, before)
    assert session.invoke("Get-VMHost", Name="b", properties=("Value",)) == [{"Value": "b"}]
    assert time.monotonic() - begun < 20


def test_an_answer_that_is_lost_unseen_is_asked_for_again(
    serve: Any, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_SILENCE_TIMEOUT", 0.5)
    monkeypatch.setattr(session_module, "_POLL_INTERVAL", 0.5)
    counter = tmp_path / "counter"
    session = connect(serve())
    receive, lost = session._transport.receive_line, [2]

    def lossy(timeout: float) -> bytes | None:
        line = receive(timeout)
        if line is not None and lost[0]:
            lost[0] -= 1
            return None
        return line

    session._transport.receive_line = lossy  # type: ignore[method-assign]
    assert session.invoke("Disable-VMIntegrationService", Name=str(counter)) == [{}]
    assert counter.read_text() == "x"
    # A cmdlet that is silent for longer than that is still one cmdlet.
    assert session.invoke("Get-VMHost", Name=2, properties=("Value",)) == [{"Value": 2}]


def renewed(endpoint: Endpoint, times: int) -> Callable[[], bool]:
    """True when so many more messages were sent than until now; nothing but renewals may be."""

    def sent() -> int:
        return sum(
            item.action == "Send" and item.status == 200 for item in endpoint.served_requests
        )

    before = sent()
    return lambda: sent() >= before + times


def test_the_lease_is_renewed_while_a_cmdlet_runs_and_while_nothing_is_asked(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winrm_module, "LEASE_SECONDS", 1)
    monkeypatch.setattr(session_module, "_RENEW_INTERVAL", 0.25)
    monkeypatch.setattr(
        session_module, "_POLL_INTERVAL", 0.25
    )  # one Receive may not outlast the lease
    endpoint = serve()
    session = connect(endpoint)
    assert session.invoke("Get-VMHost", Name=2, properties=("Value",)) == [{"Value": 2}]
    assert until(renewed(endpoint, 8))  # which takes twice as long as the lease
    assert session.invoke("Get-VMHost", Name="on", properties=("Value",)) == [{"Value": "on"}]


def test_a_renewal_never_comes_within_what_is_sent(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_RENEW_INTERVAL", 0.001)
    monkeypatch.setattr(session_module, "_SILENCE_TIMEOUT", 1.0)
    session = connect(serve())
    send, sent = session._transport._send, []  # type: ignore[attr-defined]

    def recorded(data: bytes, end: bool = False) -> None:
        sent.append(data)
        send(data, end)

    session._transport._send = recorded  # type: ignore[attr-defined]
    folder = session.files.temporary_directory()
    session.files.upload(os.urandom(3_000_000), f"{folder}/file")
    renewals = 0
    for line in b"".join(list(sent)).splitlines():
        if line.startswith(b":"):
            decode_bytes(line)
        elif line:
            renewals += decode_frame(line)["operation"] == "renew"
    assert renewals


def test_a_lease_is_renewed_over_a_new_connection_too(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winrm_module, "LEASE_SECONDS", 1)
    monkeypatch.setattr(session_module, "_RENEW_INTERVAL", 0.25)
    endpoint = serve()
    session = connect(endpoint)
    endpoint.faults.drop_before(action="Send").drop_after(3, action="Send")
    assert until(lambda: endpoint.faults.pending == 0)
    assert until(renewed(endpoint, 8))
    assert session.invoke("Get-VMHost", Name="on", properties=("Value",)) == [{"Value": "on"}]


def test_a_host_that_stays_away_is_given_up_and_not_waited_for_again(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session_module, "_RECONNECT_PAUSES", (0.0, 0.1, 0.1))
    endpoint = serve()
    session = connect(endpoint)
    endpoint.close()
    with pytest.raises(HostFailed, match="could not be made again") as caught:
        session.invoke("Get-VMHost", Name="x")
    assert "lease" in caught.value.hint
    begun = time.monotonic()
    session.close()
    assert time.monotonic() - begun < 10
    assert "may still hold a shell" in caplog.text


@pytest.mark.parametrize("reading", [True, False], ids=["idle", "unread answer"])
def test_a_client_that_is_gone_leaves_no_mount(
    serve: Any, template: Path, tmp_path: Path, reading: bool
) -> None:
    endpoint = serve()
    ask = "" if reading else "session._transport.send(request.encode())"
    program = f"""
import os, sys
from imagetool.host.winrm import shell as winrm
from imagetool.host.configuration import ConfiguredHost
from imagetool.host.configuration.credentials import Credentials
from imagetool.host.frames import RequestFrame
winrm.LEASE_SECONDS = 2
session = winrm.open_winrm(ConfiguredHost(name="hv01", url={endpoint.url!r}, transport="ntlm"),
    lambda: Credentials({endpoint.user!r}, sys.stdin.readline().strip()))
session.invoke("Mount-VHD", Path={str(template)!r}, NoDriveLetter=True, ReadOnly=True)
request = RequestFrame(50, "invoke", "Get-VMHost", {{"Name": "9000 results"}}, ("Text",))
{ask}
os._exit(9)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=endpoint.password + "\n", text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 9
    assert endpoint.emulated_host.disks
    assert until(lambda: not endpoint.emulated_host.disks and not running(endpoint))


# What goes wrong is told apart


@pytest.mark.parametrize(
    ("https", "changes", "message"),
    [
        (False, {"transport": "basic"}, "basic authentication over plain http is refused"),
        (True, {"certificate": ""}, "certificate is not trusted"),
        (False, {"url": "http://127.0.0.1:1/wsman"}, "nothing listens"),
        (False, {"url": "http://no-such-host.invalid:5985/wsman"}, "no host of that name"),
        (False, {"url": "https"}, "there is no TLS at"),
        (True, {"url": "http"}, "broke before the host answered|HTTP 400"),
        (True, {"url": "/elsewhere"}, "no WinRM at"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_way_not_to_get_there_has_its_sentence(
    serve: Any, connect: Connect, https: bool, changes: dict[str, Any], message: str
) -> None:
    endpoint = serve(https=https)
    url = changes.get("url", "")
    if url in ("http", "https"):
        changes = {**changes, "url": f"{url}:{endpoint.url.partition(':')[2]}"}
    elif url.startswith("/"):
        changes = {**changes, "url": endpoint.url.replace("/wsman", url)}
    with pytest.raises(HostFailed, match=message) as caught:
        connect(endpoint, **changes).invoke("Get-VMHost")
    assert caught.value.message.startswith("hv01: ")
    assert nothing_is_left(endpoint)


def test_a_library_that_is_not_installed_is_named(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winrm.transport.HAVE_CREDSSP", False)
    with pytest.raises(HostFailed, match="requests-credssp is not installed") as caught:
        connect(serve(), transport="credssp")
    assert "imagetool[credssp]" in caught.value.hint


@pytest.mark.parametrize(
    "kind", ["application/soap+xml;charset=UTF-8", 'multipart/encrypted;protocol="none"']
)
def test_plain_text_is_taken_for_no_sealed_answer(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(
        "imagetool.lab.winrm.encryption.seal", lambda context, protocol, message: (kind, message)
    )
    with pytest.raises(HostFailed, match="came back in plain text"):
        connect(serve())


def test_a_wrong_password_and_a_lack_of_rights_are_told_apart(serve: Any) -> None:
    for https, kind in ((False, "ntlm"), (True, "ntlm"), (True, "basic")):
        endpoint = serve(https=https)
        host = host_of(endpoint, transport=kind)
        with pytest.raises(HostFailed, match="refuses the account") as caught:
            open_winrm(host, lambda: Credentials("imagetool", "not-the-password-4711"))
        assert "not-the-password-4711" not in f"{caught.value} {caught.value.hint}"
        for status in (500, 403):
            endpoint.faults.deny_create(status=status)
            with pytest.raises(HostFailed, match="refuses this account"):
                open_winrm(host, lambda e=endpoint: Credentials(e.user, e.password))


def test_too_many_shells_are_said(serve: Any, connect: Connect) -> None:
    endpoint = serve(limits=Limits(max_shells_per_user=1))
    connect(endpoint)
    with pytest.raises(HostFailed, match=r"hv01: .*0x803381A5"):
        connect(endpoint)


def test_a_shell_that_is_gone_is_said(serve: Any, connect: Connect) -> None:
    endpoint = serve()
    session = connect(endpoint)
    endpoint._shells.close()
    with pytest.raises(HostFailed, match="the shell there is gone"):
        session.invoke("Get-VMHost", Name="x")


def fake_engine(folder: Path, said: str = "", complaint: str = "") -> str:
    program = folder / "pwsh"
    (folder / "said").write_text(said, "utf-8")
    (folder / "complaint").write_text(complaint, "utf-8")
    program.write_text(
        f"#!/bin/sh\ncat '{folder}/said'\ncat '{folder}/complaint' >&2\nexit 1\n", encoding="utf-8"
    )
    program.chmod(0o755)
    return str(program)


BLOCKED = (
    '#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
    '<Obj S="progress" RefId="0"><MS><PR N="Record"><AV>Preparing modules</AV></PR></MS></Obj>'
    '<S S="Error">At line:1 char:1_x000D__x000A_</S><S S="Error">This script contains malicious '
    'content and has been blocked._x000D__x000A_</S><S S="Error">    + FullyQualifiedErrorId : '
    "ScriptContainedMaliciousContent_x000D__x000A_</S></Objs>"
)


def test_restricted_language_and_antimalware_are_said(tmp_path: Path, connect: Connect) -> None:
    restricted = fake_engine(tmp_path, "imagetool 5.1.14393.0 ConstrainedLanguage\r\n")
    with Endpoint(engine=restricted) as endpoint:
        with pytest.raises(
            HostFailed, match=r"5\.1\.14393\.0 runs in ConstrainedLanguage"
        ) as caught:
            connect(endpoint)
        assert "script =" in caught.value.hint
    with (
        Endpoint(engine=fake_engine(tmp_path, "", BLOCKED)) as endpoint,
        pytest.raises(HostFailed, match="antimalware there refused"),
    ):
        connect(endpoint)
    other = BLOCKED.replace("alicious", "a<b").replace("a<b", "&lt;odd&gt;")
    with Endpoint(engine=fake_engine(tmp_path, "", other)) as endpoint:
        with pytest.raises(HostFailed, match="ended there") as caught:
            connect(endpoint)
        assert "CLIXML" not in caught.value.message
        assert "_x000D_" not in caught.value.message


def test_the_bootstrap_says_that_the_language_is_restricted(engine: str) -> None:
    command = "$ExecutionContext.SessionState.LanguageMode = 'ConstrainedLanguage'; "
    done = subprocess.run(
        [engine, "-NoProfile", "-Command", command + bootstrap_command(180)],
        input="", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split()[0::2] == ["imagetool", "ConstrainedLanguage"]


OLD = "$old = @{PSVersion = [version] '4.0'}; "


@pytest.mark.parametrize("command", [bootstrap_command(180), winrm_module._HASH_COMMAND])
def test_a_powershell_that_is_too_old_says_so(engine: str, command: str) -> None:
    """That of Windows Server 2012 R2 as it ships; its version is put into the real command."""
    done = subprocess.run(
        [engine, "-NoProfile", "-Command", OLD + command.replace("$PSVersionTable", "$old")],
        input="", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["imagetool", "4.0", "FullLanguage"]
    error = startup_error(done.stdout.encode(), "hv01")
    assert error is not None
    assert error.message == "hv01: PowerShell 4.0 there is too old: the session's script needs 5.1"
    assert "WMF 5.1" in error.hint


def test_a_host_with_an_old_powershell_is_refused(tmp_path: Path, connect: Connect) -> None:
    old = fake_engine(tmp_path, "imagetool 4.0 FullLanguage\r\n")
    for script in ("", "C:\\imagetool\\session.ps1"):
        with (
            Endpoint(engine=old) as endpoint,
            pytest.raises(HostFailed, match=r"PowerShell 4\.0 there is too old"),
        ):
            connect(endpoint, script=script)


WORDS_OF_POWERSHELL_2 = {
    "BinaryExpressionAst", "CommandExpressionAst", "ConvertExpressionAst", "MemberExpressionAst",
    "PipelineAst", "ReturnStatementAst", "ScriptBlockAst", "NamedBlockAst", "StatementBlockAst",
    "StringConstantExpressionAst", "TypeConstraintAst", "VariableExpressionAst", "IfStatementAst",
    "ConstantExpressionAst",
}  # fmt: skip
"""What the first statement may be made of: no calls of methods, and no types but [string]."""


@pytest.mark.parametrize("command", [bootstrap_command(180), winrm_module._HASH_COMMAND])
def test_the_first_statement_needs_powershell_2_alone(engine: str, command: str) -> None:
    script = """
        $parser = [Management.Automation.Language.Parser]
        $tree = $parser::ParseInput($env:COMMAND, [ref] $null, [ref] $null)
        $first = $tree.EndBlock.Statements[0]
        foreach ($part in $first.FindAll({ $true }, $true)) {
            $part.GetType().Name + ' ' + [string] $part.TypeName + [string] $part.Operator
        }
    """
    done = subprocess.run(
        [engine, "-NoProfile", "-NonInteractive", "-Command", script],
        env=os.environ | {"COMMAND": command}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [line.split() for line in done.stdout.splitlines()]
    assert found[0][0] == "IfStatementAst"
    assert {parts[0] for parts in found} <= WORDS_OF_POWERSHELL_2
    assert {part for parts in found for part in parts[1:]} <= {
        "string", "Multiply", "Plus", "Ilt", "Ine", "Or"
    }  # fmt: skip


def test_powershell_is_started_by_its_whole_path(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bare name would be looked for in the directory of the shell, and there first."""
    started: list[str] = []
    run = WSManConnection.run

    def noted(self: WSManConnection, shell: str, program: str, arguments: Sequence[str]) -> str:
        started.append(program)
        return run(self, shell, program, arguments)

    monkeypatch.setattr(WSManConnection, "run", noted)
    (tmp_path / "session.ps1").write_bytes(read_script())
    connect(serve()).close()
    connect(serve(), script=str(tmp_path / "session.ps1")).close()
    own = "%SystemRoot%\\System32\\WindowsPowerShell\\v1.0\\powershell.exe"
    assert started == [own] * 3  # the last two: for the hash of the script, and for itself


def test_a_script_that_lies_on_the_host_is_compared_and_run(
    serve: Any, connect: Connect, tmp_path: Path
) -> None:
    installed = tmp_path / "with space é 'quoted' $(x).ps1"
    installed.write_bytes(read_script())
    endpoint = serve()
    session = connect(endpoint, script=str(installed))
    assert session.invoke("Get-VMHost", Name="x", properties=("Value",)) == [{"Value": "x"}]
    assert "Send" not in [item.action for item in endpoint.served_requests][:8]
    session.close()
    assert nothing_is_left(endpoint)
    changed = read_script() + b"# changed\n"
    installed.write_bytes(changed)
    with pytest.raises(HostFailed, match=r"is not this version's session\.ps1"):
        connect(endpoint, script=str(installed))
    import hashlib

    session = connect(
        endpoint, script=str(installed), script_sha256=hashlib.sha256(changed).hexdigest().upper()
    )
    session.close()
    with pytest.raises(HostFailed, match=r"none\.ps1"):
        connect(endpoint, script=str(tmp_path / "none.ps1"))
    with pytest.raises(WrongUsage, match="cannot be named"):
        connect(endpoint, script='C:\\a" & calc.exe & ".ps1')
    assert nothing_is_left(endpoint)


def test_a_shell_that_cannot_be_deleted_is_mentioned(
    serve: Any, connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagetool.host.winrm.wsman.IDLE_TIMEOUT", 2)
    endpoint = serve()
    session = connect(endpoint)
    endpoint.faults.drop_before(action="Delete").drop_before(action="Delete")
    with caplog.at_level(logging.WARNING):
        session.close()
    assert "may still hold a shell" in caplog.text
    assert until(lambda: nothing_is_left(endpoint))


def test_no_thread_and_no_socket_is_left(serve: Any, connect: Connect) -> None:
    endpoint = serve()
    before = threading.active_count()
    for _ in range(3):
        connect(endpoint).close()
    assert until(lambda: threading.active_count() <= before + 2)


def test_the_password_is_nowhere_to_be_read(
    serve: Any, connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve()
    monkeypatch.setenv("IMAGETOOL_PASSWORD", endpoint.password)
    secret = endpoint.password
    with caplog.at_level(logging.DEBUG):
        session = connect(endpoint)
        for process in endpoint.process_ids:
            assert secret.encode() not in Path(f"/proc/{process}/environ").read_bytes()
        with pytest.raises(CmdletFailed) as caught:
            session.invoke("Get-VHD", Path="/nowhere", Password=secret)
        endpoint.faults.kill(action="Send")
        with pytest.raises(HostFailed) as killed:
            session.invoke("Get-VMHost", Name="x")
        session.close()
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(secret.encode() in line for line in lines)
    shown = [caplog.text, repr(Credentials("u", secret)), str(killed.value), killed.value.hint]
    shown += [str(caught.value), caught.value.hint, repr(caught.value.parameters)]
    assert not any(secret in text for text in shown)
