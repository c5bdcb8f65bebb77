"""The check of a host: findings on what servicing needs there, and a self-test."""

from imagetool.host.check.check import HostReport, check_host

__all__ = ["HostReport", "check_host"]
