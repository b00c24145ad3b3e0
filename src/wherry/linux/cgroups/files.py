"""Reading and writing the small files that cgroups are made of.

Every one of them is a system call away from the kernel, and a container start touches dozens: so plain os calls, no
buffered file objects (which cost three times as much).
"""

import errno
import os

from wherry.linux.errors import SyscallError


class CgroupError(SyscallError):
    """A cgroup could not be made, limited, entered or removed. Its text says which, and what the kernel answered."""


def read(path: str) -> str:
    """What the file says, without the final newline. FileNotFoundError when the kernel has no such file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode().rstrip("\n")
    finally:
        os.close(fd)


def read_number(path: str) -> int | None:
    """The number in the file; None for "max", which is how v2 says that there is no limit."""
    text = read(path)
    return None if text == "max" else int(text)


def read_numbers(path: str) -> dict[str, int]:
    """A file of lines "key number", such as memory.stat."""
    return {key: int(value) for key, _, value in (line.partition(" ") for line in read(path).splitlines())}


def write(path: str, value: str | int) -> None:
    """Writes the value in one call, as cgroup files demand. Raises CgroupError with the kernel's answer."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        if os.path.isdir(os.path.dirname(path)):
            raise CgroupError(errno.ENOENT, "write", path, detail="this kernel does not offer this limit") from error
        raise CgroupError(errno.ENOENT, "write", path) from error
    except OSError as error:
        raise CgroupError(error.errno or errno.EIO, f"write {str(value)!r} to", path) from error
