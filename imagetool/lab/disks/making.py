"""New disk files: empty ones, children of others, and copies of another kind or format."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

from imagetool.disk import FileSource, open_disk
from imagetool.disk.container import Disk
from imagetool.disk.vhd import Vhd
from imagetool.disk.vhdx import Vhdx
from imagetool.errors import Unsupported
from imagetool.lab.disks.new_vhd import write_vhd
from imagetool.lab.disks.new_vhdx import write_vhdx
from imagetool.lab.disks.shape import Shape
from imagetool.lab.disks.writable import WritableDisk

_VHD_BLOCK_SIZE, _VHDX_BLOCK_SIZE, _CHILD_BLOCK_SIZE = 2 << 20, 32 << 20, 2 << 20
_COPIED_BYTES = 1 << 20


def is_vhdx_name(path: Path) -> bool:
    """True if a file of that name is a VHDX: Windows goes by the name."""
    return path.suffix.lower() in (".vhdx", ".avhdx")


def default_block_size(path: Path, kind: str) -> int:
    """Return the block size of a new disk, in bytes."""
    if not is_vhdx_name(path):
        return _VHD_BLOCK_SIZE
    return _CHILD_BLOCK_SIZE if kind == "differencing" else _VHDX_BLOCK_SIZE


def make_disk(path: Path, shape: Shape) -> None:
    """Make a new disk of zeros. Raises CannotWrite where the file exists or cannot be written."""
    (write_vhdx if is_vhdx_name(path) else write_vhd)(path, shape)


def make_child(path: Path, parent: Path, block_size: int = 0) -> None:
    """Make a differencing disk. Raises CannotWrite, Unsupported for a parent of another format."""
    with ExitStack() as stack:
        disk = _open(parent, stack)
        shape = Shape(
            "differencing",
            disk.size,
            block_size or default_block_size(path, "differencing"),
            disk.sector_size,
        )
        if isinstance(disk, Vhdx) and is_vhdx_name(path):
            write_vhdx(path, shape, (parent, disk))
        elif isinstance(disk, Vhd) and not is_vhdx_name(path):
            write_vhd(path, shape, (parent, disk))
        else:
            raise Unsupported(f"{path}: the child of a {disk.format} disk is one as well")


def convert_disk(source: Path, target: Path, kind: str = "", block_size: int = 0) -> None:
    """Copy a disk, with all its parents, into a new file. Its identifier is a new one.

    The format follows the name of the target; the kind that of the source, a child's is dynamic.
    Raises CannotWrite.
    """
    with ExitStack() as stack:
        disk = _open(source, stack)
        own = "dynamic" if disk.kind == "differencing" else disk.kind
        chosen = kind or own
        size = block_size or default_block_size(target, chosen)
        make_disk(target, Shape(chosen, disk.size, size, disk.sector_size))
        try:
            copy_content(disk, target)
        except BaseException:  # an interruption, too
            target.unlink()
            raise


def compact_disk(path: Path) -> None:
    """Write a dynamic disk anew without blocks of zeros, under its name and identifier.

    A fixed disk and a child stay as they are. Raises CannotWrite.
    """
    part = path.with_name(f"{path.name}.part{path.suffix}")
    with ExitStack() as stack:
        disk = _open(path, stack)
        if disk.kind != "dynamic":
            return
        identifier = disk.identifiers["VirtualDiskId" if isinstance(disk, Vhdx) else "UniqueId"]
        block_size = (
            disk.metadata.block_size if isinstance(disk, Vhdx) else default_block_size(path, "")
        )
        shape = Shape(
            "dynamic", disk.size, block_size, disk.sector_size, identifier=UUID(identifier)
        )
        make_disk(part, shape)
        try:
            copy_content(disk, part)
        except BaseException:  # an interruption, too
            part.unlink()
            raise
    part.replace(path)


def copy_content(disk: Disk, target: Path) -> None:
    """Write what a disk has that is not zeros into a new one of zeros."""
    with WritableDisk(target) as written:
        for start, length in disk.allocated_ranges():
            for offset in range(start, start + length, _COPIED_BYTES):
                data = disk.read_at(offset, min(_COPIED_BYTES, start + length - offset))
                if data.strip(b"\0"):
                    written.write_at(offset, data)


def _open(path: Path, stack: ExitStack) -> Disk:
    source = stack.enter_context(FileSource(path))
    disk = open_disk(source)
    stack.callback(disk.close)
    return disk
