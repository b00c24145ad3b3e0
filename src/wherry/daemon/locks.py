"""One engine a root, and one a pid file."""

import contextlib
import fcntl
import os
from collections.abc import Iterator


class Taken(Exception):
    """Another engine has it; the text says which."""


@contextlib.contextmanager
def locked(root: str, mode: int) -> Iterator[None]:
    """Keeps a second engine away from a root, which is made. The lock goes with the process, whatever becomes of it.

    Nobody else may open the file: who can read it can lock it, and keep every engine away.
    """
    os.makedirs(root, mode=mode, exist_ok=True)
    descriptor = os.open(f"{root}/lock", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "a+", encoding="ascii") as file:
        os.fchmod(descriptor, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise Taken(f"another engine (pid {holder or 'unknown'}) already uses {root}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            holder = file.read().strip()
    except FileNotFoundError:
        holder = ""
    if holder.isdigit() and int(holder) != os.getpid() and os.path.exists(f"/proc/{holder}"):
        raise Taken(f"process {holder} runs and has the pid file {path}: end it, or remove the file")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
