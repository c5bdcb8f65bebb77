"""Which host."""
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True)
class Host:
    """A host."""
    name: str
    url: str
    transport: str = "ntlm"
    user: str = ""
    certificate: str = ""
    validate: bool = True
    script: str = ""
    script_sha256: str = ""
    proxy: str = ""
    client_certificate: str = ""
    client_key: str = ""
    delegate: bool = False
