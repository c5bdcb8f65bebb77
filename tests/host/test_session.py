"""The real script under the real PowerShell engine."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetool import connection
from imagetool.contracts import Event
from imagetool.errors import CannotOpen, HostFailed, WrongUsage
from imagetool.host import session as session_module
from imagetool.host.answers import CmdletFailed
from imagetool.host.clixml import EnumText, dumps, loads
from imagetool.host.configuration import ConfiguredHost
from imagetool.host.frames import AnswerFrame, RequestFrame, decode_frame
from imagetool.host.local import LocalProcess, find_powershell, open_local
from imagetool.host.session import Session
from imagetool.host.transport import bootstrap_command, read_script, script_lines

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., Session]

HOSTILE = [
    "plain",
    "'single' \"double\" `backtick` ‘curly’ “quotes” „low“",
    "$(Get-Date) $env:PATH ${x} @{a=1} ; | & > <",
    "line\nfeed\r\ncarriage\ttab",
    "nul\0inside",
    "_x0041_ _x005F_ _X0041_ __x0041_",
    "é 日本語 \U0001f600 \u202e rtl",
    "x" * 10_000,
    "",
    " ",
    "</S><Obj>&amp;<![CDATA[",
]
LONE_SURROGATES = "\ud800 alone \udfff"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_comes_back_unchanged(session: Session, text: str) -> None:
    results = session.invoke("Get-VHD", Path=text, properties=("Value", "Type"))
    assert results == [{"Value": text, "Type": "System.String"}]


@pytest.mark.parametrize("page", ["850", "932", "437"])
def test_code_pages_do_not_matter(start: Start, page: str) -> None:
    with start(PWSH_CODEPAGE=page) as session:
        for text in HOSTILE:
            assert session.invoke("Get-VHD", Path=text, properties=("Value",)) == [{"Value": text}]
        found = session.operate("echo", value=LONE_SURROGATES)
        assert found == {"value": LONE_SURROGATES}


@pytest.mark.skipif(os.name == "nt", reason="Windows takes any name")
@pytest.mark.parametrize("several", [str, lambda name: [name], lambda name: ("good", name)])
def test_a_path_that_would_be_another_files_is_not_sent(
    session: Session, several: Callable[[str], object]
) -> None:
    path = several(os.fsdecode(b"t\xff.vhdx"))
    for cmdlet, parameter in (
        ("Get-VHD", "Path"),
        ("Add-WindowsPackage", "PackagePath"),
        ("Add-WindowsPackage", "ScratchDirectory"),
    ):
        with pytest.raises(CannotOpen, match="is not UTF-8"):
            session.invoke(cmdlet, **{parameter: path})
    for operation, parameter in (("list", "paths"), ("stat", "path"), ("copy", "target")):
        with pytest.raises(CannotOpen, match="is not UTF-8"):
            session.operate(operation, **{parameter: path})
    assert session.invoke("Get-VHD", Path="next", properties=("Value",)) == [{"Value": "next"}]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(1 << 63), (1 << 63) - 1)
        | st.text()
        | st.binary(max_size=50),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abc_xX0041", min_size=1), inner, max_size=4)
        ),
        max_leaves=6,
    )
)
def test_values_survive_powershells_own_serializer(session: Session, value: object) -> None:
    assert loads(dumps(value)) == value
    results = session.invoke("Get-VHD", Path={"value": value}, properties=("Value",))
    assert results == [{"Value": {"value": value}}]


def test_the_types_of_results_are_kept(session: Session) -> None:
    names = ("Style", "List", "One", "When", "Id", "Version", "Big", "Nothing", "Nested", "Missing")
    (found,) = session.invoke("Get-Disk", properties=names)
    assert found["Style"] == "ReadOnly"
    assert isinstance(found["Style"], EnumText)
    assert found["Style"].number == 1
    assert (found["List"], found["One"]) == (["a", "b"], ["a"])
    assert found["When"] == datetime(2024, 3, 5, 9, 30, tzinfo=UTC)
    assert found["Id"] == UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")
    assert found["Version"] == "6.3.9600.16384"
    assert found["Big"] == 18446744073709551615
    assert (found["Nothing"], found["Nested"], found["Missing"]) == (None, {"a": 1}, None)


def test_progress_and_warnings_come_while_the_cmdlet_runs(session: Session, tmp_path: Path) -> None:
    events: list[Event] = []

    def note(event: Event) -> None:
        events.append(event)
        if {item.kind for item in events} == {"warning", "progress"}:
            (tmp_path / "heard").touch()  # which the cmdlet waits for

    session.invoke("Test-VHD", Path=str(tmp_path / "heard"), on_event=note)
    assert (tmp_path / "heard").exists()
    assert Event("progress", "half way", 50) in events


def test_a_failure_carries_the_innermost_hresult(session: Session) -> None:
    with pytest.raises(CmdletFailed, match="not applicable") as caught:
        session.invoke("Add-WindowsPackage", Path="x")
    assert caught.value.hresult == 0x800F081E
    assert caught.value.category.startswith("InvalidData")
    assert "does not apply to this image" in caught.value.message
    assert "imagetool verify" in caught.value.hint
    with pytest.raises(CmdletFailed, match="thrown"):
        session.invoke("Get-WindowsPackage")


def test_only_listed_cmdlets_are_run(session: Session) -> None:
    for name in ("Get-Item", "Invoke-Expression", "Get-VHD; Get-Item", "& { 1 }", ""):
        with pytest.raises(CmdletFailed, match="not on the list"):
            session.invoke(name)


def test_a_cmdlet_that_the_host_lacks_is_named(session: Session) -> None:
    with pytest.raises(CmdletFailed, match="not recognized") as caught:
        session.invoke("Get-Partition")
    assert "module" in caught.value.hint, (caught.value.error_id, caught.value.category)


def test_a_request_that_was_seen_is_not_run_again(start: Start, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with start() as session:
        request = RequestFrame(700, "invoke", "Set-Disk", {"Number": str(counter)}, ("Length",))
        for _ in range(2):
            session._transport.send(request.encode())
            kinds = []
            while "end" not in kinds:
                line = session._transport.receive_line(10)
                assert line is not None
                kinds.append(AnswerFrame.decode(line).kind)
            assert kinds == ["result", "end"]
    assert counter.read_text() == "x"


def test_a_deadline_cancels_the_cmdlet_and_the_session_goes_on(start: Start) -> None:
    with start() as session:
        before = time.monotonic()
        with pytest.raises(HostFailed, match="did not answer in time"):
            session.invoke("Get-Volume", deadline=0.5)
        assert session.invoke("Get-VHD", Path="next", properties=("Value",)) == [{"Value": "next"}]
        assert time.monotonic() - before < 30


@pytest.mark.parametrize("how", ["end of input", "lease"])
def test_what_was_mounted_is_dismounted_when_the_client_is_gone(
    engine: str, modules: Path, tmp_path: Path, how: str
) -> None:
    command = bootstrap_command(1 if how == "lease" else 180)
    encoded = base64.b64encode(command.encode("utf-16-le")).decode()
    process = subprocess.Popen(
        [engine, "-NoProfile", "-EncodedCommand", encoded],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PSModulePath": str(modules)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(script_lines())
    path = tmp_path / "disk.vhdx"
    process.stdin.write(RequestFrame(1, "invoke", "Mount-VHD", {"Path": str(path)}).encode())
    process.stdin.flush()
    while decode_frame(process.stdout.readline()).get("kind") != "end":
        pass
    if how == "end of input":
        process.stdin.close()
    process.wait(timeout=20)
    assert (tmp_path / "disk.vhdx.dismounted").exists()
    process.stdout.close()
    if how == "lease":
        process.stdin.close()


def test_an_interrupted_cmdlet_is_finished_before_the_next_one(start: Start) -> None:
    with start() as session:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        with pytest.raises(KeyboardInterrupt):
            session.invoke("Get-Volume")
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        assert session.invoke("Get-VHD", Path="on", properties=("Value",)) == [{"Value": "on"}]


def test_file_operations_never_overwrite(session: Session, tmp_path: Path) -> None:
    files = session.files
    folder = tmp_path / "private 'dir' $(x) é"
    files.make_private_directory(str(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    data = os.urandom(200_000)
    target = folder / "file"
    files.upload(data, str(target))
    assert target.read_bytes() == data
    assert files.sha256(str(target)) == hashlib.sha256(data).hexdigest()
    found = files.stat(str(target))
    assert (found.exists, found.is_directory, found.size) == (True, False, 200_000)
    files.copy(str(target), str(folder / "copy"))
    for action in (
        lambda: files.upload(b"other", str(target)),
        lambda: files.copy(str(target), str(folder / "copy")),
        lambda: files.rename(str(target), str(folder / "copy")),
        lambda: files.make_directory(str(folder)),
        lambda: files.make_private_directory(str(folder)),
        lambda: files.remove_directory(str(folder)),
    ):
        with pytest.raises(CmdletFailed):
            action()
    assert sorted(item.name for item in folder.iterdir()) == ["copy", "file"]
    assert target.read_bytes() == data
    for name in ("copy", "file", "none"):
        files.delete(str(folder / name))
    files.remove_directory(str(folder))
    files.remove_directory(str(folder))
    assert not folder.exists()


def test_an_upload_that_arrives_changed_leaves_nothing(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.files, "sha256", lambda path: "0" * 64)
    with pytest.raises(HostFailed, match="arrived changed"):
        session.files.upload(b"data", str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_behind_a_link_is_not_removed(session: Session, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(CmdletFailed, match="mount point or link"):
        session.files.remove_directory(str(tmp_path / "link"))
    assert (tmp_path / "real").is_dir()


def test_the_password_is_not_in_the_childs_environment(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_PASSWORD", "a-secret-to-look-for")
    process = LocalProcess([engine], {})
    environment = Path(f"/proc/{process._process.pid}/environ").read_bytes()
    process.close()
    assert b"a-secret-to-look-for" not in environment


def test_a_program_that_is_no_powershell_is_said_to_be_none(tmp_path: Path) -> None:
    fake = tmp_path / "pwsh"
    fake.write_text("#!/bin/sh\necho banner\nread line\n", encoding="ascii")
    fake.chmod(0o755)
    with pytest.raises(HostFailed, match="no frame: b'banner"):
        open_local(str(fake))
    fake.write_text("#!/bin/sh\necho no licence >&2\nexit 3\n", encoding="ascii")
    with pytest.raises(HostFailed, match="no licence"):
        open_local(str(fake))
    with pytest.raises(HostFailed, match="cannot be started"):
        open_local(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "line", [b"", b"no base64!", b"aGVsbG8=", base64.b64encode(b"<Objs><I32>x</I32></Objs>")]
)
def test_lines_that_are_no_frames_are_refused(line: bytes) -> None:
    with pytest.raises(HostFailed):
        AnswerFrame.decode(line)


def test_windows_powershell_5_1_would_take_every_script(engine: str) -> None:
    scripts = [str(path) for path in (ROOT / "imagetool").rglob("*.ps1")]
    assert len(scripts) == 2
    done = subprocess.run(
        [engine, "-Check51", *scripts], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def converse(session: Session, data: bytes) -> list[AnswerFrame]:
    """Send lines as they are, and take the answers up to the first end."""
    session._transport.send(data)
    answers: list[AnswerFrame] = []
    while not answers or answers[-1].kind != "end":
        line = session._transport.receive_line(10)
        assert line is not None
        if line.strip():
            answers.append(AnswerFrame.decode(line))
    return answers


def test_a_request_that_broke_on_its_way_is_run_once_when_it_comes_again(
    start: Start, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    with start() as session:
        request = RequestFrame(700, "invoke", "Set-Disk", {"Number": str(counter)})
        line = request.encode()
        again = replace(request, attempt=1).encode()
        answers = converse(session, line[: len(line) // 2] + b"\n" + again)
        assert [answer.kind for answer in answers] == ["again", "result", "end"]
        answers = converse(session, replace(request, attempt=2).encode())
        assert [answer.kind for answer in answers] == ["again", "result", "end"]
        assert answers[0].content["attempt"] == 2
    assert counter.read_text() == "x"


def test_bytes_that_are_cut_short_are_not_written(start: Start, tmp_path: Path) -> None:
    target = tmp_path / "file"
    with start() as session:
        request = RequestFrame(
            700, "write", parameters={"path": str(target), "offset": 0}, data=b"abc" * 100
        )
        whole = request.encode()
        again = replace(request, attempt=1).encode()
        # A quarter less is base64 all the same.
        answers = converse(session, whole[: -len(b"abc" * 100) // 3 - 1] + b"\n" + again)
        assert [answer.kind for answer in answers] == ["again", "result", "end"]
    assert target.read_bytes() == b"abc" * 100


def test_what_was_cancelled_before_it_arrived_is_never_run(start: Start, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with start() as session:
        request = RequestFrame(700, "invoke", "Set-Disk", {"Number": str(counter)}, attempt=1)
        cancel = RequestFrame(0, "cancel", parameters={"number": 700})
        answers = converse(session, cancel.encode())
        assert [answer.kind for answer in answers] == ["error", "end"]
        answers = converse(session, request.encode())
        assert [answer.kind for answer in answers] == ["again", "error", "end"]
        assert "cancelled" in str(answers[1].content["message"])
    assert not counter.exists()


def test_a_request_of_long_ago_is_not_run_again(start: Start, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with start() as session:
        for _ in range(70):
            session.invoke("Set-Disk", Number=str(counter))
        request = RequestFrame(1, "invoke", "Set-Disk", {"Number": str(counter)}, attempt=1)
        answers = converse(session, request.encode())
        assert [answer.kind for answer in answers] == ["again", "error", "end"]
        assert answers[1].content["errorid"] == "Forgotten"
    assert counter.read_text() == "x" * 70


def test_results_that_are_kept_stand_for_their_objects(
    engine: str, modules_beside_the_lab: Path
) -> None:
    with open_local(engine, {"PSModulePath": str(modules_beside_the_lab)}) as session:
        first, second = (
            session.invoke("Get-VMHost", Name="same", keep=True, properties=("Stamp",))[0]
            for _ in range(2)
        )
        assert first["Stamp"] != second["Stamp"]
        for vm in (second, first):
            (found,) = session.invoke(
                "Enable-VMIntegrationService",
                VM=vm.reference, Name="Heartbeat", properties=("Stamp", "Same"),
            )  # fmt: skip
            assert found == {"Stamp": vm["Stamp"], "Same": True}
        assert first.reference is not None
        session.release([first.reference])
        with pytest.raises(CmdletFailed, match="no kept result"):
            session.invoke("Enable-VMIntegrationService", VM=first.reference, Name="x")


def test_errors_are_data_and_hold_no_secrets(engine: str, modules_beside_the_lab: Path) -> None:
    with open_local(engine, {"PSModulePath": str(modules_beside_the_lab)}) as session:
        events: list[Event] = []
        with pytest.raises(CmdletFailed) as caught:
            session.invoke("Get-VMIntegrationService", on_event=events.append)
        assert [event.text for event in events] == ["first", "second"]
        assert caught.value.host_message == "one"
        assert [error.host_message for error in caught.value.other_errors] == ["two"]
        with pytest.raises(CmdletFailed) as refused:
            session.invoke(
                "Get-VMIntegrationService", Credential="4711", ApiKey="4711", Name="x" * 1000
            )
        shown = refused.value.parameters
        assert shown["Credential"] == shown["ApiKey"] == "(hidden)"
        assert len(shown["Name"]) < 300
        assert "4711" not in f"{refused.value}{refused.value.hint}{shown}"


def test_what_is_committed_stays_mounted(start: Start, tmp_path: Path) -> None:
    with start() as session:
        session.invoke("Mount-VHD", Path=str(tmp_path / "committed"))
        session.keep_mounts()
        session.invoke("Mount-VHD", Path=str(tmp_path / "other"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.dismounted"]


def test_names_in_a_directory_of_the_host(session: Session, tmp_path: Path) -> None:
    names = ("a.vhdx", "[x].vhdx", ".hidden.vhdx", "é $(x) `'.vhdx", "a\ufffeb.vhdx")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    assert session.files.list_names(str(tmp_path)) == sorted([*names, "sub"])
    assert session.files.list_names(str(tmp_path / "none")) == []


def test_a_private_directory_goes_with_the_session(start: Start) -> None:
    with start() as session:
        folder = Path(session.files.temporary_directory())
        assert folder == Path(session.files.temporary_directory())
        assert folder.stat().st_mode & 0o777 == 0o700
        shown: list[tuple[int, int]] = []
        data = os.urandom(2_500_000)
        session.files.upload(data, str(folder / "file"), lambda *item: shown.append(item))
        assert (folder / "file").read_bytes() == data
        assert shown[-1] == (len(data), len(data))
        assert len(shown) == 3
    assert not folder.exists()


def test_the_lease_is_heard_while_a_file_is_hashed(engine: str, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(2 << 30)
    command = base64.b64encode(bootstrap_command(1).encode("utf-16-le")).decode()
    process = subprocess.Popen(
        [engine, "-NoProfile", "-EncodedCommand", command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(
        script_lines() + RequestFrame(1, "sha256", parameters={"path": str(large)}).encode()
    )
    process.stdin.flush()
    kinds, renewals = [], 0
    while not kinds or kinds[-1] != "end":
        answer = AnswerFrame.decode(process.stdout.readline())
        if answer.kind != "hello":
            kinds.append(answer.kind)
        if answer.kind == "progress":
            process.stdin.write(RequestFrame(0, "renew").encode())
            process.stdin.flush()
            renewals += 1
    # It still listens: the work took longer than the lease, and was not its end.
    process.stdin.write(RequestFrame(2, "stat", parameters={"path": str(large)}).encode())
    process.stdin.flush()
    assert AnswerFrame.decode(process.stdout.readline()).kind == "result"
    assert renewals > 10
    process.stdin.close()
    process.wait(timeout=20)
    process.stdout.close()


def test_an_upload_overwrites_nothing_and_goes_with_the_temporary_directory(start: Start) -> None:
    with start() as session:
        path = str(Path(session.files.temporary_directory(), "package é.cab"))
        session.files.upload(b"data", path)
        assert Path(path).read_bytes() == b"data"
        with pytest.raises(CmdletFailed):
            session.files.upload(b"other", path)
        assert Path(path).read_bytes() == b"data"
    assert not Path(path).exists()


def test_what_xml_has_no_form_for_comes_back_all_the_same(session: Session) -> None:
    text = "a\ufffe\uffff_xFFFE_ \U0001ffff b"
    assert session.invoke("Get-VHD", Path=text, properties=("Value",)) == [{"Value": text}]
    nested = {"k\uffff": [text, {"x": [text]}], "n": 1}
    assert session.operate("echo", value=nested) == {"value": nested}


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_values_within_values_come_back(session: Session) -> None:
    assert session.operate("echo", value=nested(20)) == {"value": nested(20)}


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**63) - 1,
        object(),
        {1, 2},
        1j,
        nested(30),
        nested(2000),
    ],
    ids=range(7),
)
def test_what_cannot_be_sent_is_refused_at_once(session: Session, value: object) -> None:
    with pytest.raises(WrongUsage, match="cannot be sent"):
        session.invoke("Get-VHD", Path=value)
    assert session.invoke("Get-VHD", Path="next", properties=("Value",)) == [{"Value": "next"}]


def test_a_parameter_that_cannot_be_bound_is_an_error_and_no_end(session: Session) -> None:
    with pytest.raises(CmdletFailed):
        session.invoke("Get-VHD", **{"": "x"})
    with pytest.raises(CmdletFailed):
        session.operate("stat")
    session._transport.send(RequestFrame(0, "cancel").encode())
    for value in (float("inf"), float("-inf"), 1.5):
        assert session.operate("echo", value=value) == {"value": value}


def test_a_session_may_be_used_from_several_threads(session: Session) -> None:
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            for turn in range(20):
                text = f"{number} {turn}"
                found = session.invoke("Get-VHD", Path=text, properties=("Value",))
                assert found == [{"Value": text}]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_a_session_that_is_closed_says_so(start: Start) -> None:
    session = start()
    session.close()
    with pytest.raises(HostFailed, match="the session is closed"):
        session.files.stat("/")


def test_an_upload_says_why_it_failed(session: Session, tmp_path: Path) -> None:
    with pytest.raises(CmdletFailed, match="write failed"):
        session.files.upload(b"x", str(tmp_path / "none/file"))


@pytest.mark.parametrize("entry", ["", ".", "bin", os.pathsep])
def test_no_powershell_of_the_current_directory_is_started(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "bin", tmp_path / "System32/WindowsPowerShell/v1.0"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("powershell.exe", "pwsh", "pwsh.exe", "powershell"):
            (folder / name).touch(0o755)
    monkeypatch.setenv("PATH", entry)
    monkeypatch.delenv("SystemRoot", raising=False)
    for windows in (False, True):
        assert find_powershell(windows=windows) is None
        monkeypatch.setenv("SystemRoot", ".")
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", os.pathsep.join([entry, str(folder)]))
    assert find_powershell(windows=False) == str(folder / "powershell.exe")
    assert find_powershell(windows=True) == str(folder / "pwsh.exe")
    monkeypatch.setenv("SystemRoot", str(tmp_path))
    own = tmp_path / "System32/WindowsPowerShell/v1.0/powershell.exe"
    assert find_powershell(windows=True) == str(own)


def test_windows_powershell_does_not_inherit_the_modules_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PowerShell 7 sets PSModulePath, and Windows PowerShell would load what it finds there."""
    monkeypatch.setenv("PSModulePath", "of another")
    for name, inherited in (("powershell.exe", ""), ("pwsh", "of another")):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nprintf "imagetool 5.1 [%s]\\n" "$PSModulePath"\n')
        program.chmod(0o755)
        for own in ({}, {"PSModulePath": "own"}):
            transport = LocalProcess([str(program)], own)
            try:
                line = transport.receive_line(5.0)
            finally:
                transport.close()
            assert line == f"imagetool 5.1 [{own.get('PSModulePath', inherited)}]\n".encode()


