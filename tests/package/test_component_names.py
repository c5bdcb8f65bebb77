"""The names of components, which Windows computes from their identities."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetool.package import open_package
from imagetool.package.component_names import component_name

_CONTROLS = {
    "name": "Microsoft.Windows.Common-Controls",
    "type": "win32",
    "publicKeyToken": "6595b64144ccf1df",
}


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        (
            {**_CONTROLS, "version": "5.82.9600.16384", "processorArchitecture": "x86"},
            "x86_microsoft.windows.common-controls_6595b64144ccf1df_5.82.9600.16384_none_"
            "7c55c866aa0c3ff0",
        ),
        (
            {
                "name": "Microsoft-Hyper-V-Integration-Services-Deployment",
                "version": "6.3.9600.18692",
                "processorArchitecture": "amd64",
                "language": "neutral",
                "buildType": "release",
                "publicKeyToken": "31bf3856ad364e35",
                "versionScope": "nonSxS",
            },
            "amd64_microsoft-hyper-v-i..services-deployment_31bf3856ad364e35_6.3.9600.18692_none_"
            "0be37b96bd203e91",
        ),
    ],
)
def test_names_that_windows_gave(attributes: dict[str, str], name: str) -> None:
    assert component_name(attributes) == name


def test_every_name_in_microsofts_packages(real_packages: Path) -> None:
    count = 0
    for path in real_packages.glob("*.cab"):
        with open_package(path) as media:
            for component in media.packages[0].components():
                assert component.directory == component.manifest.directory
                count += 1
    assert count > 60
