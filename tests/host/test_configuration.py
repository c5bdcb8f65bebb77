"""Hosts by their names, whose file may say what, and that no password goes astray."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.configuration import Configuration, ConfiguredHost, read_configuration
from imagetool.host.configuration import credentials as module
from imagetool.host.configuration.credentials import (
    Credentials,
    credentials_for,
    delete_password,
    store_password,
)
from imagetool.host.configuration.path_mapping import path_on_host
from imagetool.host.environment import child_environment, user_configuration_file

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-to-look-for"
Read = Callable[..., Configuration]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads the two files with these texts; the directory's is in a clone of somebody's."""

    def reader(own: str | None = None, clone: str | None = None) -> Configuration:
        directory = tmp_path / "clone"
        directory.mkdir(exist_ok=True)
        environment = {"IMAGETOOL_CONFIG": str(tmp_path / "config.toml")}
        (tmp_path / "config.toml").write_text(own or "", encoding="utf-8")
        if clone is not None:
            (directory / "imagetool.toml").write_text(clone, encoding="utf-8")
        return read_configuration(directory, environment)

    return reader


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)


# What a text means


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("hv01", "https://hv01:5986/wsman"),
        ("HV01.Example.ORG", "https://hv01.example.org:5986/wsman"),
        ("host_1", "https://host_1:5986/wsman"),
        ("10.0.0.7", "https://10.0.0.7:5986/wsman"),
        ("[FE80::0001]", "https://[fe80::1]:5986/wsman"),
        ("::1", "https://[::1]:5986/wsman"),
        ("https://hv01", "https://hv01:5986/wsman"),
        ("HTTP://hv01", "http://hv01:5985/wsman"),
        ("https://hv01:443/", "https://hv01:443/wsman"),
        ("http://[::1]:80/wsman", "http://[::1]:80/wsman"),
    ],
)
def test_a_name_an_address_and_a_url_mean_a_place(text: str, url: str) -> None:
    host = Configuration().host(text)
    assert (host.name, host.url, host.transport, host.validate) == (text, url, "ntlm", True)
    assert host.remote
    assert host.named_by_user


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("D", "drive"),
        ("hv01:5986", "https://hv01:5986"),
        ("ftp://hv01", "neither https"),
        ("//hv01", "neither https"),
        ("hv01/path", "neither https"),
        ("https://hv01/other", "goes on"),
        ("https://hv01/wsman?x=1", "goes on"),
        ("https://hv01:port", "no URL"),
        ("https://hv01:99999", "no URL"),
        ("https://hv01:0", "port 0"),
        ("https://", "no name of a host"),
        ("https://[::1", "no URL"),
        ("fe80::1%eth0", "no name"),
        ("-dash", "no name"),
        ("dash-", "no name"),
        ("a..b", "no name"),
        ("under score", "no name"),
        ("hv01\n", "no name"),
        ("1.2.3.400", "no name"),
        ("12345", "no name"),
        ("bücher.example", "no name"),
        ("x" * 64, "no name"),
        (".".join(["abcdefg"] * 33), "no name"),
    ],
)
def test_everything_else_is_refused_with_a_sentence(text: str, why: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        Configuration().host(text)
    assert why in caught.value.message + caught.value.hint


def test_what_may_be_a_password_in_a_url_is_not_shown() -> None:
    for text in (f"https://user:{SECRET}@hv01", f"user:{SECRET}@hv01", f"https://{SECRET}@hv01:x"):
        with pytest.raises(WrongUsage, match="without a user or a password") as caught:
            Configuration().host(text)
        assert SECRET not in caught.value.message + caught.value.hint + repr(caught.value)


def test_local_lab_and_the_default() -> None:
    assert Configuration().host() == ConfiguredHost("local")
    assert Configuration().host("LAB") == ConfiguredHost("lab")
    assert not ConfiguredHost("lab").remote
    assert Configuration(default="lab").host() == ConfiguredHost("lab")
    with pytest.raises(WrongUsage, match="cannot stand here"):
        Configuration().host("https://hv01", url_allowed=False)
    assert Configuration().host("hv01", url_allowed=False).url == "https://hv01:5986/wsman"


# The user's own file


def test_the_users_file_says_all_of_a_host(read: Read, tmp_path: Path) -> None:
    for name in ("ca.pem", "me.pem", "me.key"):
        (tmp_path / name).touch()
    found = read(
        """
        [defaults]
        host = "hv01"
        [hosts.HV01]
        url = "https://hv01.example.org:443"
        transport = "certificate"
        user = 'EXAMPLE\\admin'
        certificate = "ca.pem"
        client_certificate = "me.pem"
        client_key = "me.key"
        script = 'C:\\imagetool\\session.ps1'
        script_sha256 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
        proxy = "http://proxy:3128"
        [hosts.HV01.paths]
        "/srv/images" = 'D:\\images'
        images = 'E:\\'
        [hosts."fs.example.org"]
        transport = "kerberos"
        delegate = true
        validate = false
        """
    )
    host = found.host()
    assert host == found.host("hv01") == found.host("Hv01")
    assert host == ConfiguredHost(
        "HV01",
        "https://hv01.example.org:443/wsman",
        "certificate",
        "EXAMPLE\\admin",
        str(tmp_path / "ca.pem"),
        str(tmp_path / "me.pem"),
        str(tmp_path / "me.key"),
        script="C:\\imagetool\\session.ps1",
        script_sha256="00112233445566778899aabbccddeeff" * 2,
        proxy="http://proxy:3128",
        paths=(("/srv/images", "D:\\images"), (str(tmp_path / "images"), "E:\\")),
    )
    assert host.origin == "https://hv01.example.org:443"
    other = found.host("fs.example.org")
    assert (other.transport, other.delegate, other.validate) == ("kerberos", True, False)
    assert other.url == "https://fs.example.org:5986/wsman"


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("hosts = 1", "hosts", "a table"),
        ("host = 'x'", "host", "Known here: defaults, hosts"),
        ("[defaults]\nhost = 1", "defaults.host", "text"),
        ("[defaults]\nport = 1", "defaults.port", "Known here: host"),
        ("[defaults]\nhost = 'a b'", "defaults.host", "no name of a host"),
        ("[hosts]\nhv01 = 'x'", "hosts.hv01", "a table"),
        ("[hosts.hv01]\nurls = 'x'", "hosts.hv01.urls", "Known here: url, transport"),
        ("[hosts.hv01]\nurl = 5", "hosts.hv01.url", "text"),
        ("[hosts.hv01]\nurl = ''", "hosts.hv01.url", "empty"),
        ("[hosts.hv01]\nuser = \"a\\u001bb\"", "hosts.hv01.user", "cannot be shown"),
        ("[hosts.hv01]\nurl = 'ftp://x'", "hosts.hv01.url", "neither https"),
        ("[hosts.hv01]\nvalidate = 'no'", "hosts.hv01.validate", "true or false"),
        ("[hosts.hv01]\ntransport = 'negotiate'", "hosts.hv01.transport", "ntlm, kerberos"),
        ("[hosts.hv01]\nurl = 'http://hv01'\ntransport = 'basic'", "hosts.hv01.transport",
         "plain http"),
        ("[hosts.hv01]\nurl = 'http://hv01'\ntransport = 'certificate'", "hosts.hv01.transport",
         "https"),
        ("[hosts.hv01]\ntransport = 'certificate'", "hosts.hv01.transport", "client_certificate"),
        ("[hosts.hv01]\ndelegate = true", "hosts.hv01.delegate", "kerberos"),
        ("[hosts.hv01]\nscript = 'session.ps1'", "hosts.hv01.script", "whole path"),
        ("[hosts.hv01]\nscript = '\\\\fs\\s\\session.ps1'", "hosts.hv01.script", "a share"),
        ("[hosts.hv01]\nscript_sha256 = '00'", "hosts.hv01.script_sha256", "needs script"),
        ("[hosts.hv01]\ndism_module = 'Dism'", "hosts.hv01.dism_module", "the whole path"),
        (
            "[hosts.hv01]\ndism_module = '\\\\fs\\adk'",
            "hosts.hv01.dism_module",
            "not on a share",
        ),
        (
            "[hosts.hv01]\nscript = '/s.ps1'\nscript_sha256 = '00'",
            "hosts.hv01.script_sha256",
            "64 hexadecimal digits",
        ),
        ("number = " + "9" * 5000, "", "this is no TOML"),
        ("[hosts.hv01]\nproxy = 'proxy'", "hosts.hv01.proxy", "a URL"),
        ("[hosts.hv01.paths]\nx = 1", "hosts.hv01.paths", "text"),
        ("[hosts.hv01.paths]\nx = 'images'", "hosts.hv01.paths", "no whole path"),
        ("[hosts.hv01.paths]\nx = 'D:\\a\\..\\b'", "hosts.hv01.paths", "dots"),
        ("[hosts.hv01.paths]\nx = '\\\\?\\C:\\x'", "hosts.hv01.paths", "no whole path"),
        ("[hosts.hv01.paths]\nx = 'D:\\a:b'", "hosts.hv01.paths", "characters"),
        ("[hosts.local]\nuser = 'x'", "hosts.local", "taken"),
        ("[hosts.D]\nuser = 'x'", "hosts.D", "drive"),
        ("[hosts.other.example]\nuser = 'x'", "hosts.other.example", "in quotes"),
        ("[hosts.aa]\n[hosts.AA]", "hosts.AA", "twice"),
        ("[hosts.'a b']", "hosts.a b", "no name of a host"),
        ("[hosts.hv01", "", "no TOML"),
        ("[hosts.hv01]\nscript = \"C:\\x\"", "", "line 2"),
        ("x = " + "[" * 5000, "", "no TOML"),
        ("#" * ((1 << 20) + 1), "", "too large"),
    ],
    ids=range(39),
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said_with_its_key(
    read: Read, tmp_path: Path, text: str, key: str, why: str
) -> None:
    with pytest.raises(WrongUsage) as caught:
        read(text)
    assert caught.value.message.startswith(f"{tmp_path / 'config.toml'}: {key}")
    assert why in caught.value.message + caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        f"password = '{SECRET}'",
        f"[hosts.hv01]\nPassword = '{SECRET}'",
        f"[hosts.hv01.deeper]\nsecret = '{SECRET}'",
        f"[[hosts.hv01]]\npassword = '{SECRET}'",
        f"[hosts.hv01]\nproxy = 'http://me:{SECRET}@proxy:3128'",
        f"[hosts.hv01]\nurl = 'https://me:{SECRET}@hv01'",
        f"[defaults]\nhost = 'https://me:{SECRET}@hv01'",
    ],
)
def test_a_password_in_a_file_is_refused_and_not_shown(read: Read, text: str) -> None:
    for files in ((text,), (None, text)):
        with pytest.raises(WrongUsage) as caught:
            read(*files)
        assert SECRET not in caught.value.message + caught.value.hint


