"""Whether a host can be used, and the self-test: on the emulated host, and on a played one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagetool.contracts import Result
from imagetool.errors import HostFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.check import HostReport, check_host
from imagetool.host.check.findings import UNKNOWN, HostFinding, State
from imagetool.host.check.redaction import redactor
from imagetool.host.configuration.address import ConfiguredHost
from imagetool.host.files import FileOperations
from imagetool.host.session import Session
from imagetool.lab import open_lab
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import parse_faults
from imagetool.report import render

GOOD: dict[str, object] = {
    "user": "EXAMPLE\\admin",
    "domain": "EXAMPLE",
    "computer": "HV01",
    "system": "Microsoft Windows NT 10.0.20348.0",
    "product": "Windows Server 2022 Datacenter 20348.2527",
    "temporary": "C:\\Users\\ADMINI~1\\AppData\\Local\\Temp\\",
    "elevated": True,
    "filtered": False,
    "authentication": "Kerberos",
    "dism": "10.0.20348.681 (WinBuild.160101.0800)",
    "iso": False,
}
HELLO = {
    "version": "5.1.20348.2400",
    "edition": "Desktop",
    "language": "FullLanguage",
    "windows": True,
    "modules": ["Hyper-V", "Storage", "Dism"],
    "computer": "HV01",
}
NTFS = {"FileSystem": "NTFS", "DriveType": "Fixed", "SizeRemaining": 50 << 30}
KERBEROS = ConfiguredHost("hv01", "https://hv01.example.org:5986/wsman", "kerberos")
IMAGE = "D:\\images\\t.vhdx"
DIRECTORY = 0x10


class Played:
    """A session with a Windows that answers what it is told to."""

    on_windows = True
    emulated = False
    description = "Windows PowerShell 5.1.20348.2400"

    def __init__(self, **told: object) -> None:
        self.hello = HELLO | {k: v for k, v in told.items() if k in HELLO}
        self.facts = GOOD | {k: v for k, v in told.items() if k in GOOD}
        self.told = told
        self.files = FileOperations(self)  # type: ignore[arg-type]

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def invoke(self, cmdlet: str, **_: object) -> list[Result]:
        assert cmdlet == "Get-Volume"
        volume = self.told.get("volume", NTFS)
        if volume is None:
            raise CmdletFailed(cmdlet, "not recognized", 0, "", "CommandNotFoundException")
        return [Result(volume)]  # type: ignore[call-overload]

    def operate(self, operation: str, **parameters: object) -> Result:
        if operation == "facts":
            late = self.told.get("late", 0)
            assert isinstance(late, int)
            return Result(self.facts | {"now": datetime.now(UTC) + timedelta(seconds=late)})
        path = str(parameters.get("path"))
        if operation == "volume":
            kind = "Network" if path.startswith("\\\\") else "Fixed"
            return Result(path=path, kind=kind, system="NTFS", free=50 << 30, size=1 << 40)
        if operation == "stat":
            stats = self.told.get("stats", {IMAGE: 0x20, "D:\\images": DIRECTORY})
            assert isinstance(stats, dict)
            bits = stats.get(path)
            directory = bool(bits and bits & DIRECTORY)
            return Result(exists=bits is not None, directory=directory,
                          size=0 if directory else 8 << 30, written=None,
                          attributes=bits or 0)  # fmt: skip
        if operation == "open" and "denied" in self.told:
            raise CmdletFailed("open", "Access is denied", 0x80070005, "", "")
        if operation == "in-use":
            return Result(inuse=self.told.get("held", False))
        return Result(busy=False)


def played(
    path: str = "", host: ConfiguredHost = KERBEROS, **told: object
) -> tuple[HostReport, dict[str, HostFinding]]:
    checked = check_host(host, lambda: Played(**told), path)  # type: ignore[arg-type,return-value]
    assert len({row.name for row in checked.findings}) == len(checked.findings)
    return checked, {row.name: row for row in checked.findings}


def test_a_good_host_is_all_right_and_says_what_it_is() -> None:
    checked, rows = played(IMAGE)
    assert checked.usable
    assert {row.state for row in checked.findings if row.name != "vmguest.iso"} == {State.OK}
    assert rows["vmguest.iso"].state is State.NOTE
    assert "certificate validated" in rows["reached"].found
    assert "Windows PowerShell 5.1" in rows["powershell"].found
    assert "20348.2527" in rows["windows"].found
    assert rows["authentication"].found == "kerberos, Kerberos"
    assert "8.0 GiB" in rows["path"].found
    assert list(rows) == [
        "reached", "user", "authentication", "rights", "powershell", "language", "windows",
        "hyper-v", "storage", "dism-module", "dism", "temporary", "path", "attributes", "in-use",
        "directory", "directory-attributes", "vmguest.iso", "clock",
    ]  # fmt: skip


def ntlm(url: str = "https://hv01:5986/wsman", **more: object) -> ConfiguredHost:
    return ConfiguredHost("hv01", url, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "state", "words", "told"),
    [
        ("rights", State.FAILED, "LocalAccountTokenFilterPolicy",
         {"elevated": False, "filtered": True}),
        ("rights", State.FAILED, "add this one to Administrators", {"elevated": False}),
        ("rights", State.FAILED, "as administrator",
         {"elevated": False, "filtered": True, "host": ConfiguredHost("local")}),
        ("authentication", State.NOTE, "reaches no shares",
         {"authentication": "NTLM", "host": ntlm()}),
        ("reached", State.NOTE, "plain http", {"host": ntlm("http://hv01:5985/wsman")}),
        ("reached", State.NOTE, "validate = false", {"host": ntlm(validate=False)}),
        ("language", State.FAILED, "Application control", {"language": "ConstrainedLanguage"}),
        ("hyper-v", State.NOTE, "Mount-DiskImage", {"modules": ["Storage", "Dism"]}),
        ("storage", State.FAILED, "Servicing needs it", {"modules": ["Hyper-V", "Dism"]}),
        ("dism", State.FAILED, "no dism.exe", {"dism": ""}),
        ("temporary", State.FAILED, "local NTFS", {"volume": NTFS | {"FileSystem": "ReFS"}}),
        ("temporary", State.FAILED, "TEMP", {"temporary": "\\\\fs\\home\\Temp"}),
        ("temporary", State.NOTE, "Make room", {"volume": NTFS | {"SizeRemaining": 5 << 20}}),
        ("temporary", State.OK, "NTFS", {"volume": None}),
        ("temporary", State.OK, "NTFS", {"volume": NTFS | {"DriveType": 3}}),
        ("directory", State.NOTE, "CSVFS", {"volume": NTFS | {"FileSystem": "CSVFS"}}),
        ("directory", State.NOTE, "needs 8.0 GiB", {"volume": NTFS | {"SizeRemaining": 5 << 30}}),
        ("attributes", State.FAILED, f'fsutil sparse setflag "{IMAGE}" 0',
         {"stats": {IMAGE: 0x200, "D:\\images": DIRECTORY}}),
        ("attributes", State.FAILED, f'0xC03A001A): compact /u "{IMAGE}"; cipher /d',
         {"stats": {IMAGE: 0x4800, "D:\\images": DIRECTORY}}),
        ("directory-attributes", State.FAILED, 'compact /u "D:\\images"',
         {"stats": {IMAGE: 0x20, "D:\\images": DIRECTORY | 0x800}}),
        ("in-use", State.NOTE, "another process", {"held": True}),
        ("path", State.FAILED, "Access is denied", {"denied": True}),
        ("path", State.FAILED, "there is nothing", {"stats": {}}),
        ("vmguest.iso", State.OK, "System32", {"iso": True}),
        ("clock", State.NOTE, "Kerberos refuses", {"late": 400}),
        ("clock", State.NOTE, "behind", {"late": -400}),
        ("clock", State.OK, "s apart", {"late": 200}),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_what_to_do(
    name: str, state: State, words: str, told: dict[str, object]
) -> None:
    host = told.pop("host", KERBEROS)
    assert isinstance(host, ConfiguredHost)
    checked, rows = played(IMAGE, host, **told)
    row = rows[name]
    assert row.state is state
    assert words in f"{row.found} {row.advice}"
    assert row.advice or state is State.OK
    assert checked.usable is all(row.state is not State.FAILED for row in rows.values())


def test_a_share_that_a_logon_does_not_reach_is_named() -> None:
    share = "\\\\fs\\images\\t.vhdx"
    for host, words in (
        (ntlm(), "credssp"),
        (KERBEROS, "delegate = true"),
        (ntlm(transport="credssp"), "spelling"),
        (ConfiguredHost("local"), "spelling"),
    ):
        checked, rows = played(share, host, stats={})
        assert not checked.usable
        assert rows["path"].found == f"{share}: cannot be reached from the host"
        assert words in rows["path"].advice


def test_the_emulated_host_says_what_it_does_not_know(
    lab_engine: str, template: Path, tmp_path: Path
) -> None:
    checked = check_host(ConfiguredHost("lab"), open_lab, str(template))
    rows = {row.name: row for row in checked.findings}
    assert checked.usable
    for name in ("rights", "dism", "attributes", "directory-attributes", "vmguest.iso"):
        assert (rows[name].state, rows[name].found) == (State.NOTE, UNKNOWN)
    for name in ("reached", "user", "language", "hyper-v", "storage", "dism-module", "path"):
        assert rows[name].state is State.OK, rows[name]
    assert "not a Windows" in rows["windows"].found
    assert not check_host(ConfiguredHost("lab"), open_lab, str(tmp_path / "none.vhdx")).usable


def test_the_self_test_runs_to_its_end_and_leaves_nothing(
    lab_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    checked = check_host(ConfiguredHost("lab"), open_lab, self_test=True)
    monkeypatch.setattr(tempfile, "tempdir", None)
    trials = {row.name: row for row in checked.trials or ()}
    assert checked.usable, [row for row in trials.values() if row.state is State.FAILED]
    for name in ("values", "upload", "list", "read", "private-directory", "in-use", "refused"):
        assert trials[name].state is State.OK, trials[name]
    assert "mode 700; removed again" in trials["private-directory"].found
    assert "0x80070002" in trials["missing-disk"].found
    assert "NotAllowed" in trials["refused"].found
    assert trials["properties of Get-Volume"] == HostFinding(
        "properties of Get-Volume", State.NOTE, "no results"
    )
    if lab_engine == "powershell":
        assert "this version's" in trials["script"].found
        assert "65001" in trials["engine"].found
    assert list(tmp_path.iterdir()) == []


def test_the_self_test_goes_on_behind_what_fails(lab_engine: str) -> None:
    emulated_host = EmulatedHost(parse_faults("Get-VHD=0x80070005,Get-Disk=0x80041001"))
    checked = check_host(ConfiguredHost("lab"), lambda: open_lab(emulated_host), self_test=True)
    trials = {row.name: row for row in checked.trials or ()}
    assert "0x80070005" in trials["missing-disk"].found
    assert trials["properties of Get-Disk"].state is State.FAILED
    assert trials["left over"].state is State.OK
    assert not checked.usable


def test_properties_are_told_by_name_where_all_are_asked_for(
    lab_engine: str, template: Path
) -> None:
    with open_lab() as session:
        (found,) = session.invoke("Get-VHD", Path=str(template), properties=("*", "VhdFormat"))
    names = found["*"]
    assert isinstance(names, list)
    assert {"VhdType", "DiskIdentifier"} <= {str(name).partition(" ")[0] for name in names}
    assert found["VhdFormat"] == "VHDX"


def test_a_host_that_cannot_be_reached_is_one_sentence() -> None:
    def refuse() -> Session:
        raise HostFailed("hv01: nothing listens", hint="Enable WinRM there.")

    with pytest.raises(HostFailed, match="nothing listens"):
        check_host(KERBEROS, refuse)


def hide(host: ConfiguredHost = KERBEROS, path: str = "") -> Callable[[str], str]:
    return redactor(host, Played(), path)  # type: ignore[arg-type]


def test_what_is_sent_to_others_names_nobody() -> None:
    host = ConfiguredHost("hv01", KERBEROS.url, user="EXAMPLE\\svc-images")
    hidden = hide(host, "D:\\customer\\t.vhdx")
    text = (
        "EXAMPLE\\admin on HV01 (https://hv01.example.org:5986), svc-images, "
        "C:\\Users\\ADMINI~1\\AppData, /home/somebody/x, D:\\customer\\t.vhdx, "
        "'d:\\Customer\\other', S-1-5-21-1004336348-1177238915-682003330-512, admins stay"
    )
    assert hidden(text) == (
        "<domain>\\<user> on <computer> (https://<host>:5986), <user>, "
        "C:\\Users\\<user>\\AppData, /home/<user>/x, <path>, "
        "'<directory>\\other', <account>, admins stay"
    )
    assert hide(path="/")("/tmp/x") == "/tmp/x"
    assert hide(path="t.vhdx")("t.vhdx: nothing") == "<path>: nothing"
    with_at = hide(ConfiguredHost("hv01", KERBEROS.url, user="jane@corp.example"))
    assert with_at("jane of corp.example") == "<user> of <domain>"


def test_a_redacted_report_is_redacted_in_every_form(lab_engine: str, tmp_path: Path) -> None:
    secret = tmp_path / "customer-name"
    secret.mkdir()
    checked = check_host(ConfiguredHost("lab"), open_lab, str(secret), self_test=True)
    import getpass
    import platform

    for text in (render(checked, "text"), render(checked, "json")):
        assert "customer-name" not in text
        for name in (getpass.getuser(), platform.node()):
            assert f" {name}\n" not in text
            assert f'"{name}"' not in text
