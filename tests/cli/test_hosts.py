"""Hosts from a shell: host check, which host is meant, and that no password is ever shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from imagetool import connection
from imagetool.errors import WrongUsage
from imagetool.host.configuration.address import ConfiguredHost
from imagetool.host.configuration.credentials import Credentials
from imagetool.host.winrm import shell as winrm
from imagetool.lab.winrm import Endpoint
from tests.program import command_line, refused, run
from tests.waiting import until

SECRET = "a-secret-to-look-for"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.touch()
    monkeypatch.setenv("IMAGETOOL_CONFIG", str(config))
    for name in ("IMAGETOOL_USER", "IMAGETOOL_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    connection._credentials.cache_clear()


@pytest.fixture
def endpoint(engine: str) -> Iterator[Endpoint]:
    with Endpoint(https=True, engine=engine) as opened:
        yield opened


def test_the_lab_is_checked(lab_engine: str, template: Path) -> None:
    done = run("host", "check", "lab", "--path", template)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok    path" in done.stdout
    data = json.loads(run("host", "check", "lab", "--self-test", "--format", "json").stdout)
    assert data["schema"] == "imagetool/host-check/1"
    assert (data["host"], data["url"], data["usable"]) == ("lab", None, True)
    assert {"name", "state", "found", "advice"} == set(data["facts"][0])
    assert any(row["name"] == "upload" for row in data["self_test"])
    assert run("host", "check", "lab", "--path", "/none/t.vhdx").returncode == 4


def test_a_host_over_winrm_is_checked_and_its_password_goes_nowhere(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(
        f"[hosts.labhost]\nurl = '{endpoint.url}'\nuser = '{endpoint.user}'\n"
        f"certificate = '{endpoint.certificate}'\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("IMAGETOOL_PASSWORD", endpoint.password)
    done = run("--debug", "host", "check", "labhost", "--self-test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "certificate validated" in done.stdout
    assert "12 kinds came back unchanged" in done.stdout
    assert endpoint.password not in done.stdout + done.stderr
    monkeypatch.setenv("IMAGETOOL_PASSWORD", SECRET)
    words = refused(4, "host", "check", "labhost")
    assert "refuses the account" in words
    assert SECRET not in words
    monkeypatch.delenv("IMAGETOOL_PASSWORD")
    assert "no password is known" in refused(4, "host", "check", "labhost")
    assert endpoint.shell_count == 0


def test_a_host_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGETOOL_USER", "me")
    monkeypatch.setenv("IMAGETOOL_PASSWORD", SECRET)
    assert "nothing listens" in refused(4, "host", "check", "https://127.0.0.1:1")
    assert "no name of a host" in refused(2, "host", "check", "two words")
    words = refused(2, "host", "check", f"https://me:{SECRET}@hv01")
    assert SECRET not in words


def test_a_cloned_directory_cannot_redirect_a_password(
    endpoint: Endpoint, template: Path, disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_USER", endpoint.user)
    monkeypatch.setenv("IMAGETOOL_PASSWORD", endpoint.password)
    job = (
        *("inject", template, "--package", disc, "--allow-unsigned"),
        *("--output", tmp_path / "new.vhdx"),
    )
    theirs = Path("imagetool.toml")
    theirs.write_text(f"[hosts.hv01]\nurl = '{endpoint.url}'\n", encoding="utf-8")
    assert "may not say where" in refused(2, *job)
    assert "may not say where" in refused(2, *job, "--host", "hv01")
    theirs.write_text(f"[defaults]\nhost = '{endpoint.url}'\n", encoding="utf-8")
    assert "may not say where" in refused(2, *job)
    theirs.write_text("[defaults]\nhost = '127.0.0.1'\n", encoding="utf-8")
    for host in ("127.0.0.1", "lab", "local"):
        theirs.write_text(f"[defaults]\nhost = '{host}'\n", encoding="utf-8")
        said = refused(2, *job)
        assert f"names the host '{host}', and may not choose where" in said
        assert not (tmp_path / "new.vhdx").exists()
    theirs.unlink()
    theirs.symlink_to(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text(f"[hosts.hv01]\nurl = '{endpoint.url}'\n", "utf-8")
    assert "may not say where" in refused(2, *job)
    monkeypatch.setenv("IMAGETOOL_CONFIG", "imagetool.toml")
    assert "no whole path" in refused(2, *job, "--host", "hv01")
    assert endpoint.served_requests == []


def test_a_directory_may_choose_among_the_users_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("imagetool.toml").write_text("[defaults]\nhost = 'lab'\n", encoding="utf-8")
    assert connection.named_host() == ConfiguredHost("lab")
    assert connection.named_host("LOCAL") == ConfiguredHost("local")
    with pytest.raises(WrongUsage, match="cannot stand here"):
        connection.named_host("https://hv01", url_allowed=False)


def test_a_session_over_winrm_asks_for_its_password_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[ConfiguredHost, Credentials]] = []

    def open_winrm(host: ConfiguredHost, credentials: Callable[[], Credentials]) -> object:
        opened.append((host, credentials()))
        return object()

    monkeypatch.setattr("imagetool.host.winrm.open_winrm", open_winrm)
    monkeypatch.setenv("IMAGETOOL_USER", "me")
    monkeypatch.setenv("IMAGETOOL_PASSWORD", SECRET)
    opener = connection.session_opener("hv01")
    assert opened == []
    opener()
    monkeypatch.delenv("IMAGETOOL_PASSWORD")
    opener()
    assert [item.password for _, item in opened] == [SECRET, SECRET]
    assert opened[0][0].url == "https://hv01:5986/wsman"
    assert SECRET not in repr(opened)


def test_login_needs_a_host_and_a_keyring() -> None:
    assert "needs no password" in refused(2, "host", "login", "lab")
    try:
        import keyring  # noqa: F401
    except ImportError:
        assert "not installed" in refused(4, "host", "login", "hv01")
        assert "not installed" in refused(4, "host", "logout", "hv01")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_no_process_has_the_password_in_its_arguments_or_environment(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_PASSWORD", SECRET)
    assert endpoint.certificate is not None
    host = ConfiguredHost("labhost", endpoint.url, certificate=str(endpoint.certificate))
    right = Credentials(endpoint.user, endpoint.password)
    mine = os.getpid()
    with winrm.open_winrm(host, lambda: right):
        assert endpoint.process_ids
        for process in endpoint.process_ids:
            for name in ("cmdline", "environ"):
                data = Path(f"/proc/{process}/{name}").read_bytes()
                assert SECRET.encode() not in data
                assert endpoint.password.encode() not in data
        assert endpoint.password.encode() not in Path(f"/proc/{mine}/environ").read_bytes()


def children_hold(process: int, path: Path) -> bool:
    """True if a process that this one started has the file open."""
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split():
            held = [item.readlink() for item in Path(f"/proc/{child}/fd").iterdir()]
            if path in held or children_hold(int(child), path):
                return True
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_an_interruption_says_so_and_what_is_known_by_then(
    template: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
    for number in range(3):
        (tmp_path / f"{number}.vhdx").symlink_to(template)
    images = [str(tmp_path / f"{number}.vhdx") for number in range(3)]
    for number in range(300):
        images.append(f"lab:{images[number % 3]}")
    started = subprocess.Popen(
        command_line("verify", *images),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # PowerShell reads one, so those that are read from here have been judged.
    assert until(lambda: children_hold(started.pid, template))
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=30)
    assert started.returncode == 130, err
    assert err.endswith("imagetool: interrupted\n"), err
    assert "Traceback" not in err
    *lines, summary = out.splitlines()
    assert len(lines) >= 3
    assert all(": current" in line for line in lines)
    assert summary.startswith(f"{len(lines)} judged")


def test_a_host_without_a_name_is_a_wrong_command_line() -> None:
    for arguments in (("check", ""), ("login", ""), ("logout", "")):
        assert "host is empty" in refused(2, "host", *arguments)
    job = ("inject", "t.vhdx", "--package", "p.iso", "--output", "new.vhdx", "--host", "")
    assert "host is empty" in refused(2, *job)


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("inspect", "IMAGE"),
    ("verify", "IMAGE"),
    ("registry", "list", "IMAGE", "HKLM\\SYSTEM"),
    ("file", "list", "IMAGE"),
    ("disk", "map", "IMAGE"),
    ("package", "list", "DISC"),
    ("host", "check", "lab"),
    ("inject", "IMAGE", "--package", "DISC", "--output", "new.vhdx", "--host", "lab"),
    ("lab", "boot", "IMAGE"),
)
MISTAKES = (
    ("imagetool.toml", "[hosts.other.paths]\n'x' = 'D:\\y'\n[hosts.hv01]\nurls = 'x'\n"),
    ("imagetool.toml", "deafults = 1\n"),
    ("config.toml", "[defaults]\nhosts = 'x'\n"),
    ("config.toml", "[hosts.hv01]\nuser = 'x'\n[hosts.hv02]\nvalidat = true\n"),
    ("config.toml", "[hosts.hv01.paths]\n'/x' = 'y'\n"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=[item[0] for item in COMMANDS])
def test_a_mistake_in_either_file_is_told_by_the_next_command_whichever(
    command: tuple[str, ...], template: Path, disc: Path, tmp_path: Path
) -> None:
    given = [{"IMAGE": str(template), "DISC": str(disc)}.get(item, item) for item in command]
    for name, text in MISTAKES:
        path = tmp_path / ("here" if name == "imagetool.toml" else ".") / name
        path.write_text(text, encoding="utf-8")
        assert name in refused(2, *given), text
        path.write_text("", encoding="utf-8")
    (tmp_path / "here/imagetool.toml").write_text("x = 1", encoding="utf-8")
    assert run(*given, "--help").returncode == 0
    assert run("--version").returncode == 0


def test_a_gate_has_its_report_also_where_the_configuration_is_wrong(
    template: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("x = 1", encoding="utf-8")
    report = tmp_path / "report.json"
    refused(2, "verify", template, "--format", "json", "--output", report)
    error = json.loads(report.read_text("utf-8"))["error"]
    assert "config.toml: x: there is no such key" in json.dumps(error)


def test_a_certificate_that_is_missing_concerns_its_host_alone(
    template: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("[hosts.hv01]\ncertificate = 'none.pem'\n", "utf-8")
    assert run("verify", template).returncode == 0
    for arguments in (("verify", "hv01:t.vhdx"), ("host", "check", "hv01")):
        assert "hosts.hv01.certificate: " in refused(2, *arguments)


def test_without_files_no_time_goes_into_looking_for_them(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGETOOL_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    program = (
        "import sys, imagetool.cli.app as app\n"
        f"code = app.answer(['verify', {str(template)!r}])\n"
        "print(code, sorted(set(sys.modules) & {'tomllib', 'platformdirs', "
        "'imagetool.host.session', 'imagetool.host.configuration'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    (tmp_path / "none/imagetool").mkdir(parents=True)
    (tmp_path / "none/imagetool/config.toml").write_text("x = 1")
    assert "config.toml: x: there is no such key" in refused(2, "verify", template)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="deletes the current directory")
def test_a_current_directory_that_is_gone_has_no_file(template: Path, tmp_path: Path) -> None:
    Path(tmp_path / "here").rmdir()
    assert run("verify", template).returncode == 0
