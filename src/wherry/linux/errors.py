"""What a failing system call raises: which call, on what, and the kernel's answer."""

import os


class SyscallError(OSError):
    """An OSError that reads "mount overlay on /merged: Invalid argument (workdir and upperdir must be on one mount)".

    ``call`` is what was being done ("mount overlay on"), ``path`` what it was done to, ``detail`` what else is known:
    the kernel's own log of the call, or what the user can do about it.
    """

    def __init__(self, number: int, call: str, path: str = "", detail: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.call = call
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        where = f" {self.path}" if self.path else ""
        more = f" ({self.detail})" if self.detail else ""
        return f"{self.call}{where}: {self.strerror}{more}"
