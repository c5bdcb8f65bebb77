"""A session with the real engine, and modules of test functions that it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagetool.host.local import open_local
from imagetool.host.session import Session

# Functions under names that the script allows, so that it runs them as it would the real ones.
MODULE = r"""
function Get-VHD {
    [CmdletBinding()] param($Path)
    process {
        $type = ''
        if ($null -ne $Path) { $type = $Path.GetType().FullName }
        [pscustomobject]@{ Value = $Path; Type = $type }
    }
}
function Test-VHD {
    [CmdletBinding()] param($Path)
    process {
        $PSCmdlet.WriteWarning('a warning')
        $record = [Management.Automation.ProgressRecord]::new(0, 'work', 'half way')
        $record.PercentComplete = 50
        $PSCmdlet.WriteProgress($record)
        for ($i = 0; $i -lt 1000; $i++) {
            if ([IO.File]::Exists($Path)) { break }
            [Threading.Thread]::Sleep(20)
        }
        [IO.File]::Exists($Path)
    }
}
function Add-WindowsPackage {
    [CmdletBinding()] param($Path)
    process {
        $inner = [Runtime.InteropServices.COMException]::new('not applicable', -2146498530)
        $outer = [Exception]::new('outer', $inner)
        $record = [Management.Automation.ErrorRecord]::new($outer, 'Id', 'InvalidData', $null)
        $PSCmdlet.WriteError($record)
    }
}
function Get-WindowsPackage { [CmdletBinding()] param() process { throw 'thrown' } }
function Set-Disk {
    [CmdletBinding()] param($Number)
    process { [IO.File]::AppendAllText($Number, 'x'); 'counted' }
}
function Get-Volume {
    [CmdletBinding()] param()
    process { for ($i = 0; $i -lt 600; $i++) { [Threading.Thread]::Sleep(100) } }
}
function Mount-VHD { [CmdletBinding()] param($Path) process { } }
function Dismount-VHD {
    [CmdletBinding()] param($Path)
    process { [IO.File]::WriteAllText($Path + '.dismounted', 'yes') }
}
function Get-Disk {
    [CmdletBinding()] param()
    process {
        [pscustomobject]@{
            Style = [IO.FileAttributes]::ReadOnly
            List = @('a', 'b')
            One = @('a')
            When = [DateTime]::SpecifyKind([DateTime]::new(2024, 3, 5, 9, 30, 0), 'Utc')
            Id = [Guid] '6f9619ff-8b86-d011-b42d-00cf4fc964ff'
            Version = [Version] '6.3.9600.16384'
            Big = [UInt64]::MaxValue
            Nothing = $null
            Nested = @{ a = 1 }
        }
    }
}
Export-ModuleMember -Function *
"""

# Under names that the emulated host does not have, so that both can be there.
BESIDE_THE_LAB = r"""
function Get-VMHost {
    [CmdletBinding()] param($Name)
    process {
        if ([string] $Name -match '^(\d+) results$') {
            foreach ($i in 0..([int] $Matches[1] - 1)) {
                [pscustomobject]@{ Text = 'x' * 1000; Number = $i }
            }
            return
        }
        if ($Name -is [int]) {
            for ($i = 0; $i -lt $Name * 10; $i++) { [Threading.Thread]::Sleep(100) }
        }
        [pscustomobject]@{ Value = $Name; Stamp = [Guid]::NewGuid() }
    }
}
function Enable-VMIntegrationService {
    [CmdletBinding()] param($VM, $Name)
    process { [pscustomobject]@{ Stamp = $VM.Stamp; Name = $Name; Same = $VM -is [psobject] } }
}
function Disable-VMIntegrationService {
    [CmdletBinding()] param($Name)
    process { [IO.File]::AppendAllText($Name, 'x'); 'counted' }
}
function Get-VMIntegrationService {
    [CmdletBinding()] param()
    process {
        $PSCmdlet.WriteWarning('first'); $PSCmdlet.WriteWarning('second')
        foreach ($text in 'one', 'two') {
            $said = [Exception]::new($text)
            $record = [Management.Automation.ErrorRecord]::new($said, $text, 'InvalidData', $null)
            $PSCmdlet.WriteError($record)
        }
    }
}
Export-ModuleMember -Function *
"""


def write_module(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir()
    (folder / name / f"{name}.psm1").write_text(text, encoding="utf-8")
    names = re.findall(r"^function (\S+)", text, re.MULTILINE)
    listed = ", ".join(f"'{item}'" for item in names)
    manifest = (
        f"@{{ RootModule = '{name}.psm1'; ModuleVersion = '1.0'; FunctionsToExport = @({listed}) }}"
    )
    (folder / name / f"{name}.psd1").write_text(manifest, encoding="utf-8")


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    write_module(folder, "Probe", MODULE)
    return folder


@pytest.fixture(scope="session")
def modules_beside_the_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside")
    write_module(folder, "Beside", BESIDE_THE_LAB)
    return folder


@pytest.fixture
def start(engine: str, modules: Path) -> Callable[..., Session]:
    def open_it(**environment: str) -> Session:
        return open_local(engine, {"PSModulePath": str(modules), **environment})

    return open_it


@pytest.fixture(scope="module")
def session(engine: str, modules: Path) -> Iterator[Session]:
    with open_local(engine, {"PSModulePath": str(modules)}) as opened:
        yield opened


@pytest.fixture(scope="session")
def lab(engine: str) -> Iterator[Session]:
    """One session with the emulated host under the real engine, for whatever only reads."""
    from imagetool.lab.emulated_host import EmulatedHost
    from imagetool.lab.session import open_lab

    with open_lab(EmulatedHost(), engine=engine) as opened:
        yield opened
