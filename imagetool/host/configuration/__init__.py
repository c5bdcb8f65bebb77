"""Hosts by name: their addresses, credentials and path maps. Nothing here talks to a host."""

from imagetool.host.configuration.address import (
    BUILT_IN_HOSTS,
    AuthenticationMethod,
    ConfiguredHost,
)
from imagetool.host.configuration.hosts import Configuration, read_configuration

__all__ = [
    "BUILT_IN_HOSTS",
    "AuthenticationMethod",
    "Configuration",
    "ConfiguredHost",
    "read_configuration",
]
