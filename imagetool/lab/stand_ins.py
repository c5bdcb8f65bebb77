"""PowerShell modules that stand in for Hyper-V, Storage and Dism.

Their functions are generated from the table of the real cmdlets' parameters, so PowerShell binds
them as it would bind the real ones; a body sends its parameters to the emulated host over a
loopback socket and outputs the answer's records (stand_in.ps1).
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

from imagetool.lab import native_libraries
from imagetool.lab.cmdlet_facts import CmdletFacts, Parameter, cmdlets

# Types that PowerShell has without Windows; every other parameter takes any object.
_TYPES = {
    "String", "String[]", "UInt32", "UInt32[]", "UInt64", "UInt64[]", "Int32", "Int64", "Boolean",
    "Char[]", "Guid", "Guid[]",
}  # fmt: skip


def module_names(*, hyper_v: bool = True) -> tuple[str, ...]:
    """Return the names of the modules, as their directories have them.

    Dism is there where images can be written, Hyper-V unless the host has none.
    """
    names = ["CimCmdlets", "Storage"]
    if hyper_v:
        names.append("Hyper-V")
    return tuple(["Dism", *names] if native_libraries.writers_installed() else names)


def write_modules(folder: Path, *, hyper_v: bool = True) -> None:
    """Write the modules into `folder`, for PSModulePath.

    They read the file `endpoint` beside it, which HostServer.write_endpoint writes.
    """
    common = files("imagetool.lab").joinpath("stand_in.ps1").read_text(encoding="ascii")
    by_module: dict[str, list[CmdletFacts]] = defaultdict(list)
    for facts in cmdlets().values():
        by_module[facts.module].append(facts)
    for module, members in by_module.items():
        if module.lower() not in map(str.lower, module_names(hyper_v=hyper_v)):
            shutil.rmtree(folder / module, ignore_errors=True)  # of an earlier start
            continue
        directory = folder / module
        directory.mkdir(parents=True, exist_ok=True)
        names = ", ".join(f"'{facts.name}'" for facts in members)
        text = common + "\n".join(_function(facts) for facts in members)
        text += f"\nExport-ModuleMember -Function {names}\n"
        (directory / f"{module}.psm1").write_text(text, encoding="ascii")
        manifest = (
            f"@{{ RootModule = '{module}.psm1'; ModuleVersion = '2.0.0.0'; "
            f"FunctionsToExport = @({names}); CmdletsToExport = @(); AliasesToExport = @() }}\n"
        )
        (directory / f"{module}.psd1").write_text(manifest, encoding="ascii")


def _function(facts: CmdletFacts) -> str:
    binding = [f"DefaultParameterSetName = '{facts.default_set}'"] if facts.default_set else []
    if facts.should_process:
        binding.append("SupportsShouldProcess = $true")
    listed = ",\n".join(_parameter(parameter) for parameter in facts.parameters)
    return (
        f"\nfunction {facts.name} {{\n    [CmdletBinding({', '.join(binding)})]\n    param(\n"
        f"{listed}\n    )\n    process {{ Invoke-Lab $PSCmdlet '{facts.name}' $PSBoundParameters }}"
        "\n}\n"
    )


def _parameter(parameter: Parameter) -> str:
    lines = []
    for name in parameter.sets or ("",):
        parts = [f"ParameterSetName = '{name}'"] if name else []
        if parameter.required:
            parts.append("Mandatory = $true")
        if parameter.position is not None:
            parts.append(f"Position = {parameter.position}")
        if "ByValue" in parameter.pipeline:
            parts.append("ValueFromPipeline = $true")
        if "ByPropertyName" in parameter.pipeline:
            parts.append("ValueFromPipelineByPropertyName = $true")
        lines.append(f"[Parameter({', '.join(parts)})]")
    if parameter.aliases:
        lines.append("[Alias(" + ", ".join(f"'{alias}'" for alias in parameter.aliases) + ")]")
    if parameter.values:
        lines.append("[ValidateSet(" + ", ".join(f"'{v}'" for v in parameter.values) + ")]")
    kind = "switch" if parameter.type == "SwitchParameter" else parameter.type
    lines.append(f"[{kind if kind == 'switch' or kind in _TYPES else 'object'}] ${parameter.name}")
    return "\n".join(f"        {line}" for line in lines)
