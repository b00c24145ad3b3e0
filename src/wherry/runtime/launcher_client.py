"""The daemon's side of the launcher: starting it, having it start containers, and starting it again when it dies.

launcher = await Launcher.spawn("/run/wherry")
monitor = await launcher.start(spec)
"""

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Sequence

import msgspec

import wherry
from wherry.linux import files, mounts
from wherry.linux.syscalls import SyscallError
from wherry.runtime import ipc
from wherry.runtime.ipc import Start, StartError, Streams
from wherry.runtime.monitor_client import Monitor, MonitorGone, end_cgroup
from wherry.runtime.spec import Spec

# A Python interpreter that a container cannot write to.
#
# A process that enters a container can be looked at from inside through /proc/<pid>/exe, and a container whose program
# is /proc/self/exe executes it there. With the machine's own interpreter behind that link, root in the container could
# open it for writing as soon as it is no longer running (CVE-2019-5736). So the launcher, and all that are forked from
# it, run from a copy that nobody can write to: the interpreter's directory under a read-only overlay that is mounted
# nowhere; or, where that cannot be made, a sealed file in memory.


def open_interpreter(empty: str) -> int:
    """A descriptor to execute this interpreter by. ``empty`` is an empty directory, which the overlay needs."""
    binary = os.path.realpath(sys.executable)
    try:
        return _through_overlay(binary, empty)
    except SyscallError:
        return _in_memory(binary)


def _through_overlay(binary: str, empty: str) -> int:
    """An overlay of lower directories alone cannot be written to, and its files are not those beneath."""
    directory, name = os.path.split(binary)
    lower = ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in (directory, empty))
    mount = mounts.make("overlay", "wherry", ("ro", "nosuid", "nodev", f"lowerdir={lower}"))
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def _in_memory(binary: str) -> int:
    with open(binary, "rb") as source:
        return files.sealed("python", source.read())


__all__ = ["Launcher", "StartError"]

# typing_extensions: msgspec imports it where it is installed, and does as well without its 1.2 MB.
_PROGRAM = """\
import sys
sys.modules["typing_extensions"] = None
sys.path[:0] = sys.argv[3:]
from wherry.runtime.launcher import serve
serve(*map(int, sys.argv[1:3]))
"""
_ATTEMPTS = 2
_PATIENCE = 5  # seconds that the launcher is given to end by itself

Client = tuple[socket.socket, bool, bool, bool]
"""A stream socket and which of stdin, stdout and stderr it is attached to."""


class Launcher:
    """A launcher process, kept alive. The monitors that it has forked do not depend on it."""

    def __init__(self, exec_root: str) -> None:
        self._exec_root = exec_root
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._sending = asyncio.Lock()
        self._descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    @classmethod
    async def spawn(cls, exec_root: str) -> "Launcher":
        """Starts one. ``exec_root`` must be there and be the engine's own."""
        launcher = cls(exec_root)
        launcher._spawn()
        return launcher

    @property
    def pid(self) -> int:
        """The launcher's; 0 when it is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    async def start(self, spec: Spec, clients: Sequence[Client] = ()) -> Monitor:
        """Starts a container; ``clients`` are attached before it runs, so that they miss nothing.

        Raises StartError with Docker's message. The clients' sockets stay the caller's to close.
        """
        for _ in range(_ATTEMPTS):
            try:
                return await self._start(spec, clients)
            except MonitorGone:
                # The launcher, or the spare monitor, died with the request in its hands. The first process dies with
                # its monitor, but may have children, and may have mounted its root.
                await asyncio.to_thread(end_cgroup, spec.cgroup)
                for mount in spec.rootfs:
                    mounts.allow_again(mount)
        raise StartError("the launcher ended twice before it started the container")

    async def close(self) -> None:
        """Ends the launcher; containers run on."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(_end, process)

    async def _start(self, spec: Spec, clients: Sequence[Client]) -> Monitor:
        memfd = ipc.to_memfd("spec", msgspec.msgpack.encode(spec))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        monitor = Monitor(ours, spec.exec_dir)
        try:
            with theirs:
                descriptors = (memfd, theirs.fileno(), *(client[0].fileno() for client in clients))
                await self._send(Start(tuple(Streams(*client[1:]) for client in clients)), descriptors)
            await monitor.started()
        except BaseException:
            monitor.close()
            raise
        finally:
            os.close(memfd)
        return monitor

    async def _send(self, start: Start, descriptors: tuple[int, ...]) -> None:
        async with self._sending:
            for attempt in ("first", "respawned"):
                if self._requests is None:
                    self._spawn()
                assert self._requests is not None
                try:
                    await _send(self._requests, start, descriptors)
                    return
                except OSError as error:
                    self._requests.close()
                    self._requests = None
                    if attempt == "respawned":
                        raise StartError(f"the launcher does not start: {error.strerror}") from error

    def _spawn(self) -> None:
        if self._process is not None:
            self._process.poll()
        empty = f"{self._exec_root}/empty"
        os.makedirs(empty, mode=0o700, exist_ok=True)
        interpreter = open_interpreter(empty)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        directories = dict.fromkeys(
            os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__)))) for module in (wherry, msgspec)
        )
        try:
            # -S: what the machine's site-packages run at startup has no business in here, and would take memory.
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    _PROGRAM,
                    str(theirs.fileno()),
                    str(self._descriptors),
                    *directories,
                ],
                executable=f"/proc/self/fd/{interpreter}",
                pass_fds=(interpreter, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
        finally:
            os.close(interpreter)
            theirs.close()
        self._requests = ours


async def _send(requests: socket.socket, start: Start, descriptors: tuple[int, ...]) -> None:
    """Waits while the launcher has more requests before it than the socket holds."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            ipc.send(requests, start, descriptors)
            return
        except BlockingIOError:
            writable = asyncio.Event()
            loop.add_writer(requests, writable.set)
            try:
                await writable.wait()
            finally:
                loop.remove_writer(requests)


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
