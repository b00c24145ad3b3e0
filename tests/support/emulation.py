"""An emulator of arm64 for the kernel to call: qemu's, registered for as long as a test needs it."""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.support import programs

REGISTER = Path("/proc/sys/fs/binfmt_misc/register")

# The head of an executable for arm64, and which of its bits must be so: 64 bits, little endian, any kind of program.
_MAGIC = bytes.fromhex("7f454c460201010000000000000000000200b700")
_MASK = bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff")


def find() -> str | None:
    return programs.find("qemu-aarch64-static")


@contextlib.contextmanager
def registered(interpreter: str, flags: str) -> Iterator[None]:
    """The kernel opens the interpreter now with the flag F, and when it is called without. Raises OSError."""
    if not REGISTER.exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(REGISTER.parent)], check=False)
    name = f"wherry-tests-{uuid.uuid4().hex[:8]}"
    parts = ["", name, "M", "", _escaped(_MAGIC), _escaped(_MASK), interpreter, flags]
    REGISTER.write_text(":".join(parts))
    try:
        yield
    finally:
        (REGISTER.parent / name).write_text("-1")


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)
