"""Cabinet files ([MS-CAB])."""

from imagetool.package.cab.cabinet import Cabinet, CabinetMember

__all__ = ["Cabinet", "CabinetMember"]
