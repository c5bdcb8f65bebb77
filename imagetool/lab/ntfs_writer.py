"""Write files into an NTFS volume with libntfs-3g on device callbacks, in a process of its own.

`python -m imagetool.lab.ntfs_writer` takes a job as JSON on standard input: the disk's path, the
volume's offset and size in it, `locked` if an inherited descriptor locks the disk, and operations
(`path`, and for a file `data` in base64 or `file`, the path of its content; else a directory). The
library is GPL: nothing else imports this module, and a failure is one sentence on standard error.
"""

from __future__ import annotations

import base64
import ctypes as c
import errno
import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from imagetool.lab.cmdlet import CmdletFailure
from imagetool.lab.disks.writable import WritableDisk
from imagetool.lab.faults import DISK_WRITE, parse_faults, strike
from imagetool.lab.native_libraries import NativeFunction, load_library

_VOID_P, _INT64 = c.c_void_p, c.c_int64
_OPEN = c.CFUNCTYPE(c.c_int, _VOID_P, c.c_int)
_DEVICE_CALL = c.CFUNCTYPE(c.c_int, _VOID_P)
_SEEK = c.CFUNCTYPE(_INT64, _VOID_P, _INT64, c.c_int)
_TRANSFER = c.CFUNCTYPE(_INT64, _VOID_P, _VOID_P, _INT64)
_TRANSFER_AT = c.CFUNCTYPE(_INT64, _VOID_P, _VOID_P, _INT64, _INT64)
_STAT = c.CFUNCTYPE(c.c_int, _VOID_P, _VOID_P)
_IOCTL = c.CFUNCTYPE(c.c_int, _VOID_P, c.c_ulong, _VOID_P)
_DEVICE_IS_OPEN = 1
_AT_DATA = 0x80


class _NtfsDevice(c.Structure):
    """struct ntfs_device, device.h."""

    _fields_ = (
        ("operations", _VOID_P),
        ("state", c.c_ulong),
        ("name", c.c_char_p),
        ("private", _VOID_P),
    )


class _NtfsDeviceOperations(c.Structure):
    """struct ntfs_device_operations, device.h."""

    _fields_ = (
        ("open", _OPEN),
        ("close", _DEVICE_CALL),
        ("seek", _SEEK),
        ("read", _TRANSFER),
        ("write", _TRANSFER),
        ("pread", _TRANSFER_AT),
        ("pwrite", _TRANSFER_AT),
        ("sync", _DEVICE_CALL),
        ("stat", _STAT),
        ("ioctl", _IOCTL),
    )


_FUNCTIONS: tuple[NativeFunction, ...] = (
    ("ntfs_device_alloc", _VOID_P, (c.c_char_p, c.c_long, _VOID_P, _VOID_P)),
    ("ntfs_device_mount", _VOID_P, (_VOID_P, c.c_ulong)),
    ("ntfs_umount", c.c_int, (_VOID_P, c.c_int)),
    ("ntfs_set_ignore_case", c.c_int, (_VOID_P,)),
    ("ntfs_pathname_to_inode", _VOID_P, (_VOID_P, _VOID_P, c.c_char_p)),
    ("ntfs_inode_close", c.c_int, (_VOID_P,)),
    ("ntfs_create", _VOID_P, (_VOID_P, c.c_uint32, _VOID_P, c.c_uint8, c.c_uint32)),
    ("ntfs_attr_open", _VOID_P, (_VOID_P, c.c_uint32, _VOID_P, c.c_uint32)),
    ("ntfs_attr_pwrite", _INT64, (_VOID_P, _INT64, _INT64, _VOID_P)),
    ("ntfs_attr_truncate", c.c_int, (_VOID_P, _INT64)),
    ("ntfs_attr_close", None, (_VOID_P,)),
)


