"""openat2(RESOLVE_IN_ROOT): opens a path as a process would that is chrooted at a directory."""

import ctypes
import os

_OPENAT2 = 437
_IN_ROOT_NO_MAGIC = 0x10 | 0x02
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: bytes, flags: int, mode: int = 0) -> int:
    how = _How(flags, mode, _IN_ROOT_NO_MAGIC)
    fd = _libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(root), ctypes.c_char_p(path), ctypes.byref(how), ctypes.c_size_t(24))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    return int(fd)
