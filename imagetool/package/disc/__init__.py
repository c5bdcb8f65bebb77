"""Disc images: the sides by which systems read them, each judged apart.

A disc has up to four trees over the same sectors: UDF, Joliet, Rock Ridge and plain ISO 9660.
"""

from imagetool.package.disc.disc import Disc, is_disc
from imagetool.package.disc.side import DiscFile, Side

__all__ = ["Disc", "DiscFile", "Side", "is_disc"]
