"""binfmt_misc: which interpreters the kernel calls for programs of other processors."""

import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

DIRECTORY = "/proc/sys/fs/binfmt_misc"

# ELF's e_machine, class (1: 32 bits, 2: 64) and byte order (1: little endian, 2: big), by Go's names of processors.
_ELF = {
    "386": (3, 1, 1), "amd64": (62, 2, 1), "arm": (40, 1, 1), "arm64": (183, 2, 1), "loong64": (258, 2, 1),
    "mips": (8, 1, 2), "mipsle": (8, 1, 1), "mips64": (8, 2, 2), "mips64le": (8, 2, 1), "ppc64": (21, 2, 2),
    "ppc64le": (21, 2, 1), "riscv64": (243, 2, 1), "s390x": (22, 2, 2),
}  # fmt: skip


class Emulator(NamedTuple):
    """An interpreter that is registered. ``kept_open``: it also works where its file is not, as in a container."""

    interpreter: str
    offset: int
    magic: bytes
    mask: bytes
    kept_open: bool

    def takes(self, program: bytes) -> bool:
        """Whether the kernel would call it for a program that begins like this."""
        start = program[self.offset : self.offset + len(self.magic)]
        mask = self.mask or b"\xff" * len(self.magic)
        return len(start) == len(self.magic) and all(
            (a ^ b) & m == 0 for a, b, m in zip(start, self.magic, mask, strict=True)
        )


def emulator(architecture: str, directory: str = DIRECTORY) -> Emulator | None:
    """What runs programs for a processor, by Go's name of it; None when nothing does."""
    if architecture not in _ELF:
        return None
    program = _program(architecture)
    return next((found for found in registered(directory) if found.takes(program)), None)


def emulated(directory: str = DIRECTORY) -> list[str]:
    """The processors, by Go's names of them, whose programs run in containers."""
    found = [each for each in registered(directory) if each.kept_open]
    return [name for name in _ELF if any(each.takes(_program(name)) for each in found)]


def registered(directory: str = DIRECTORY) -> Iterator[Emulator]:
    """The formats that are enabled. None where binfmt_misc is not mounted."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        if name in ("register", "status"):
            continue
        try:
            with open(os.path.join(directory, name), encoding="ascii") as file:
                found = parse(file.read())
        except (OSError, ValueError):
            continue
        if found is not None:
            yield found


def parse(text: str) -> Emulator | None:
    """Reads the kernel's description of a format; None for one that is disabled, or goes by a file's extension.

    Raises ValueError for what is none.
    """
    if not text.startswith("enabled"):
        return None
    fields = dict(re.findall(r"^(\w+):? ?(.*)$", text, re.MULTILINE))
    if "magic" not in fields:
        return None
    return Emulator(
        fields.get("interpreter", ""),
        int(fields.get("offset", "0")),
        bytes.fromhex(fields["magic"]),
        bytes.fromhex(fields.get("mask", "")),
        "F" in fields.get("flags", ""),
    )


def _program(architecture: str) -> bytes:
    """The beginning of an executable for a processor."""
    machine, bits, order = _ELF[architecture]
    identity = b"\x7fELF" + bytes((bits, order, 1, 0)) + bytes(8)
    return identity + struct.pack("<HHI" if order == 1 else ">HHI", 2, machine, 1) + bytes(64)
