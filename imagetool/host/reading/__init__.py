"""The files of a host as bytes: in pages, in rounds, with what is likely to be asked for next."""

from imagetool.host.reading.files import HostFiles

__all__ = ["HostFiles"]
