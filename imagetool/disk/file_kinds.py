"""Kinds of files by their content, named where an image or a package is wanted, and what to do.

Little is read: the first sector, the descriptors of an ISO 9660, and the last sector.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, replace

from imagetool.contracts import Source

_HEAD_SIZE = 4096
_TEXT_SIZE = 512
_DISC_OFFSET = 16 * 2048  # the volume descriptors (ECMA-119, 6.3; ECMA-167)
_DISC_SIGNATURES = (b"CD001", b"BEA01", b"NSR02", b"NSR03")
_VMDK_COMPRESSED = 1 << 16  # of the flags of a sparse VMDK: its grains are compressed

_CONVERT = "Convert it: qemu-img convert -O vhdx {file} {vhdx}"
_IMAGE_WANTED = "Name a VHDX, a VHD or a raw disk."
PACKAGE_WANTED = "Name a vmguest.iso, a CAB, or a folder that a CAB was extracted into."
_IMAGE_NAMED = "That is an image; " + PACKAGE_WANTED[0].lower() + PACKAGE_WANTED[1:]
_PACKAGE_NAMED = "`imagetool package show` looks into packages; here an image is wanted."
_HIVE = "`imagetool registry list FILE KEY` reads hive files; here an image is wanted."
_EXPORT = (
    "An export cannot be read: name the image, or the hive itself (Windows/System32/config/…)."
)
_MSU_IN_WIM = "Extract it first: 7z x {file}, or wimlib-imagex extract {file} 1"


@dataclass(frozen=True, slots=True)
class FileKind:
    """The kind of a file, as a noun phrase, and what to do where another kind is wanted."""

    name: str
    as_image: str = _IMAGE_WANTED
    """What to do where it stands for an image."""
    as_package: str = PACKAGE_WANTED
    """What to do where it stands for a package."""
    is_image: bool = False
    """True for a disk image that is read."""
    suffix: str = ""
    """The suffix that its tool expects and takes away, or that no file in an archive has."""
    without_suffix: str = ""
    """What to do where it has another suffix: the result has a name of its own."""

    def for_file(self, path: str) -> FileKind:
        """Return it with the commands in its hints naming the file at `path`."""
        file = _file_name(path)
        stem, dot, suffix = file.rpartition(".")
        stem, suffix = (stem, dot + suffix) if stem.strip("./") else (file, "")
        vhdx = f"{stem}-converted.vhdx" if suffix.lower() == ".vhdx" else f"{stem}.vhdx"
        names = {
            "file": shlex.quote(file),
            "vhdx": shlex.quote(vhdx),
            "other": shlex.quote(f"{stem}-unpacked{suffix}"),
            "folder": shlex.quote(f"{stem}-unpacked"),
        }
        other = "" if file.endswith(self.suffix) else self.without_suffix
        return replace(
            self,
            as_image=(other or self.as_image).format(**names),
            as_package=(other or self.as_package).format(**names),
        )


def _file_name(path: str) -> str:
    """The name of a file as a command in its directory takes it; FILE for one that cannot be typed.

    To many tools a name means something else that begins with - or @, or has a colon.
    """
    on_windows = os.name == "nt" or ":\\" in path
    name = re.split(r"[\\/]" if on_windows else "/", path)[-1]
    if not name.isprintable():
        return "FILE"
    return f"./{name}" if name.startswith(("-", "@")) or ":" in name else name


def _disk(name: str) -> FileKind:
    return FileKind(name, _CONVERT, _IMAGE_NAMED)


def _own(name: str) -> FileKind:
    return FileKind(name, as_package=_IMAGE_NAMED, is_image=True)


def _compressed(tool: str, suffix: str) -> FileKind:
    hint = f"Decompress it first: {tool} -d {{file}}"
    other = f"Decompress it first: {tool} -dc {{file}} > {{other}}"
    return FileKind(tool, hint, hint, suffix=suffix, without_suffix=other)


def _archive(name: str, suffix: str, command: str, into_folder: str) -> FileKind:
    """An archive; one of another suffix may hold a file of its own name."""
    hint, other = f"Extract it first: {command}", f"Extract it first: {into_folder}"
    return FileKind(name, hint, hint, suffix=suffix, without_suffix=other)


_UNZIP = (".zip", "unzip {file}", "unzip {file} -d {folder}")


_TEXT = FileKind("a text file")
_REGISTRY_EXPORT = FileKind("a registry export (.reg), a text file", _EXPORT)
_VMDK_DESCRIPTOR = FileKind(
    "the descriptor of a VMDK disk, a text file",
    "It only names the disk's other files; with all of them beside it, c"
    + _CONVERT[1:].replace("it:", "the disk:"),
    _IMAGE_NAMED,
)
_DISC = FileKind("an ISO, a disc", _PACKAGE_NAMED)

_SIGNATURES = (
    (0, b"QFI\xfb\0\0\0\1", _disk("a QCOW disk")),
    (0, b"QFI\xfb", _disk("a QCOW2 disk")),
    (0, b"QED\0", _disk("a QED disk")),
    (0, b"COWD", _disk("a VMDK disk of ESX")),
    (64, b"\x7f\x10\xda\xbe", _disk("a VDI disk")),
    (0, b"WithoutFreeSpace", _disk("a disk of Parallels")),
    (0, b"WithouFreSpacExt", _disk("a disk of Parallels")),
    (0, b"vhdxfile", _own("a VHDX disk")),
    (0, b"conectix", _own("a VHD disk")),
    (
        0,
        b"EVF\x09\r\n\xff\0",
        FileKind("an EnCase image", "Export it: ewfexport {file}"),
    ),
    (0, b"\x1f\x8b\x08", _compressed("gzip", ".gz")),
    (0, b"\xfd7zXZ\0", _compressed("xz", ".xz")),
    (0, b"\x28\xb5\x2f\xfd", _compressed("zstd", ".zst")),
    (0, b"\x04\x22\x4d\x18", _compressed("lz4", ".lz4")),
    (0, b"PK\x03\x04", _archive("a zip archive", *_UNZIP)),
    (0, b"PK\x05\x06", _archive("an empty zip archive", *_UNZIP)),
    (
        0,
        b"7z\xbc\xaf\x27\x1c",
        _archive("a 7z archive", ".7z", "7z x {file}", "7z x {file} -o{folder}"),
    ),
    (
        0,
        b"Rar!\x1a\x07",
        _archive("a RAR archive", ".rar", "unrar x {file}", "unrar x {file} {folder}/"),
    ),
    (
        257,
        b"ustar",
        _archive(
            "a tar archive, as an OVA is",
            ".tar",
            "tar -xf {file}",
            "mkdir {folder} && tar -xf {file} -C {folder}",
        ),
    ),
    (0, b"MSCF", FileKind("a cabinet, as packages and updates are", _PACKAGE_NAMED)),
    (0, b"regf", FileKind("a registry hive", _HIVE)),
    (0, b"MZ", FileKind("a Windows program")),
    (0, b"\x7fELF", FileKind("a program")),
)


def recognise_file(source: Source) -> FileKind | None:
    """Return the kind of a file; None where its content says none: it may be a raw disk."""
    first = max(0, source.size - 512)
    head, disc, tail = source.read_many(((0, _HEAD_SIZE), (_DISC_OFFSET, 6), (first, 512)))
    kind = _recognise(source.name, head, disc, tail)
    return None if kind is None else kind.for_file(source.name)


def _recognise(name: str, head: bytes, disc: bytes, tail: bytes) -> FileKind | None:
    if head.startswith(b"KDMV"):
        flags = int.from_bytes(head[8:12], "little")
        stream = "stream-optimised " if flags & _VMDK_COMPRESSED else ""
        return _disk(f"a {stream}VMDK disk")
    if head.startswith(b"MSWIM\0\0\0"):
        if name.lower().endswith(".msu"):
            return FileKind("an MSU, an update in a WIM archive", as_package=_MSU_IN_WIM)
        return FileKind("a WIM archive, as an ESD is", as_package=_MSU_IN_WIM)
    if head.startswith(b"# Disk DescriptorFile"):  # which NULs may follow
        return _VMDK_DESCRIPTOR
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return _compressed("bzip2", ".bz2")
    for offset, signature, kind in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return kind
    if tail.startswith(b"koly"):
        return FileKind("a DMG disk of macOS", _CONVERT.replace("-O", "-f dmg -O"), _IMAGE_NAMED)
    if tail.startswith(b"conectix"):
        return _own("a VHD disk")
    if head[510:512] == b"\x55\xaa":
        # A disk, also where a disc's descriptors lie on it: hybrid ISOs boot from sticks.
        return _own("a raw disk")
    if disc[1:] in _DISC_SIGNATURES:
        return _DISC
    return _recognise_text(head[:_TEXT_SIZE])


def _recognise_text(head: bytes) -> FileKind | None:
    """Recognise text in UTF-8, in a code page of Windows, or in UTF-16 with its mark."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[: len(head) & ~1].decode("utf-16", "replace")
    else:
        text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    if any(char < " " and char not in "\t\r\n\f\x1a\x1b" for char in text):
        return None
    if text.startswith(("Windows Registry Editor", "REGEDIT4")):
        return _REGISTRY_EXPORT
    # Most of a text in a code page is ASCII as well; a disk of one byte over and over is no text.
    return _TEXT if text.count("\ufffd") * 2 < len(text) else None
