"""What a container's start leaves in its upper directory: names for something to be mounted on, with nothing in them.

Docker keeps them in a layer of their own under the container's. Here they are told by name and emptiness, and neither
``diff`` nor ``commit`` speaks of them.
"""

import os
import stat

MARKER = ".dockerenv"
"""The empty file in the root by which programs know that they are in a container; Docker's containers have it."""

_FILES = frozenset((MARKER, "etc/hostname", "etc/hosts", "etc/resolv.conf", "dev/console"))
_DIRECTORIES = frozenset(("dev", "dev/mqueue", "dev/pts", "dev/shm", "proc", "sys"))


def is_file(path: str, facts: os.stat_result) -> bool:
    """``path`` from the root, without a slash before it."""
    return path in _FILES and stat.S_ISREG(facts.st_mode) and facts.st_size == 0


def is_directory(path: str, directory: int) -> bool:
    """``directory`` is the descriptor of it."""
    return path in _DIRECTORIES and not os.listdir(directory)
