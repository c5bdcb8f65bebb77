"""The roots that packages are trusted under, beside Microsoft's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def read_trusted_roots(paths: Sequence[str | Path]) -> list[Certificate]:
    """Read the root certificates in files. Raises CannotOpen, NotRecognised."""
    if not paths:
        return []  # without an import of cryptography, which takes a good part of a verdict's time
    from imagetool.package.signature.certificates import read_roots

    return [root for path in paths for root in read_roots(path)]
