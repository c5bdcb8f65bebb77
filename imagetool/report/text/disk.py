"""The layout of disk maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagetool.report.data import Document
from imagetool.report.text import format_size, format_table, safe


def disk_map(document: Document) -> str:
    """The disk, its block devices, and what is allocated."""
    tree: Mapping[str, Any] = document.tree
    disk = tree["disk"]
    stored, count = format_size(tree["allocated"]), len(tree["allocated_ranges"])
    rows: list[Sequence[object]] = [
        *disk["identifiers"].items(),
        *(("parent", name) for name in disk["chain"]),
        ("allocated", f"{stored} in {count} stretches"),
        *(("warning", text) for text in tree["warnings"]),
    ]
    return f"{safe(tree['image'])}\n{format_disk(disk)}{format_table(rows)}"


def format_disk(disk: Mapping[str, Any]) -> str:
    """Return a disk and its block devices as two tables."""
    size, file_size = format_size(disk["size"]), format_size(disk["file_size"])
    rows = [
        ("disk", f"{disk['format']}, {disk['kind']}, {size} in a file of {file_size}"),
        ("partitions", f"{disk['partition_table'].upper()} {disk['disk_identifier']}".strip()),
    ]
    volumes = [
        (
            f"  {volume['number']}",
            f"{volume['file_system'] or '-':<9}",
            f"{format_size(volume['size']):>10}",
            _describe_volume(volume),
            volume["label"],
        )
        for volume in disk["volumes"]
    ]
    return format_table(rows) + format_table(volumes)


def _describe_volume(volume: Mapping[str, Any]) -> str:
    """The kind of a block device, in words."""
    if volume["type"]:
        return str(volume["type_name"])
    name = volume["logical_volume"]
    return f"logical volume {name}" if name else "the whole disk"
