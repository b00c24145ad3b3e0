"""A terminal for a test: runs a command on a pseudo-terminal, types keys, and waits for what should appear.

For example::

    with Terminal(["wherry", "run", "-it", "busybox", "sh"]) as terminal:
        terminal.expect("/ # ")
        terminal.send("echo $((6 * 7))\\r")
        terminal.expect("42")
        terminal.send("exit 3\\r")
        assert terminal.wait() == 3
"""

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

TIMEOUT_SECONDS = 30


class Terminal:
    """A command whose standard input, output and error are one new terminal, which is its controlling terminal.

    ``output`` is all that was printed so far. The terminal outlives the command, so that a test can see whether its
    settings were restored.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, rows: int = 24, columns: int = 80
    ) -> None:
        self._master, self._slave = os.openpty()
        self.resize(rows, columns)
        self.command = list(command)
        self.initial_settings = self.settings()
        self.output = ""
        self._seen = 0
        self._process = subprocess.Popen(
            self.command, stdin=self._slave, stdout=self._slave, stderr=self._slave, env=env, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, keys: str) -> None:
        """Type ``keys``; Enter is ``\\r``, Ctrl-C ``\\x03``."""
        os.write(self._master, keys.encode())

    def expect(self, pattern: str, timeout: float = TIMEOUT_SECONDS) -> re.Match[str]:
        """Wait until ``pattern`` (a regular expression) appears after what was last expected."""
        deadline = time.monotonic() + timeout
        while not (match := re.compile(pattern, re.MULTILINE).search(self.output, self._seen)):
            if not self._read(deadline):
                raise AssertionError(f"{self.command}: no {pattern!r} in {self.output[self._seen :]!r}")
        self._seen = match.end()
        return match

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, which sends SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[Any]:
        """The terminal's settings, as termios.tcgetattr gives them."""
        return termios.tcgetattr(self._slave)

    @property
    def is_raw(self) -> bool:
        """True while neither echo nor line editing nor signal keys are on."""
        return not self.settings()[3] & (termios.ECHO | termios.ICANON | termios.ISIG)

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> int:
        """The command's exit code, once it has ended; everything it printed is in ``output`` then."""
        deadline = time.monotonic() + timeout
        while self._process.poll() is None:
            if not self._read(deadline) and time.monotonic() >= deadline:
                raise AssertionError(f"{self.command} goes on; its output: {self.output!r}")
        while self._read(time.monotonic() + 0.05):
            pass
        return self._process.returncode

    def close(self) -> None:
        """End the command, if it goes on, and the terminal."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for descriptor in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, deadline: float) -> bool:
        """Add what the command prints next to ``output``; False when it prints nothing before the deadline or ends."""
        exited = os.pidfd_open(self._process.pid) if self._process.returncode is None else None
        try:
            watched = [self._master] if exited is None else [self._master, exited]
            readable, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
        finally:
            if exited is not None:
                os.close(exited)
        if self._master not in readable:
            return False
        self.output += os.read(self._master, 65536).decode(errors="replace")
        return True