def test_where_the_users_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongUsage, match="no such file"):
        read_configuration(tmp_path, {"IMAGETOOL_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(WrongUsage, match="no whole path"):
        read_configuration(tmp_path, {"IMAGETOOL_CONFIG": "config.toml"})
    with pytest.raises(WrongUsage, match="no file"):
        read_configuration(tmp_path, {"IMAGETOOL_CONFIG": str(tmp_path)})
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        (tmp_path / "imagetool").mkdir()
        (tmp_path / "imagetool/config.toml").write_text("[hosts.hv01]\nuser = 'x'\n")
        assert read_configuration(tmp_path, {}).host("hv01").user == "x"


@pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
def test_a_users_file_that_everybody_may_write_is_not_believed(read: Read, tmp_path: Path) -> None:
    read("")
    (tmp_path / "config.toml").chmod(0o646)
    with pytest.raises(WrongUsage, match="everybody may write"):
        read_configuration(tmp_path, {"IMAGETOOL_CONFIG": str(tmp_path / "config.toml")})


def test_a_host_whose_certificate_is_missing_cannot_be_meant(read: Read, tmp_path: Path) -> None:
    found = read("[hosts.HV01]\ncertificate = 'none.pem'\n[hosts.hv02]\nuser = 'x'")
    assert found.host("hv02").user == "x"
    with pytest.raises(WrongUsage, match=r"hosts\.HV01\.certificate: .*none\.pem is no file"):
        found.host("hv01")


@pytest.mark.parametrize("base", ["", "  ", "/elsewhere", "relative", "~/x"])
def test_the_users_file_is_where_platformdirs_puts_it(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from platformdirs import user_config_path

    monkeypatch.setenv("XDG_CONFIG_HOME", base)
    expected = user_config_path("imagetool", appauthor=False) / "config.toml"
    assert Path(user_configuration_file()) == expected
    monkeypatch.delenv("XDG_CONFIG_HOME")
    expected = user_config_path("imagetool", appauthor=False) / "config.toml"
    assert Path(user_configuration_file()) == expected


# A cloned directory cannot say where a password goes

OWN = """
[hosts.hv01]
url = "https://hv01.example.org"
user = "admin"
[hosts.hv01.paths]
"/srv/images" = 'D:\\images'
"""
PASSWORDS = {"IMAGETOOL_USER": "me", "IMAGETOOL_PASSWORD": SECRET}


@pytest.mark.parametrize(
    "text",
    [
        *(f"[hosts.{name}]\n{key} = {value}"
          for name in ("hv01", "HV01", "'other.example'")
          for key, value in (
              ("url", "'https://evil.example'"), ("user", "'x'"), ("transport", "'basic'"),
              ("certificate", "'evil.pem'"), ("client_certificate", "'x'"), ("client_key", "'x'"),
              ("validate", "false"), ("delegate", "true"), ("script", "'C:\\x.ps1'"),
              ("script_sha256", "'00'"), ("dism_module", "'C:\\x'"), ("proxy", "'http://evil.example'"))),
        "url = 'https://evil.example'",
        "proxy = 'http://evil.example'",
        "[defaults]\nproxy = 'http://evil.example'",
        "[defaults]\nvalidate = false",
        "[defaults]\nhost = 'https://evil.example'",
        "[defaults]\nhost = '//evil.example'",
    ],
)  # fmt: skip
def test_a_cloned_directory_cannot_say_how_a_host_is_reached(read: Read, text: str) -> None:
    with pytest.raises(WrongUsage, match=r"imagetool\.toml may not say where or how"):
        read(OWN, text)


def test_a_cloned_directory_may_set_a_default_and_paths_only(read: Read) -> None:
    theirs = (
        "[defaults]\nhost = 'HV01'\n[hosts.Hv01.paths]\nimages = 'E:\\x'\n'/srv/images' = 'F:\\'"
    )
    found = read(OWN, theirs)
    host = found.host()
    assert host.origin == "https://hv01.example.org:5986"
    assert (host.user, host.named_by_user) == ("admin", True)
    assert path_on_host(host, "/srv/images/t.vhdx") == "D:\\images\\t.vhdx"
    assert [there for _, there in host.paths] == ["D:\\images", "E:\\x", "F:\\"]
    assert credentials_for(host, PASSWORDS) == Credentials("me", SECRET)


@pytest.mark.parametrize("there", ["\\\\evil.example\\share", "//evil.example/share", "\\/e\\s"])
def test_a_cloned_directory_cannot_send_a_host_to_somebodys_share(read: Read, there: str) -> None:
    with pytest.raises(WrongUsage, match=r"may not send a host to a share|no whole path"):
        read(OWN, f"[hosts.hv01.paths]\n'/srv/new' = '{there}'")
    own = read("[hosts.hv01.paths]\n'/srv/new' = '\\\\fs\\share'", "").host("hv01")
    assert path_on_host(own, "/srv/new/t.vhdx") == "\\\\fs\\share\\t.vhdx"


def test_a_default_host_of_a_cloned_directory_gets_no_password(read: Read) -> None:
    host = read(OWN, "[defaults]\nhost = 'evil.example'").host()
    assert (host.url, host.named_by_user) == ("https://evil.example:5986/wsman", False)
    with pytest.raises(HostFailed) as caught:
        credentials_for(host, PASSWORDS, ask=None)
    assert "--host evil.example" in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint
    asked: list[str] = []

    def ask(question: str, secret: bool) -> str:
        asked.append(question)
        return "typed"

    assert credentials_for(host, PASSWORDS, ask) == Credentials("typed", "typed")
    assert all("https://evil.example:5986 (which ./imagetool.toml names)" in q for q in asked)


def test_a_host_that_the_command_line_or_the_users_file_names_gets_it(read: Read) -> None:
    both = read(OWN, "[defaults]\nhost = 'evil.example'")
    for text in ("hv01", "other.example", "https://third.example"):
        assert credentials_for(both.host(text), PASSWORDS) == Credentials("me", SECRET)
    default = read("[defaults]\nhost = 'mine.example'", "[defaults]\nhost = 'MINE.example'")
    assert credentials_for(default.host(), PASSWORDS) == Credentials("me", SECRET)


def test_a_link_in_a_cloned_directory_is_read_as_that_directorys(
    read: Read, tmp_path: Path
) -> None:
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/imagetool.toml").symlink_to(tmp_path / "config.toml")
    with pytest.raises(WrongUsage, match="may not say where or how"):
        read(OWN)
    (tmp_path / "clone/imagetool.toml").unlink()
    (tmp_path / "clone/imagetool.toml").mkdir()
    with pytest.raises(WrongUsage, match="no file"):
        read(OWN)


# Paths


def host_with(**pairs: str) -> ConfiguredHost:
    return ConfiguredHost("hv01", "https://hv01:5986/wsman", paths=tuple(pairs.items()))


POSIX = host_with(**{
    "/srv/images": "D:\\images",
    "/srv/images/old/": "E:\\",
    "/srv/im": "X:\\wrong",
    "/mnt/share": "\\\\fs\\share\\",
    "/lab": "/tmp/lab",
})  # fmt: skip


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/srv/images/t.vhdx", "D:\\images\\t.vhdx"),
        ("/srv/images", "D:\\images"),
        ("/srv/images/old/a/b.vhdx", "E:\\a\\b.vhdx"),
        ("/srv/images/older/b.vhdx", "D:\\images\\older\\b.vhdx"),
        ("/srv/images/./x/../t.vhdx", "D:\\images\\t.vhdx"),
        ("/mnt/share/t.vhdx", "\\\\fs\\share\\t.vhdx"),
        ("/lab/t.vhdx", "/tmp/lab/t.vhdx"),
        ("/srv/images/sp ace [1].vhdx", "D:\\images\\sp ace [1].vhdx"),
    ],
)
def test_the_longest_directory_decides(here: str, there: str) -> None:
    assert path_on_host(POSIX, here, windows=False) == there


@pytest.mark.parametrize(
    "here",
    [
        "/srv/imagesX/t.vhdx",
        "/srv/images/../secret.vhdx",
        "/SRV/images/t.vhdx",
        "/srv/images/..\\..\\t.vhdx",
        "/srv/images/.. /t.vhdx",
        "/srv/images/.../t.vhdx",
        "/srv/images/t.vhdx:stream",
        "/srv/images/t.vhdx ",
        "/srv/images/a\nb",
        "C:\\images\\t.vhdx",
    ],
)
def test_nothing_gets_out_of_its_directory(here: str) -> None:
    with pytest.raises(WrongUsage):
        path_on_host(POSIX, here, windows=False)


def test_paths_of_windows_correspond_whatever_their_case() -> None:
    host = host_with(**{"C:\\Images": "D:\\images", "\\\\fs\\Share": "E:\\s", "/srv": "F:\\"})
    for here, there in (
        ("c:\\images\\T.vhdx", "D:\\images\\T.vhdx"),
        ("C:/IMAGES/sub\\t.vhdx", "D:\\images\\sub\\t.vhdx"),
        ("\\\\FS\\share\\t.vhdx", "E:\\s\\t.vhdx"),
        ("//fs/share/a/t.vhdx", "E:\\s\\a\\t.vhdx"),
    ):
        assert path_on_host(host, here, windows=True) == there
    for here in ("C:\\images\\..\\t.vhdx", "C:\\imagesX\\t.vhdx", "D:\\images\\t.vhdx"):
        with pytest.raises(WrongUsage, match=r"hosts\.hv01\.paths|nothing says"):
            path_on_host(host, here, windows=True)


def test_a_path_here_is_the_path_there_on_local_and_lab(tmp_path: Path) -> None:
    assert path_on_host(ConfiguredHost("local"), "some/t.vhdx") == "some/t.vhdx"
    assert path_on_host(ConfiguredHost("lab"), tmp_path) == str(tmp_path)


def test_a_relative_path_counts_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_on_host(host_with(**{str(tmp_path): "D:\\i"}), "t.vhdx") == "D:\\i\\t.vhdx"


# Credentials

HV01 = ConfiguredHost("hv01", "https://hv01:5986/wsman")


class FakeKeyring(ModuleType):
    """A keyring in memory."""

    class Failed(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("keyring")
        self.errors = SimpleNamespace(KeyringError=self.Failed)
        self.held: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_credential(self, service: str, user: str | None) -> object:
        if self.locked:
            raise self.Failed(SECRET)
        for (where, who), password in self.held.items():
            if where == service and user in (None, who):
                return SimpleNamespace(username=who, password=password)
        return None

    def set_password(self, service: str, user: str, password: str) -> None:
        if self.locked:
            raise self.Failed(SECRET)
        self.held[service, user] = password

    def delete_password(self, service: str, user: str) -> None:
        del self.held[service, user]


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> FakeKeyring:
    fake = FakeKeyring()
    monkeypatch.setitem(sys.modules, "keyring", fake)
    return fake


def typed(answers: list[str]) -> module.Ask:
    return lambda question, secret: answers.pop(0)


def test_the_environment_comes_first_then_the_keyring_then_a_prompt(keyring: FakeKeyring) -> None:
    keyring.held["imagetool:https://hv01:5986", "kept"] = "from-keyring"
    assert credentials_for(HV01, PASSWORDS) == Credentials("me", SECRET)
    assert credentials_for(HV01, {}) == Credentials("kept", "from-keyring")
    other_port = ConfiguredHost("hv01", "https://hv01:443/wsman", user="kept")
    plain = ConfiguredHost("hv01", "http://hv01:5985/wsman", user="kept")
    for host in (other_port, plain, ConfiguredHost("hv01", HV01.url, user="another")):
        assert credentials_for(host, {}, typed(["typed"])) == Credentials(host.user, "typed")
    keyring.locked = True
    assert credentials_for(HV01, {}, typed(["u", "p"])) == Credentials("u", "p")


def test_what_is_missing_is_asked_for() -> None:
    assert credentials_for(HV01, {}, typed(["u\n", "p"])) == Credentials("u", "p")
    named = {"IMAGETOOL_USER": "me"}
    assert credentials_for(HV01, named, typed(["p"])) == Credentials("me", "p")
    alone = {"IMAGETOOL_PASSWORD": SECRET}
    assert credentials_for(HV01, alone, typed(["u"])) == Credentials("u", SECRET)
    with pytest.raises(HostFailed, match="no user was given"):
        credentials_for(HV01, {}, typed([""]))


def test_without_a_terminal_it_is_said_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(HostFailed, match="no user is known") as caught:
        credentials_for(HV01, {})
    assert "IMAGETOOL_USER and IMAGETOOL_PASSWORD" in caught.value.hint
    assert "imagetool host login hv01" in caught.value.hint
    with pytest.raises(HostFailed, match="no password is known"):
        credentials_for(HV01, {"IMAGETOOL_USER": "me"})


def test_kerberos_uses_its_tickets_and_certificates_need_nothing() -> None:
    kerberos = ConfiguredHost("hv01", HV01.url, "kerberos")
    assert credentials_for(kerberos, {}) == Credentials("", "")
    assert credentials_for(kerberos, PASSWORDS) == Credentials("me", SECRET)
    assert credentials_for(
        ConfiguredHost("hv01", HV01.url, "certificate"), PASSWORDS
    ) == Credentials("")


def test_a_password_is_stored_and_forgotten(keyring: FakeKeyring) -> None:
    assert store_password(HV01, ask=typed(["me", SECRET])) == "me"
    assert keyring.held == {("imagetool:https://hv01:5986", "me"): SECRET}
    assert delete_password(HV01) == "me"
    assert keyring.held == {}
    with pytest.raises(HostFailed, match="has no password"):
        delete_password(HV01)
    keyring.locked = True
    with pytest.raises(HostFailed, match="refuses") as caught:
        store_password(HV01, "me", typed([SECRET]))
    assert SECRET not in caught.value.message + caught.value.hint


def test_without_the_library_login_says_what_to_install() -> None:
    for action in (store_password, delete_password):
        with pytest.raises(HostFailed, match="not installed") as caught:
            action(HV01)
        assert "imagetool[keyring]" in caught.value.hint


def test_credentials_do_not_show_the_password() -> None:
    credentials = Credentials("me", SECRET)
    shown = (repr(credentials), str(credentials), f"{credentials!r:>9}", repr([credentials]))
    assert not any(SECRET in text for text in shown)
    assert "me" in repr(credentials)


def test_no_child_inherits_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGETOOL_PASSWORD", SECRET)
    assert SECRET not in child_environment().values()
    assert child_environment("PATH").keys() == os.environ.keys() - {
        "IMAGETOOL_PASSWORD", "PATH"
    }  # fmt: skip
    for path in (ROOT / "imagetool").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "subprocess":
                assert any(word.arg == "env" for word in node.keywords), f"{path}:{node.lineno}"


def test_the_files_in_the_documentation_are_right(read: Read, tmp_path: Path) -> None:
    parts = (ROOT / "docs/hosts.md").read_text(encoding="utf-8").split("```toml\n")[1:]
    own, clone = (part.partition("```")[0] for part in parts)
    for name in ("our-root.pem", "me.pem", "me.key"):
        (tmp_path / name).touch()
    found = read(own, clone)
    assert path_on_host(found.host(), "/srv/images/t.vhdx", windows=False) == "D:\\images\\t.vhdx"
    assert found.host("hv02.example.org").transport == "certificate"
