"""Prefetch what every verdict and inspection reads, before it is known which volume holds Windows.

Where a read is a round trip, a path that is walked alone costs as many of them as it has names. The
files and directories that are always read are therefore walked together, beside the search for
Windows itself.
"""

from __future__ import annotations

from functools import partial

from imagetool.filesystem import Volume
from imagetool.guest.image import Image
from imagetool.guest.windows.components import VERSIONED_FILES
from imagetool.guest.windows.drivers import DRIVER_STORE, file_version
from imagetool.guest.windows.installation import HIVE_DIRECTORY
from imagetool.guest.windows.payload import prefetch_payload
from imagetool.package.identity import INTEGRATION_PACKAGE_NAMES

_HIVES = (f"{HIVE_DIRECTORY}\\SOFTWARE", f"{HIVE_DIRECTORY}\\SYSTEM")
_DIRECTORIES = (DRIVER_STORE, "Windows\\WinSxS\\Manifests")
_HIVE_BEGINNING = 65536


def prefetch_windows(image: Image) -> None:
    """Read what a verdict or an inspection will read; a task for `Image.prefetch`."""
    for device in image.block_devices:
        if device.file_system != "NTFS":
            continue
        volume = image.volume(device)
        image.prefetch(
            *(partial(_read_beginning, volume, path) for path in _HIVES),
            *(partial(_read_version, volume, path) for path in VERSIONED_FILES),
            # A name that is not there leads to where it would be.
            *(partial(volume.find, f"{path}\\amd64") for path in _DIRECTORIES),
            partial(prefetch_payload, image, volume, INTEGRATION_PACKAGE_NAMES[0]),
            partial(getattr, volume, "warnings"),
        )


def _read_beginning(volume: Volume, path: str) -> None:
    node = volume.find(path)
    if node is not None and not node.is_directory:
        node.open().read_at(0, _HIVE_BEGINNING)


def _read_version(volume: Volume, path: str) -> None:
    file_version(volume.find(path))
