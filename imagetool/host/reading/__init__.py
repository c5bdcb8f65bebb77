"""The files of a host as sources: cached in pages, read in rounds, with readahead."""

from imagetool.host.reading.files import HostFiles

__all__ = ["HostFiles"]
