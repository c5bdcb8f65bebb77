"""The parent locator of a differencing VHDX ([MS-VHDX] 2.6.2.6)."""

from __future__ import annotations

from uuid import UUID

from imagetool.contracts import Source
from imagetool.disk.declarations import Bytes, Int16ul, Int32ul, Padding, Struct
from imagetool.disk.guid import guid_text
from imagetool.disk.parents import ParentLocator
from imagetool.disk.source import read_exactly
from imagetool.disk.struct_layout import StructLayout
from imagetool.errors import Corrupt, Unsupported

Head = StructLayout(Struct("type" / Bytes(16), Padding(2), "count" / Int16ul))
Entry = StructLayout(
    Struct(
        "key_offset" / Int32ul,
        "value_offset" / Int32ul,
        "key_length" / Int16ul,
        "value_length" / Int16ul,
    )
)
_HEAD_SIZE, _ENTRY_SIZE = 20, 12
_VHDX_LOCATOR = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913").bytes_le
_MAX_LOCATOR_SIZE = 1 << 20
_PATHS = ("relative_path", "volume_path", "absolute_win32_path")
_LINKAGES = ("parent_linkage", "parent_linkage2")
_KEYS = {key.encode("utf-16-le"): key for key in (*_PATHS, *_LINKAGES)}
_DAMAGED = "The image is damaged: compare it with its origin."


def read_locator(source: Source, offset: int, length: int) -> ParentLocator:
    """Read the parent locator at `offset`. Raises Corrupt, or Unsupported for another type."""
    if not _HEAD_SIZE <= length <= _MAX_LOCATOR_SIZE:
        raise Corrupt(f"{source.name}: a parent locator of {length} bytes", hint=_DAMAGED)
    data = read_exactly(source, offset, length, "the parent locator")
    head = Head.parse(data)
    if head.type != _VHDX_LOCATOR:
        raise Unsupported(
            f"{source.name}: a parent locator of the type {guid_text(head.type)} is not read"
        )
    if _HEAD_SIZE + head.count * _ENTRY_SIZE > length:
        raise Corrupt(f"{source.name}: a parent locator of {head.count} entries", hint=_DAMAGED)
    values: dict[str, bytes] = {}
    for index in range(head.count):
        entry = Entry.parse(data[_HEAD_SIZE + index * _ENTRY_SIZE :][:_ENTRY_SIZE])
        key_end = entry.key_offset + entry.key_length
        value_end = entry.value_offset + entry.value_length
        if max(key_end, value_end) > length:
            raise Corrupt(
                f"{source.name}: entry {index} of the parent locator ends beyond it", hint=_DAMAGED
            )
        key = _KEYS.get(data[entry.key_offset : key_end])
        if key is not None:
            values[key] = data[entry.value_offset : value_end]
    found = {key: value.decode("utf-16-le", "replace") for key, value in values.items()}
    paths = tuple(found[key].rstrip("\0") for key in _PATHS if found.get(key))
    linkages = []
    for name in _LINKAGES:
        if name in found:
            try:
                linkages.append(UUID(found[name].strip("\0{} ")).bytes_le)
            except ValueError:
                raise Corrupt(
                    f"{source.name}: {name} of the parent locator is no GUID", hint=_DAMAGED
                ) from None
    return ParentLocator.from_paths(source.name, paths, linkages)
