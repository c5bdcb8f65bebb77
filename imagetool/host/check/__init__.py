"""Whether a host can be used: what was found there, and a self-test."""

from imagetool.host.check.check import Checked, check_host

__all__ = ["Checked", "check_host"]
