"""The floor: one registry value from a VHDX with bare positioned reads, and nothing checked.

It knows that the disk is a sound dynamic VHDX with GPT and one NTFS volume, trusts every number,
and breaks on anything else. Its time is the lower bound for this task in Python.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

Read = Callable[[int, int], bytes]
Run = tuple[int, int, int]

PATH = ("WINDOWS", "SYSTEM32", "CONFIG", "SOFTWARE")
KEYS = ("Microsoft", "Virtual Machine", "Auto")
VALUE = "integrationservicesversion"
_BAT, _METADATA = bytes.fromhex("6677c22d"), bytes.fromhex("06a27c8b")
_FILE_PARAMETERS = bytes.fromhex("3767a1ca")
_BASIC_DATA = bytes.fromhex("a2a0d0eb")


def read_value(path: Path) -> str:
    """Read IntegrationServicesVersion, without any cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        disk = _disk(lambda offset, length: os.pread(descriptor, length, offset))
        return _registry(_file(disk))
    finally:
        os.close(descriptor)


def _disk(file: Read) -> Read:
    """Headers, region table, metadata, and the block allocation table by page."""
    file(0, 8)
    max(
        (file(offset, 4096) for offset in (65536, 131072)),
        key=lambda header: struct.unpack_from("<Q", header, 8)[0],
    )
    regions = file(196608, 512)
    offsets = {}
    for index in range(struct.unpack_from("<I", regions, 8)[0]):
        guid, offset, _, _ = struct.unpack_from("<16sQII", regions, 16 + 32 * index)
        offsets[guid[:4]] = offset
    table, metadata = offsets[_BAT], offsets[_METADATA]
    listed = file(metadata, 2048)
    items = {}
    for index in range(struct.unpack_from("<H", listed, 10)[0]):
        guid, offset, _ = struct.unpack_from("<16sII", listed, 32 + 32 * index)
        items[guid[:4]] = offset
    size = struct.unpack("<I", file(metadata + items[_FILE_PARAMETERS], 8)[:4])[0]
    ratio = (1 << 23) * 512 // size
    pages: dict[int, bytes] = {}

    def read(offset: int, length: int) -> bytes:
        out = b""
        while length:
            block, start = divmod(offset, size)
            part = min(length, size - start)
            page, slot = divmod(block + block // ratio, 512)
            if page not in pages:
                pages[page] = file(table + page * 4096, 4096)
            entry = struct.unpack_from("<Q", pages[page], slot * 8)[0]
            out += file((entry >> 20 << 20) + start, part) if entry & 7 == 6 else bytes(part)
            offset += part
            length -= part
        return out

    return read


def _file(disk: Read) -> Read:
    """The volume of the first basic data partition, and the data of the file at PATH in it."""
    table = disk(512, 512 + 16384)
    first = next(
        struct.unpack_from("<Q", table, entry + 32)[0] * 512
        for entry in range(512, len(table), 128)
        if table[entry : entry + 4] == _BASIC_DATA
    )
    boot = disk(first, 512)
    cluster = struct.unpack_from("<H", boot, 11)[0] * boot[13]
    exponent = struct.unpack_from("<b", boot, 64)[0]
    record_size = 1 << -exponent if exponent < 0 else exponent * cluster

    def runs_read(runs: list[Run], offset: int, length: int) -> bytes:
        out = b""
        while length:
            start, count, lcn = next(
                run for run in runs if run[0] * cluster <= offset < (run[0] + run[1]) * cluster
            )
            part = min(length, (start + count) * cluster - offset)
            out += disk(first + (lcn - start) * cluster + offset, part)
            offset += part
            length -= part
        return out

    table_at = struct.unpack_from("<Q", boot, 48)[0] * cluster
    own = _fixed(disk(first + table_at, record_size))
    records = next(_runs(a) for kind, a in _attributes(own) if kind == 0x80)

    def record(number: int) -> bytes:
        return _fixed(runs_read(records, number * record_size, record_size))

    number = 5
    for name in PATH:
        number = _look_up(record(number), name, cluster, runs_read)
    data = next(_runs(a) for kind, a in _attributes(record(number)) if kind == 0x80)
    return lambda offset, length: runs_read(data, offset, length)


def _fixed(block: bytes) -> bytes:
    fixed = bytearray(block)
    offset, count = struct.unpack_from("<HH", block, 4)
    for index in range(1, count):
        original = offset + 2 * index
        fixed[index * 512 - 2 : index * 512] = block[original : original + 2]
    return bytes(fixed)


def _attributes(record: bytes) -> Iterator[tuple[int, bytes]]:
    offset = struct.unpack_from("<H", record, 20)[0]
    while True:
        kind, length = struct.unpack_from("<II", record, offset)
        if kind == 0xFFFFFFFF:
            return
        yield kind, record[offset : offset + length]
        offset += length


def _runs(attribute: bytes) -> list[Run]:
    offset, start, lcn, found = struct.unpack_from("<H", attribute, 32)[0], 0, 0, []
    while attribute[offset]:
        lengths, offsets = attribute[offset] & 15, attribute[offset] >> 4
        middle = offset + 1 + lengths
        count = int.from_bytes(attribute[offset + 1 : middle], "little")
        lcn += int.from_bytes(attribute[middle : middle + offsets], "little", signed=True)
        found.append((start, count, lcn))
        start += count
        offset = middle + offsets
    return found


def _look_up(
    record: bytes, name: str, cluster: int, read: Callable[[list[Run], int, int], bytes]
) -> int:
    attributes = list(_attributes(record))
    root = next(a for kind, a in attributes if kind == 0x90)
    content = struct.unpack_from("<H", root, 20)[0]
    block_size = struct.unpack_from("<I", root, content + 8)[0]
    node, offset = root, content + 16 + struct.unpack_from("<I", root, content + 16)[0]
    blocks = next((_runs(a) for kind, a in attributes if kind == 0xA0), [])
    unit = cluster if cluster <= block_size else 512
    while True:
        reference, length, _, flags = struct.unpack_from("<QHHI", node, offset)
        other = None
        if not flags & 2:
            end = offset + 82 + 2 * node[offset + 80]
            other = node[offset + 82 : end].decode("utf-16-le").upper()
        if other == name:
            return int(reference & 0xFFFFFFFFFFFF)
        if other is None or other > name:
            below = struct.unpack_from("<Q", node, offset + length - 8)[0]
            node = _fixed(read(blocks, below * unit, block_size))
            offset = 24 + struct.unpack_from("<I", node, 24)[0]
        else:
            offset += length


def _registry(hive: Read) -> str:
    """Base block, keys by their hash, the value; by page."""
    pages: dict[int, bytes] = {}

    def read(offset: int, length: int) -> bytes:
        out = b""
        while length:
            page, start = divmod(offset, 4096)
            if page not in pages:
                pages[page] = hive(page << 12, 4096)
            part = min(length, 4096 - start)
            out += pages[page][start : start + part]
            offset += part
            length -= part
        return out

    def cell(offset: int) -> bytes:
        size = -struct.unpack("<i", read(4096 + offset, 4))[0]
        return read(4100 + offset, size - 4)

    key = cell(struct.unpack_from("<I", read(0, 512), 36)[0])
    for name in KEYS:
        key = _subkey(key, name, cell)
    count, values = struct.unpack_from("<II", key, 36)
    for offset in struct.unpack_from(f"<{count}I", cell(values)):
        found = cell(offset)
        length, size, data = struct.unpack_from("<HII", found, 2)
        if found[20 : 20 + length].decode("latin-1").lower() == VALUE:
            return cell(data)[:size].decode("utf-16-le").rstrip("\0")
    raise KeyError(VALUE)


def _subkey(key: bytes, name: str, cell: Callable[[int], bytes]) -> bytes:
    wanted = 0
    for char in name.upper():
        wanted = (wanted * 37 + ord(char)) & 0xFFFFFFFF
    lists = [struct.unpack_from("<I", key, 28)[0]]
    while lists:
        listed = cell(lists.pop())
        count = struct.unpack_from("<H", listed, 2)[0]
        if listed[:2] == b"ri":
            lists += struct.unpack_from(f"<{count}I", listed, 4)
            continue
        for index in range(count):
            offset, mark = struct.unpack_from("<II", listed, 4 + 8 * index)
            if mark == wanted:
                found = cell(offset)
                length = struct.unpack_from("<H", found, 72)[0]
                if found[76 : 76 + length].decode("latin-1").lower() == name.lower():
                    return found
    raise KeyError(name)
