"""The state of SQLite's files after a power cut: each file's last synced content, and nothing written since.

This hooks the wheel's SQLite: the default VFS's ``xOpen`` is replaced, and with it the ``xSync`` of each file it opens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pysqlite3 import _sqlite3

# SQLite keeps the pointer to the name, so it must be passed on unchanged, not as a copy.
_Open: Final = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)
_Sync: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


# What SQLite points to must outlive its last call, which is unknown: keep it for ever.
_KEPT: Final[list[Any]] = []


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``, version 3."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("close_read_write_truncate", ctypes.c_void_p * 4),
        ("sync", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 13),
    )


class _File(ctypes.Structure):
    """``sqlite3_file``."""

    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


class _Vfs(ctypes.Structure):
    """The beginning of ``sqlite3_vfs``."""

    _fields_ = (
        ("version_and_sizes", ctypes.c_int * 3),
        ("next_name_data", ctypes.c_void_p * 3),
        ("open", ctypes.c_void_p),
    )


@contextmanager
def synced_files() -> Iterator[dict[Path, bytes]]:
    """Record each opened file's content at its last sync, from now on; a file that was never synced is missing."""
    find: Any = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
    find.restype = ctypes.POINTER(_Vfs)
    vfs = find(None).contents
    original = vfs.open
    synced: dict[Path, bytes] = {}

    def opened(vfs_address: int, name: int | None, address: int, flags: int, out: int | None) -> int:
        status = int(_Open(original)(vfs_address, name, address, flags, out))
        file = _File.from_address(address)
        if status == 0 and name is not None and file.methods:
            methods = _Methods.from_buffer_copy(file.methods.contents)
            sync, path = _Sync(methods.sync), Path(ctypes.string_at(name).decode())

            def synchronise(address: int, flags: int) -> int:
                status = int(sync(address, flags))
                if status == 0:
                    synced[path] = path.read_bytes()
                return status

            replaced = _Sync(synchronise)
            methods.sync = ctypes.cast(replaced, ctypes.c_void_p).value
            _KEPT.extend((methods, replaced))
            file.methods = ctypes.pointer(methods)
        return status

    replaced_open = _Open(opened)
    _KEPT.append(replaced_open)
    vfs.open = ctypes.cast(replaced_open, ctypes.c_void_p).value
    try:
        yield synced
    finally:
        vfs.open = original
