"""Cabinets, and what compresses them."""

from imagetool.package.cab.cabinet import Cabinet, CabinetMember

__all__ = ["Cabinet", "CabinetMember"]