class NtfsVolumeWriter:
    """An NTFS volume of a disk, mounted for writing. Raises SystemExit where libntfs-3g fails."""

    def __init__(self, disk: WritableDisk, offset: int, size: int) -> None:
        self._disk, self._offset, self._size = disk, offset, size
        self._faults = parse_faults(os.environ.get("IMAGETOOL_LAB_FAULTS", ""))
        self._library = load_library("ntfs-3g", "libntfs-3g.so.89", "ntfs-3g", _FUNCTIONS)
        self._position = 0
        # An attribute, so that the callbacks live as long as the volume is mounted.
        self._operations = _NtfsDeviceOperations(
            _OPEN(self._open),
            _DEVICE_CALL(self._close),
            _SEEK(self._seek),
            _TRANSFER(self._read),
            _TRANSFER(self._write),
            _TRANSFER_AT(self._pread),
            _TRANSFER_AT(self._pwrite),
            _DEVICE_CALL(lambda device: 0),
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

    # The device's callbacks

    def _open(self, device: int, flags: int) -> int:
        c.cast(device, c.POINTER(_NtfsDevice))[0].state |= _DEVICE_IS_OPEN
        return 0

    def _close(self, device: int) -> int:
        c.cast(device, c.POINTER(_NtfsDevice))[0].state &= ~_DEVICE_IS_OPEN
        return 0

    def _seek(self, device: int, offset: int, whence: int) -> int:
        self._position = {0: 0, 1: self._position, 2: self._size}[whence] + offset
        return self._position

    def _pread(self, device: int, buffer: int, count: int, offset: int) -> int:
        data = self._disk.read_at(self._offset + offset, max(0, min(count, self._size - offset)))
        c.memmove(buffer, data, len(data))
        return len(data)

    def _pwrite(self, device: int, buffer: int, count: int, offset: int) -> int:
        if offset + count > self._size:
            c.set_errno(errno.ENOSPC)
            return -1
        try:
            strike(self._faults, DISK_WRITE)
        except CmdletFailure:
            c.set_errno(errno.EIO)
            return -1
        self._disk.write_at(self._offset + offset, c.string_at(buffer, count))
        return count

    def _read(self, device: int, buffer: int, count: int) -> int:
        done = self._pread(device, buffer, count, self._position)
        self._position += done
        return done

    def _write(self, device: int, buffer: int, count: int) -> int:
        done = self._pwrite(device, buffer, count, self._position)
        self._position += max(done, 0)
        return done

    # The job's operations

    def _open_inode(self, path: str) -> int | None:
        inode: int | None = self._library.ntfs_pathname_to_inode(
            self._volume, None, path.encode("utf-8")
        )
        return inode

    def _create_inode(self, path: str, kind: int) -> int:
        parent, _, name = path.rpartition("/")
        directory = self._open_inode(parent or "/")
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
        """Make a directory and its parents; existing ones are left alone."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            ancestor = "/".join(parts[:depth])
            inode = self._open_inode(ancestor) or self._create_inode(ancestor, stat.S_IFDIR)
            self._library.ntfs_inode_close(inode)

    def write_file(self, path: str, data: BinaryIO) -> None:
        """Write a file with these bytes, new or in place of its old content; make its parents."""
        length = data.seek(0, os.SEEK_END)
        data.seek(0)
        if "/" in path:
            self.make_directory(path.rpartition("/")[0])
        inode = self._open_inode(path) or self._create_inode(path, stat.S_IFREG)
        attribute = self._library.ntfs_attr_open(inode, _AT_DATA, None, 0)
        if not attribute:
            self._fail(f"opening {path}")
        if self._library.ntfs_attr_truncate(attribute, length):
            self._fail(f"giving {path} its size")
        done = 0
        while part := data.read(1 << 20):
            while part:
                count = self._library.ntfs_attr_pwrite(attribute, done, len(part), part)
                if count <= 0:
                    self._fail(f"writing {path}")
                done, part = done + count, part[count:]
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
    with WritableDisk(Path(job["disk"]), locked=job["locked"]) as disk:
        volume = NtfsVolumeWriter(disk, job["offset"], job["size"])
        for operation in job["operations"]:
            path = operation["path"].replace("\\", "/").strip("/")
            if "file" in operation:
                with Path(operation["file"]).open("rb") as file:
                    volume.write_file(path, file)
            elif "data" in operation:
                volume.write_file(path, io.BytesIO(base64.b64decode(operation["data"])))
            else:
                volume.make_directory(path)
        volume.unmount()


if __name__ == "__main__":
    main()
