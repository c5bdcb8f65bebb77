"""Files into an NTFS volume, by libntfs-3g on device callbacks; a process of its own.

`python -m imagetool.lab.ntfs_writer` takes a job as JSON on standard input: the disk's path, the
volume's offset and size in it, and operations (`path`, and `data` in base64 for a file; without
data a directory). The library is GPL: nothing else imports this module, and whatever happens in
here is one sentence to the process that started it.
"""

from __future__ import annotations

import base64
import ctypes as c
import errno
import json
import os
import stat
import sys
from pathlib import Path

from imagetool.lab.disk_writer import WritableDisk
from imagetool.lab.foreign import Function, load

_V, _I64 = c.c_void_p, c.c_int64
_OPEN = c.CFUNCTYPE(c.c_int, _V, c.c_int)
_ONE = c.CFUNCTYPE(c.c_int, _V)
_SEEK = c.CFUNCTYPE(_I64, _V, _I64, c.c_int)
_MOVE = c.CFUNCTYPE(_I64, _V, _V, _I64)
_MOVE_AT = c.CFUNCTYPE(_I64, _V, _V, _I64, _I64)
_STAT = c.CFUNCTYPE(c.c_int, _V, _V)
_IOCTL = c.CFUNCTYPE(c.c_int, _V, c.c_ulong, _V)
_DEVICE_IS_OPEN = 1
_DATA = 0x80


class _Device(c.Structure):
    """struct ntfs_device, device.h."""

    _fields_ = (("operations", _V), ("state", c.c_ulong), ("name", c.c_char_p), ("private", _V))


class _Operations(c.Structure):
    """struct ntfs_device_operations, device.h."""

    _fields_ = (
        ("open", _OPEN),
        ("close", _ONE),
        ("seek", _SEEK),
        ("read", _MOVE),
        ("write", _MOVE),
        ("pread", _MOVE_AT),
        ("pwrite", _MOVE_AT),
        ("sync", _ONE),
        ("stat", _STAT),
        ("ioctl", _IOCTL),
    )


_FUNCTIONS: tuple[Function, ...] = (
    ("ntfs_device_alloc", _V, (c.c_char_p, c.c_long, _V, _V)),
    ("ntfs_device_mount", _V, (_V, c.c_ulong)),
    ("ntfs_umount", c.c_int, (_V, c.c_int)),
    ("ntfs_set_ignore_case", c.c_int, (_V,)),
    ("ntfs_pathname_to_inode", _V, (_V, _V, c.c_char_p)),
    ("ntfs_inode_close", c.c_int, (_V,)),
    ("ntfs_create", _V, (_V, c.c_uint32, _V, c.c_uint8, c.c_uint32)),
    ("ntfs_attr_open", _V, (_V, c.c_uint32, _V, c.c_uint32)),
    ("ntfs_attr_pwrite", _I64, (_V, _I64, _I64, _V)),
    ("ntfs_attr_truncate", c.c_int, (_V, _I64)),
    ("ntfs_attr_close", None, (_V,)),
)


