"""What will be asked of a Windows volume, read before anybody knows whether it is one.

Where a read is a round trip, a path that is walked alone costs as many of them as it has names. The
files and directories that every verdict looks at are therefore walked together, beside the search
for Windows itself; the hives are begun as soon as they are found.
"""

from __future__ import annotations

from functools import partial

from imagetool.filesystem import Volume
from imagetool.guest.components import INTEGRATION_PACKAGE_NAMES, VERSIONED_FILES
from imagetool.guest.drivers import DRIVER_STORE, file_version
from imagetool.guest.image import Image
from imagetool.guest.installation import HIVE_DIRECTORY
from imagetool.guest.payload import foresee

_HIVES = (f"{HIVE_DIRECTORY}\\SOFTWARE", f"{HIVE_DIRECTORY}\\SYSTEM")
_DIRECTORIES = (DRIVER_STORE, "Windows\\WinSxS\\Manifests")
_HEAD = 65536


def look_ahead(image: Image) -> None:
    """Read what a verdict or an inspection will read; a question for `Image.ahead`."""
    for device in image.block_devices:
        if device.file_system != "NTFS":
            continue
        volume = image.volume(device)
        image.ahead(partial(_head, volume, path) for path in _HIVES)
        image.ahead(partial(_version, volume, path) for path in VERSIONED_FILES)
        # A name that is not there leads to where it would be.
        image.ahead(partial(volume.find, f"{path}\\amd64") for path in _DIRECTORIES)
        image.ahead(
            [
                partial(foresee, image, volume, INTEGRATION_PACKAGE_NAMES[0]),
                partial(getattr, volume, "warnings"),
            ]
        )


def _head(volume: Volume, path: str) -> None:
    node = volume.find(path)
    if node is not None and not node.is_directory:
        node.open().read_at(0, _HEAD)


def _version(volume: Volume, path: str) -> None:
    file_version(volume.find(path))