def test_the_lease_is_renewed_often_while_a_cmdlet_runs(
    engine: str, modules_beside_the_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that arrives frees a child process that waits for the script's standard input."""
    monkeypatch.setattr(session_module, "_CMDLET_RENEW_INTERVAL", 0.05)
    with open_local(engine, {"PSModulePath": str(modules_beside_the_lab)}) as session:
        sent: list[str] = []
        send = session._transport.send

        def noted(data: bytes) -> None:
            sent.append(str(decode_frame(data.splitlines()[0])["operation"]))
            send(data)

        monkeypatch.setattr(session._transport, "send", noted)
        session.invoke("Get-VMHost", Name=1)
        assert sent[0] == "invoke"
        assert sent[1:] == ["renew"] * (len(sent) - 1)
        assert len(sent) > 3
        sent.clear()
        session.operate("sha256", path=str(modules_beside_the_lab / "Beside" / "Beside.psm1"))
        threading.Event().wait(0.3)
        assert sent == ["sha256"]


def test_another_dism_than_that_of_the_host_is_used(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "Dism.psm1"
    module.write_text(
        "function Get-WindowsPackage { [pscustomobject]@{ PackageName = 'of the other' } }\n"
    )
    opened: list[Session] = []

    def open_it(host: ConfiguredHost) -> Session:
        opened.append(start())
        return opened[-1]

    monkeypatch.setattr(connection, "_open_winrm", open_it)
    host = ConfiguredHost("hv01", "https://hv01:5986/wsman", dism_module=str(module))
    with connection.servicing_opener(host)() as session:
        (found,) = session.invoke("Get-WindowsPackage", properties=("PackageName",))
        assert found == {"PackageName": "of the other"}
    with pytest.raises(HostFailed, match=r"none\.psm1 cannot be imported there"):
        connection.servicing_opener(replace(host, dism_module=str(tmp_path / "none.psm1")))()
    with pytest.raises(HostFailed, match="closed"):
        opened[-1].operate("facts")
    plain = connection.servicing_opener(replace(host, dism_module=""))
    with plain() as session, pytest.raises(CmdletFailed, match="thrown"):
        session.invoke("Get-WindowsPackage")


def test_each_fact_is_asked_on_its_own(engine: str) -> None:
    """One that cannot be had hides no other: under Wine the claims of an identity throw."""
    script = read_script().decode()
    broken = script.replace("[Environment]::UserDomainName", "[Nothing]::UserDomainName")
    broken = broken.replace("[IO.Path]::GetTempPath() }", "throw 'no' }")
    assert broken != script
    lines = f"{broken.rstrip()}\n#end of the script\n".encode("ascii")
    command = base64.b64encode(bootstrap_command(60).encode("utf-16-le")).decode()
    done = subprocess.run(
        [engine, "-NoProfile", "-EncodedCommand", command],
        input=lines + RequestFrame(1, "facts").encode(), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    facts = AnswerFrame.decode(done.stdout.splitlines()[1]).content["properties"]
    assert isinstance(facts, dict)
    assert (facts["domain"], facts["temporary"]) == (None, None)
    assert facts["computer"]
    assert facts["now"]
