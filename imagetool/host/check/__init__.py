"""Whether a host can be used: what was found there, and a self-test."""

from imagetool.host.check.check import HostReport, check_host

__all__ = ["HostReport", "check_host"]
