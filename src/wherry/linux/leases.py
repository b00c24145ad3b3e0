"""File leases: to be told before anybody else opens or cuts a file, and to let him wait until one is ready for it.

The kernel lets nobody wait for longer than /proc/sys/fs/lease-break-time, 45 seconds.
"""

import fcntl
import functools
import os
import signal


def take(fd: int) -> bool:
    """Whether this process has the lease now: nobody else has the file open, and the file system knows leases.

    ``breaks()`` tells when somebody comes.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    return True


def release(fd: int) -> None:
    """Lets in who waits."""
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@functools.cache
def breaks() -> int:
    """A descriptor that becomes readable when somebody wants to open a file on which there is a lease.

    To be called before one is taken, which is told by a signal that would end the process, and in the main thread.
    """
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGIO, lambda *_: None)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    return reads
