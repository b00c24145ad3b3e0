"""The line on a terminal while work goes on: in a terminal of its own, since only there is one."""

import os
import pty
import sys
from pathlib import Path

PROGRAM = """
import os, sys, time
from wherry.cli.build_progress import Working
descriptor = os.open(sys.argv[1], os.O_RDWR)
with Working("Writing", descriptor):
    os.write(descriptor, b"x" * 2000)
    time.sleep(float(sys.argv[2]))
print("done", flush=True)
"""


def shown(*arguments: str) -> str:
    """What the program puts on its terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, *arguments])
    output = b""
    while True:
        try:
            output += os.read(terminal, 4096)
        except OSError:  # how a terminal says that nobody is left at the other side
            break
    os.waitpid(pid, 0)
    os.close(terminal)
    return output.decode()


def test_how_far_and_for_how_long(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = shown(str(tmp_path / "file"), "1.2")
    assert "\r\x1b[KWriting … 2kB 1s" in output or "\r\x1b[KWriting … 2kB 0s" in output
    assert output.endswith("\r\x1b[Kdone\r\n")


def test_nothing_of_what_is_quick(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert shown(str(tmp_path / "file"), "0") == "done\r\n"
