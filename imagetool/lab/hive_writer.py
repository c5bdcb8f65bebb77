"""Write keys and values into a hive with libhivex, in a process of its own.

`python -m imagetool.lab.hive_writer` takes a job as JSON on standard input: the hive's path, the
time to stamp (a FILETIME), and keys: `path`, and `values` (name, type, data in base64) to
set; others stay. Keys are made as needed. libhivex leaves last-write times as they are, so those of
the changed keys are set afterwards.
"""

from __future__ import annotations

import base64
import ctypes as c
import json
import os
import struct
import sys
from pathlib import Path

from imagetool.lab.native_libraries import NativeFunction, load_library

_HIVEX_OPEN_WRITE = 4


class _SetValue(c.Structure):
    """struct hive_set_value, hivex.h."""

    _fields_ = (
        ("key", c.c_char_p),
        ("type", c.c_int),
        ("length", c.c_size_t),
        ("value", c.c_char_p),
    )


_FUNCTIONS: tuple[NativeFunction, ...] = (
    ("hivex_open", c.c_void_p, (c.c_char_p, c.c_int)),
    ("hivex_root", c.c_size_t, (c.c_void_p,)),
    ("hivex_node_get_child", c.c_size_t, (c.c_void_p, c.c_size_t, c.c_char_p)),
    ("hivex_node_add_child", c.c_size_t, (c.c_void_p, c.c_size_t, c.c_char_p)),
    ("hivex_node_set_value", c.c_int, (c.c_void_p, c.c_size_t, c.POINTER(_SetValue), c.c_int)),
    ("hivex_commit", c.c_int, (c.c_void_p, c.c_char_p, c.c_int)),
    ("hivex_close", c.c_int, (c.c_void_p,)),
)


def _fail(what: str) -> None:
    raise SystemExit(f"{what} failed: {os.strerror(c.get_errno())}")


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin)
    library = load_library("hivex", "libhivex.so.0", "libhivex-bin", _FUNCTIONS)
    path = os.fsencode(job["hive"])
    hive = library.hivex_open(path, _HIVEX_OPEN_WRITE)
    if not hive:
        _fail("opening the hive")
    touched = set()
    for key in job["keys"]:
        node = library.hivex_root(hive)
        for name in filter(None, key["path"].split("\\")):
            child = library.hivex_node_get_child(hive, node, name.encode("utf-8"))
            if not child:
                touched.add(node)
                child = library.hivex_node_add_child(hive, node, name.encode("utf-8"))
            if not child:
                _fail(f"making the key {key['path']}")
            node = child
        touched.add(node)
        for item in key["values"]:
            data = base64.b64decode(item["data"])
            value = _SetValue(item["name"].encode("utf-8"), item["type"], len(data), data)
            if library.hivex_node_set_value(hive, node, c.byref(value), 0):
                _fail(f"setting the value {item['name']} of {key['path']}")
    if library.hivex_commit(hive, None, 0):
        _fail("writing the hive")
    library.hivex_close(hive)
    # A node's handle is its cell's offset in the file; the last-write time follows size and flags.
    with Path(job["hive"]).open("r+b") as file:
        for node in touched:
            file.seek(node + 8)
            file.write(struct.pack("<Q", job["time"]))


if __name__ == "__main__":
    main()
