"""A warm process that workers are forked from: to start an interpreter with all that a job needs takes 80 ms and more,
to fork one that has it already about 2.

It is started for the first job, and again when it has gone. It knows nothing of the engine, holds no file of anybody's,
and dies with the engine; a worker that it has forked dies with it.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys

from wherry.model.errors import EngineError

# The interpreter starts isolated (-I: no environment, no user's site, no current directory) and without site (-S),
# whose .pth files it would otherwise run; where wherry and its libraries are is what this process knows.
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from wherry.storage.worker import serve; serve(int(sys.argv[1]))"


class Child:
    """A forked worker, by its pidfd: the process id may be another's once it has ended."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    @property
    def ended(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> None:
        await _readable(self._pidfd)

    def close(self) -> None:
        os.close(self._pidfd)


class Nursery:
    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._pidfd = -1

    async def fork(self, control: socket.socket, given: tuple[int, int, int]) -> Child:
        """A new worker with ``given``: the other end of ``control``, its standard input and its standard output.

        Raises EngineError when there can be none.
        """
        for _ in range(2):  # it may never have been there, have gone, or go with the request in its hands
            try:
                self._ask(given)
            except OSError:
                self._start()
                self._ask(given)
            pidfd = os.dup(self._pidfd)  # a descriptor can be waited for by one only
            try:
                # For its end, too: the other end of ``control`` is ours as well, so that it would never close.
                await _readable(control.fileno(), pidfd)
                _, fds, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_DONTWAIT)
                if fds:
                    return Child(fds[0])
            except BlockingIOError:
                self._discard()
            finally:
                os.close(pidfd)
        raise EngineError("a storage worker could not be started: the engine's log has the reason")

    def _ask(self, given: tuple[int, int, int]) -> None:
        if self._socket is None:
            raise ConnectionError
        socket.send_fds(self._socket, [b"f"], given)

    def _start(self) -> None:
        self._discard()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno()), *_module_paths()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at the engine's terminal is the engine's to handle
            )
        self._pidfd = os.pidfd_open(self._process.pid)

    def _discard(self) -> None:
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.kill()
            self._process.wait()
            os.close(self._pidfd)
        self._socket = self._process = None


def _module_paths() -> list[str]:
    """Where modules are, without the current directory, which ``python -m`` has put first."""
    return [path for path in sys.path if os.path.isabs(path)]


async def _readable(*descriptors: int) -> None:
    """Waits until one of them is."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    for descriptor in descriptors:
        loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
