"""Kerberos against a KDC of MIT's, and CredSSP, through the endpoint."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError
from winrm.protocol import Protocol

from imagetool.errors import HostFailed
from imagetool.host import session as session_module
from imagetool.host.configuration import AuthenticationMethod, ConfiguredHost
from imagetool.host.configuration.credentials import Credentials
from imagetool.host.session import Session
from imagetool.host.winrm import open_winrm
from imagetool.host.winrm import shell as winrm_module
from imagetool.lab.winrm import Endpoint
from tests.waiting import until

Serve = Callable[..., Endpoint]
Connect = Callable[..., Protocol]
REALM = "LAB.TEST"
SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


class Realm(NamedTuple):
    """A realm with its KDC, which answers on loopback."""

    keytab: Path
    environment: dict[str, str]

    def log_in(self, principal: str) -> None:
        """A ticket in the realm's cache."""
        subprocess.run(
            ["kinit", principal],
            input=b"password\n",
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def realm(
    tmp_path_factory: pytest.TempPathFactory,
    oracle: Callable[[str], str],
    library: Callable[[str], ModuleType],
) -> Iterator[Realm]:
    """A throw-away realm: user imagetool, another, and the service HTTP/localhost."""
    for module in ("gssapi", "krb5", "kerberos"):
        library(module)
    folder = tmp_path_factory.mktemp("realm")
    port = free_port()
    (folder / "krb5.conf").write_text(
        f"[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\nrdns = false\n"
        "dns_lookup_realm = false\ndns_canonicalize_hostname = false\nudp_preference_limit = 1\n"
        f"[realms]\n{REALM} = {{\nkdc = 127.0.0.1:{port}\n}}\n"
        f"[domain_realm]\nlocalhost = {REALM}\n"
    )
    (folder / "kdc.conf").write_text(
        f"[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n"
        f"[realms]\n{REALM} = {{\ndatabase_name = {folder}/principal\n"
        f"key_stash_file = {folder}/stash\nacl_file = {folder}/acl\n}}\n"
        f"[logging]\nkdc = FILE:{folder}/kdc.log\nadmin_server = FILE:{folder}/kdc.log\n"
    )
    environment = {
        "KRB5_CONFIG": str(folder / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
        "KRB5CCNAME": f"FILE:{folder}/tickets",
        "KRB5RCACHENAME": "none:",
        "PATH": os.environ["PATH"] + ":" + SYSTEM,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", environment["PATH"])
        programs = {name: oracle(name) for name in ("kdb5_util", "kadmin.local", "krb5kdc")}
        oracle("kinit")

    def call(name: str, *arguments: str) -> None:
        subprocess.run(
            [programs[name], *arguments],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )

    keytab = folder / "http.keytab"
    call("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
    for query in (
        "addprinc -pw password imagetool",
        "addprinc -pw password other",
        "addprinc -randkey HTTP/localhost",
        f"ktadd -k {keytab} HTTP/localhost",
    ):
        call("kadmin.local", "-r", REALM, "-q", query)
    kdc = subprocess.Popen([programs["krb5kdc"], "-n"], env=os.environ | environment)
    try:
        assert until(lambda: listens(port)), (folder / "kdc.log").read_text()
        yield Realm(keytab, environment)
    finally:
        kdc.terminate()
        kdc.wait(timeout=10)


@pytest.fixture
def ticket(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> Realm:
    """The realm, in whose cache the user has a ticket, and which this process knows."""
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    realm.log_in("imagetool")
    return realm


def there(endpoint: Endpoint) -> str:
    """The endpoint by the name that its service has in the realm."""
    return endpoint.url.replace("127.0.0.1", "localhost")


def runs(protocol: Protocol) -> None:
    """A command whose input and output are larger than one sealed piece."""
    shell = protocol.open_shell(codepage=65001)
    script = (
        'powershell -NoProfile -Command "$r = [IO.StreamReader]::new('
        '[Console]::OpenStandardInput()); [Console]::Out.Write($r.ReadToEnd())"'
    )
    command = protocol.run_command(shell, script, console_mode_stdin=False)
    data = bytes(range(32, 127)) * 1000
    protocol.send_command_input(shell, command, data, end=True)
    assert protocol.get_command_output(shell, command) == (data, b"", 0)
    protocol.close_shell(shell)


@pytest.mark.parametrize("https", [False, True])
def test_pywinrm_comes_with_a_ticket(
    serve: Serve, connect: Connect, ticket: Realm, https: bool
) -> None:
    endpoint = serve(https=https, keytab=ticket.keytab)
    protocol = connect(
        endpoint, "kerberos", url=there(endpoint), username="imagetool@LAB.TEST", password=None
    )
    runs(protocol)
    # One step: the ticket comes with the first request, and the answer is sealed already.
    handshake = [
        served.status for served in endpoint.served_requests if served.action == "Authenticate"
    ]
    assert handshake == ([200] if not https else [])


@pytest.mark.parametrize("auth", ["kerberos", "negotiate"])
def test_pypsrp_comes_with_a_ticket(
    serve: Serve,
    psrp: Callable[..., object],
    library: Callable[[str], ModuleType],
    ticket: Realm,
    auth: str,
) -> None:
    shells = library("pypsrp.shell")
    endpoint = serve(keytab=ticket.keytab)
    client = psrp(
        endpoint, auth, server="localhost", username="imagetool@LAB.TEST", password=None,
        negotiate_service="HTTP",
    )  # fmt: skip
    with shells.WinRS(client) as shell:
        process = shells.Process(shell, "powershell", ["-Command", "1 + 1"])
        process.invoke()
        assert (process.stdout, process.rc) == (b"2\n", 0)


def test_a_ticket_of_another_user_is_refused(serve: Serve, connect: Connect, ticket: Realm) -> None:
    endpoint = serve(keytab=ticket.keytab)
    ticket.log_in("other")
    with pytest.raises((InvalidCredentialsError, WinRMTransportError)):
        connect(endpoint, "kerberos", url=there(endpoint), username="other@LAB.TEST").open_shell()
    assert endpoint.shell_count == 0


def test_without_a_keytab_no_ticket_is_taken(serve: Serve, connect: Connect, ticket: Realm) -> None:
    endpoint = serve()
    beside = serve(keytab=ticket.keytab)
    with pytest.raises(InvalidCredentialsError):
        connect(endpoint, "kerberos", url=there(endpoint), username=None).open_shell()
    connect(beside, "kerberos", url=there(beside), username=None).open_shell()
    connect(endpoint, "ntlm").open_shell()


@pytest.mark.parametrize("https", [True, False])
def test_pywinrm_delegates_its_password(
    serve: Serve, connect: Connect, library: Callable[[str], ModuleType], https: bool
) -> None:
    refused = library("requests_credssp.exceptions").NTStatusException
    endpoint = serve(https=https)
    runs(connect(endpoint, "credssp"))
    with pytest.raises(refused, match="0x8009030c"):  # SEC_E_LOGON_DENIED
        connect(endpoint, "credssp", password="wrong").open_shell()
    with warnings.catch_warnings():
        # requests-credssp leaves the socket of a handshake that was refused to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_pypsrp_delegates_its_password(
    serve: Serve, psrp: Callable[..., object], library: Callable[[str], ModuleType]
) -> None:
    library("requests_credssp")
    shells = library("pypsrp.shell")
    with shells.WinRS(psrp(serve(), "credssp"), codepage=65001) as shell:
        process = shells.Process(shell, "powershell", ["-Command", "'x' * 100000"])
        process.invoke()
        assert process.stdout == b"x" * 100_000 + b"\n"


# The same through imagetool's own sessions


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Receive that was cut off stays open for as long as it was to last."""
    monkeypatch.setattr(session_module, "_POLL_INTERVAL", 0.5)
    monkeypatch.setattr(winrm_module, "_RECEIVE_MARGIN", 0.2)


def session_with(
    endpoint: Endpoint, transport: AuthenticationMethod, credentials: Credentials
) -> Session:
    url = there(endpoint)
    host = ConfiguredHost("hv01", url, transport, certificate=str(endpoint.certificate or ""))
    return open_winrm(host, lambda: credentials)


def converses(session: Session) -> None:
    """Questions whose messages are larger than one sealed piece, in both directions."""
    data = os.urandom(300_000)
    with session:
        folder = session.files.temporary_directory()
        session.files.upload(data, f"{folder}/file")
        assert Path(folder, "file").read_bytes() == data
        text = "é日本 " * 20_000
        assert session.operate("echo", value=text) == {"value": text}


@pytest.mark.parametrize("https", [False, True])
def test_a_session_comes_with_a_ticket(serve: Serve, ticket: Realm, https: bool) -> None:
    endpoint = serve(https=https, keytab=ticket.keytab)
    converses(session_with(endpoint, "kerberos", Credentials("imagetool@LAB.TEST")))
    endpoint.faults.drop_within(action="Receive").drop_before(2, action="Send")
    converses(session_with(endpoint, "kerberos", Credentials("")))
    assert endpoint.shell_count == 0


def test_a_session_without_a_ticket_is_told_what_to_do(
    serve: Serve, realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/none")
    with pytest.raises(HostFailed, match="hv01: Kerberos gave no access") as caught:
        session_with(serve(keytab=realm.keytab), "kerberos", Credentials(""))
    assert "kinit" in caught.value.hint


@pytest.mark.parametrize("https", [False, True])
def test_a_session_delegates_its_password(
    serve: Serve, library: Callable[[str], ModuleType], https: bool
) -> None:
    library("requests_credssp")
    endpoint = serve(https=https)
    converses(session_with(endpoint, "credssp", Credentials(endpoint.user, endpoint.password)))
    endpoint.faults.drop_within(action="Receive").drop_before(2, action="Send")
    converses(session_with(endpoint, "credssp", Credentials(endpoint.user, endpoint.password)))
    assert endpoint.shell_count == 0
    with pytest.raises(HostFailed, match="refuses the account with credssp") as caught:
        session_with(endpoint, "credssp", Credentials(endpoint.user, "wrong-4711"))
    assert "wrong-4711" not in f"{caught.value}{caught.value.hint}"