class Volume:
    """A mounted volume."""

    def __init__(self, disk: WritableDisk, offset: int, size: int) -> None:
        self._disk, self._offset, self._size = disk, offset, size
        self._library = load("ntfs-3g", "libntfs-3g.so.89", "ntfs-3g", _FUNCTIONS)
        self._place = 0
        # Kept here, for the library calls them as long as the volume is mounted.
        self._operations = _Operations(
            _OPEN(self._open),
            _ONE(self._close),
            _SEEK(self._seek),
            _MOVE(self._read),
            _MOVE(self._write),
            _MOVE_AT(self._pread),
            _MOVE_AT(self._pwrite),
            _ONE(lambda device: 0),
            _STAT(lambda device, buffer: -1),
            _IOCTL(lambda device, request, argument: -1),
        )
        device = self._library.ntfs_device_alloc(b"image", 0, c.byref(self._operations), None)
        self._volume = self._library.ntfs_device_mount(device, 0) if device else None
        if not self._volume:
            self._fail("mounting the volume")
        self._library.ntfs_set_ignore_case(self._volume)

    def _fail(self, what: str) -> None:
        number = c.get_errno()
        raise SystemExit(f"{what} failed: {os.strerror(number) if number else 'no reason given'}")

    # What the library asks of its device

    def _open(self, device: int, flags: int) -> int:
        c.cast(device, c.POINTER(_Device))[0].state |= _DEVICE_IS_OPEN
        return 0

    def _close(self, device: int) -> int:
        c.cast(device, c.POINTER(_Device))[0].state &= ~_DEVICE_IS_OPEN
        return 0

    def _seek(self, device: int, offset: int, whence: int) -> int:
        self._place = {0: 0, 1: self._place, 2: self._size}[whence] + offset
        return self._place

    def _pread(self, device: int, buffer: int, count: int, offset: int) -> int:
        data = self._disk.read_at(self._offset + offset, max(0, min(count, self._size - offset)))
        c.memmove(buffer, data, len(data))
        return len(data)

    def _pwrite(self, device: int, buffer: int, count: int, offset: int) -> int:
        if offset + count > self._size:
            c.set_errno(errno.ENOSPC)
            return -1
        self._disk.write_at(self._offset + offset, c.string_at(buffer, count))
        return count

    def _read(self, device: int, buffer: int, count: int) -> int:
        done = self._pread(device, buffer, count, self._place)
        self._place += done
        return done

    def _write(self, device: int, buffer: int, count: int) -> int:
        done = self._pwrite(device, buffer, count, self._place)
        self._place += max(done, 0)
        return done

    # What the job asks

    def _find(self, path: str) -> int | None:
        inode: int | None = self._library.ntfs_pathname_to_inode(
            self._volume, None, path.encode("utf-8")
        )
        return inode

    def _create(self, path: str, kind: int) -> int:
        parent, _, name = path.rpartition("/")
        directory = self._find(parent or "/")
        if not directory:
            self._fail(f"finding {parent}")
        raw = name.encode("utf-16-le")
        inode: int = self._library.ntfs_create(
            directory, 0, c.create_string_buffer(raw, len(raw)), len(raw) // 2, kind
        )
        if not inode:
            self._fail(f"making {path}")
        self._library.ntfs_inode_close(directory)
        return inode

    def make_directory(self, path: str) -> None:
        """A directory, with all directories above it; those that are there are left alone."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            inode = self._find(here) or self._create(here, stat.S_IFDIR)
            self._library.ntfs_inode_close(inode)

    def write_file(self, path: str, data: bytes) -> None:
        """A file with these bytes, new or in place of what it held."""
        if "/" in path:
            self.make_directory(path.rpartition("/")[0])
        inode = self._find(path) or self._create(path, stat.S_IFREG)
        attribute = self._library.ntfs_attr_open(inode, _DATA, None, 0)
        if not attribute:
            self._fail(f"opening {path}")
        if self._library.ntfs_attr_truncate(attribute, len(data)):
            self._fail(f"giving {path} its size")
        done = 0
        while done < len(data):
            part = data[done : done + (1 << 20)]
            count = self._library.ntfs_attr_pwrite(attribute, done, len(part), part)
            if count <= 0:
                self._fail(f"writing {path}")
            done += count
        self._library.ntfs_attr_close(attribute)
        if self._library.ntfs_inode_close(inode):
            self._fail(f"closing {path}")

    def unmount(self) -> None:
        """Write everything and mark the volume clean."""
        if self._library.ntfs_umount(self._volume, 0):
            self._fail("unmounting the volume")


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin)
    with WritableDisk(Path(job["disk"])) as disk:
        volume = Volume(disk, job["offset"], job["size"])
        for operation in job["operations"]:
            path = operation["path"].replace("\\", "/").strip("/")
            if "data" in operation:
                volume.write_file(path, base64.b64decode(operation["data"]))
            else:
                volume.make_directory(path)
        volume.unmount()


if __name__ == "__main__":
    main()
