"""A session with the real engine, and modules of test functions that it finds."""

from __future__ import annotations

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
        [Threading.Thread]::Sleep(300)
        'done'
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
NAMES = ["Get-VHD", "Test-VHD", "Add-WindowsPackage", "Get-WindowsPackage", "Set-Disk"]
NAMES += ["Get-Volume", "Mount-VHD", "Dismount-VHD", "Get-Disk"]


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "Probe").mkdir()
    (folder / "Probe/Probe.psm1").write_text(MODULE, encoding="utf-8")
    listed = ", ".join(f"'{name}'" for name in NAMES)
    manifest = (
        f"@{{ RootModule = 'Probe.psm1'; ModuleVersion = '1.0'; FunctionsToExport = @({listed}) }}"
    )
    (folder / "Probe/Probe.psd1").write_text(manifest, encoding="utf-8")
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
    from imagetool.lab.session import LabSession
    from imagetool.lab.world import World

    with LabSession(World({}), engine) as opened:
        yield opened
