"""Which host a name means, how directories correspond, and as whom one goes there.

Nothing here talks to a host.
"""

from imagetool.host.configuration.address import BUILT_IN, TRANSPORTS, Host, Pairs, Transport
from imagetool.host.configuration.file import CONFIG
from imagetool.host.configuration.hosts import Configuration, read_configuration

__all__ = [
    "BUILT_IN", "CONFIG", "TRANSPORTS", "Configuration", "Host", "Pairs", "Transport",
    "read_configuration",
]  # fmt: skip
