"""Which host a name means, how directories correspond, and as whom one goes there.

Nothing here talks to a host.
"""

from imagetool.host.configuration.address import (
    AUTHENTICATION_METHODS,
    BUILT_IN_HOSTS,
    AuthenticationMethod,
    Host,
    PathMap,
)
from imagetool.host.configuration.file import CONFIG_VARIABLE
from imagetool.host.configuration.hosts import Configuration, read_configuration

__all__ = [
    "AUTHENTICATION_METHODS",
    "BUILT_IN_HOSTS",
    "CONFIG_VARIABLE",
    "AuthenticationMethod",
    "Configuration",
    "Host",
    "PathMap",
    "read_configuration",
]
