"""Recognition of the file system in a volume, by its signatures."""

from __future__ import annotations

from imagetool.contracts import Source
from imagetool.errors import Encrypted, NotRecognised, Unsupported
from imagetool.filesystem.ntfs import Ntfs
from imagetool.filesystem.volume import Volume

_OEM_IDS = {
    b"NTFS    ": "NTFS",
    b"-FVE-FS-": "BitLocker",
    b"EXFAT   ": "exFAT",
    b"ReFS\0\0\0\0": "ReFS",
    b"MSWIN4.1": "FAT",
    b"mkfs.fat": "FAT",
    b"MSDOS5.0": "FAT",
}


_BTRFS_MAGIC_OFFSET = 65536 + 64  # the first superblock, and the magic in it
_RAID_MAGIC = b"\xfc\x4e\x2b\xa9"
_RAID_MAGIC_OFFSETS = (0, 4096)
"""Of a member of a Linux RAID with metadata 1.1 or 1.2; 0.90 and 1.0 lie at its end, behind the
file system that it begins with."""


def recognise(source: Source) -> str:
    """The name of the file system or container: NTFS, ReFS, BitLocker, exFAT, FAT, LUKS, XFS, LVM,
    ext, Btrfs or Linux RAID; empty where none is recognised.
    """
    head = source.read_at(0, 2048)
    superblock = head[1024:]
    known = _OEM_IDS.get(head[3:11])
    if known:
        return known
    if head[54:57] == b"FAT" or head[82:87] == b"FAT32":
        return "FAT"
    if head[:6] in (b"LUKS\xba\xbe", b"SKUL\xba\xbe"):
        return "LUKS"
    if head[:4] == b"XFSB":
        return "XFS"
    if any(head[offset : offset + 8] == b"LABELONE" for offset in range(0, 2048, 512)):
        return "LVM"
    if superblock[56:58] == b"\x53\xef":
        return "ext"
    others = [(_BTRFS_MAGIC_OFFSET, 8), *((offset, 4) for offset in _RAID_MAGIC_OFFSETS)]
    btrfs, *raid = source.read_many(others)
    if btrfs == b"_BHRfS_M":
        return "Btrfs"
    return "Linux RAID" if _RAID_MAGIC in raid else ""


def open_volume(source: Source) -> Volume:
    """The volume in `source`.

    Raises Encrypted for BitLocker and LUKS, Unsupported for a file system that is not read,
    NotRecognised where none is found, Corrupt where one is damaged.
    """
    file_system = recognise(source)
    if file_system == "NTFS":
        return Ntfs(source)
    if file_system in SUPPORTED_FILE_SYSTEMS:
        return _open_non_ntfs(file_system, source)
    if file_system in ("BitLocker", "LUKS"):
        hint = {
            "BitLocker": "Decrypt the volume in the guest (manage-bde -off) first.",
            "LUKS": "Open it with its passphrase and copy the volume out first.",
        }
        raise Encrypted(
            f"{source.name}: the volume is encrypted ({file_system})", hint=hint[file_system]
        )
    if file_system:
        raise Unsupported(
            f"{source.name}: {file_system} volumes are not read",
            hint=f"{', '.join(SUPPORTED_FILE_SYSTEMS)} volumes are.",
        )
    raise NotRecognised(
        f"{source.name}: no file system is recognised here",
        hint="`imagetool disk map` shows what lies on the disk.",
    )


SUPPORTED_FILE_SYSTEMS = ("NTFS", "ext", "XFS", "FAT")
"""The names by `recognise` of the file systems that `open_volume` reads."""


def _open_non_ntfs(file_system: str, source: Source) -> Volume:
    """Open an ext, XFS or FAT volume; its reader is imported only then."""
    if file_system == "ext":
        from imagetool.filesystem.ext import Ext

        return Ext(source)
    if file_system == "XFS":
        from imagetool.filesystem.xfs import Xfs

        return Xfs(source)
    from imagetool.filesystem.fat import Fat

    return Fat(source)
