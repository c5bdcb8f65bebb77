"""What the codes of a host say, where its words are of another language."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetool.errors import CannotWrite, ServicingFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.hresults import EXPLANATIONS, find_code
from imagetool.lab import open_lab
from imagetool.lab.cmdlet import CmdletFailure
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import Fault, FaultMatcher
from tests.servicing.injecting import inject

ISSUED = (
    0x800F081E, 0x800F081F, 0x800F0823, 0x800F0830, 0x800F082F, 0x800F0922, 0x80070005, 0x8007000D,
    0x80070013, 0x80070057, 0x80070070, 0x80070522, 0x800706BE, 0x80073712, 0x80004001, 0xC1420117,
    0xC03A0014, 0xC03A001A,
)  # fmt: skip
GERMAN = "Der Vorgang ist fehlgeschlagen: „größer“ als erlaubt."


@pytest.mark.parametrize("code", ISSUED, ids=hex)
@pytest.mark.usefixtures("writers")
@pytest.mark.parametrize("in_text", [False, True])
def test_a_code_of_a_localised_host_is_explained_and_its_words_kept(
    template: Path,
    disc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    in_text: bool,
) -> None:
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    text = f"{GERMAN} (0x{code:08x})" if in_text else GERMAN
    failure = CmdletFailure(text, hresult=0x80131500 if in_text else code)
    cmdlet = "Mount-VHD" if code >> 16 in (0xC03A, 0x8007) else "Add-WindowsPackage"
    with pytest.raises((ServicingFailed, CannotWrite)) as caught:
        inject(
            template,
            disc,
            lambda: open_lab(
                EmulatedHost(FaultMatcher([Fault("fail", cmdlet, 0, failure=failure)]))
            ),
            tmp_path / "serviced.vhdx",
        )
    meaning, remedy = EXPLANATIONS[code]
    assert caught.value.message.startswith(f"{cmdlet} failed on the host: {meaning} (0x{code:08X})")
    assert f"; the host says: {text}; {template} is as it was" in caught.value.message
    if code == 0x80070070:
        assert "the code does not say which" in caught.value.message
        assert isinstance(caught.value, CannotWrite)
    else:
        assert caught.value.hint == remedy
    assert list(tmp_path.iterdir()) == []


def test_every_code_has_a_sentence_and_what_to_do() -> None:
    assert set(ISSUED) <= set(EXPLANATIONS)
    for code, (meaning, remedy) in EXPLANATIONS.items():
        assert code >> 31, hex(code)
        assert meaning[0].islower() or meaning.startswith("DISM")
        assert remedy[0].isupper() or remedy[0] == "`"
        assert remedy.endswith((".", ".)"))
    assert find_code(0, "0x800F081E, then 0x12345678") == 0x800F081E
    assert find_code(0x80131500, "nothing known: 0x800F081EF") == 0x80131500


def test_the_words_of_the_host_come_through_powershell(lab_engine: str) -> None:
    emulated_host = EmulatedHost(
        FaultMatcher(
            [Fault("fail", "Get-Disk", 0, failure=CmdletFailure(GERMAN, hresult=0x80070005))]
        )
    )
    with open_lab(emulated_host) as session, pytest.raises(CmdletFailed) as caught:
        session.invoke("Get-Disk", Number=1)
    assert caught.value.message == (
        f"Get-Disk failed on the host: access is denied (0x80070005); the host says: {GERMAN}"
    )
    assert caught.value.host_message.startswith(GERMAN)
