"""What daemon, launcher, monitor and a container's first process say to each other.

Every socket is a unix seqpacket socket, so one packet is one message: JSON, with descriptors beside it. What has no
bounded size (a Spec, a Process) travels in a memfd.

daemon → launcher
    Start; beside it the memfd of the Spec, the connection to the monitor that is to be, and the attached streams.
    There is no answer on this socket: what happens next comes over the connection.
daemon → monitor
    Attach, Exec, Resize, Connect, Disconnect, Status; each has a number, and exactly one Reply, Started, ExecStarted or
    Failed bears it.
monitor → daemon
    those answers, and without being asked OutOfMemory, Exited and ExecExited, to every connection.
monitor → process that is being started
    Begin, with what it is to become; for the first one then Go, and Connected.
process that is being started → monitor
    Separated (beside it its network namespace), Notice, Console (beside it the terminal's master), Written, LeftToInit,
    Failed; then the socket closes, since the program was executed.
monitor → launcher, over a pipe
    TAKEN: it has a request, and no longer waits for one. STARTED: its container has started; after it comes Footprint,
    if the launcher does not have one. Or QUIT: the daemon is gone.
"""

import array
import os
import select
import socket
from collections.abc import Callable

import msgspec

from wherry.runtime.spec import Interface

TAKEN, STARTED, QUIT = b"t", b"s", b"q"

SOCKET = "monitor.sock"
EXIT = "exit"
"""Files in a container's exec directory: where its monitor listens, and how it ended."""

_PACKET_AT_MOST = 65536
_ANCILLARY_SPACE = socket.CMSG_SPACE(64 * array.array("i").itemsize)


class Streams(msgspec.Struct, frozen=True, array_like=True):
    """Which of a process's streams a socket is attached to."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False


class Start(msgspec.Struct, frozen=True):
    """``streams[i]`` is for the i-th socket that comes beside the message."""

    streams: tuple[Streams, ...] = ()


class Attach(msgspec.Struct, frozen=True, tag=True):
    """One socket beside it. ``exec_id`` "" is the container's first process."""

    number: int
    streams: Streams
    exec_id: str = ""


class Exec(msgspec.Struct, frozen=True, tag=True):
    """The memfd of the Process beside it, and then one socket for each of ``streams``."""

    number: int
    exec_id: str
    streams: tuple[Streams, ...] = ()


class Resize(msgspec.Struct, frozen=True, tag=True):
    number: int
    rows: int
    columns: int
    exec_id: str = ""


class Connect(msgspec.Struct, frozen=True, tag=True):
    """Makes an interface in the container that runs. With ``resolver``, the name service's sockets are opened unless
    they are already, and are beside the Reply."""

    number: int
    interface: Interface
    resolver: bool = False


class Disconnect(msgspec.Struct, frozen=True, tag=True):
    """Removes the interface ``name``; ``routes`` are the gateways from then on, each with its interface's name."""

    number: int
    name: str
    routes: tuple[tuple[str, str], ...] = ()


class Status(msgspec.Struct, frozen=True, tag=True):
    """Asks for Started, by a daemon that is new."""

    number: int


class Reply(msgspec.Struct, frozen=True, tag=True):
    """Done."""

    number: int
    resolver: bool = False


class Failed(msgspec.Struct, frozen=True, tag=True):
    """``code`` is the exit code that stands for it: 127 not found, 126 not executable, 125 anything else."""

    message: str
    code: int = 125
    number: int = 0


class Started(msgspec.Struct, frozen=True, tag=True):
    """The container runs; a pidfd of its first process is beside it. ``at`` in nanoseconds since the epoch.

    ``execs`` are the running ones with their pids, ``ended`` the exit codes of those that ended. With ``resolver``, the
    last two descriptors are the name service's sockets, of UDP and of TCP.
    """

    pid: int
    monitor_pid: int
    at: int
    cgroup: str = ""
    warnings: tuple[str, ...] = ()
    execs: dict[str, int] = {}
    ended: dict[str, int] = {}
    resolver: bool = False
    number: int = 0


class ExecStarted(msgspec.Struct, frozen=True, tag=True):
    """A pidfd is beside it."""

    number: int
    pid: int
    warnings: tuple[str, ...] = ()


class ExecExited(msgspec.Struct, frozen=True, tag=True):
    exec_id: str
    code: int


class OutOfMemory(msgspec.Struct, frozen=True, tag=True):
    """The container has reached its limit, and the kernel ends something of it."""


class Warned(msgspec.Struct, frozen=True, tag=True):
    """Something that went wrong, of which the container knows nothing: its log cannot be written."""

    text: str


class Exited(msgspec.Struct, frozen=True, tag=True):
    """The end of the container. What the file ``exit`` holds, too. ``at`` in nanoseconds since the epoch."""

    code: int
    at: int
    signal: int | None = None
    oom: bool = False
    error: str | None = None


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Beside it: the memfd of the Spec or the Process; when it ``joins``, a pidfd of the container's first process; and
    the standard streams with these numbers."""

    streams: tuple[int, ...] = ()
    joins: bool = False


class Go(msgspec.Struct, frozen=True, tag=True):
    """The container's cgroup is there to be entered. Beside it: what was made for it outside of its user namespace."""


class Connected(msgspec.Struct, frozen=True, tag=True):
    """The container's network interfaces are there."""


class Separated(msgspec.Struct, frozen=True, tag=True):
    """The process is in its network namespace, which is beside it."""


class Notice(msgspec.Struct, frozen=True, tag=True):
    """Something that the machine refused and that can be done without."""

    text: str


class Console(msgspec.Struct, frozen=True, tag=True):
    """The master of the process's terminal is beside it."""


class LeftToInit(msgspec.Struct, frozen=True, tag=True):
    """``program`` is executed by wherry-init, which this process becomes (see native/wherry-init.c).

    Beside it: the pipe over which that says why it could not; and, when it ``joins`` a pid namespace, the file with the
    id of the process that goes on in there.
    """

    program: str
    joins: bool = False


class Written(msgspec.Struct, frozen=True, tag=True):
    """The memory that it has written to since it was told to begin, as ``linux.memory`` has it."""

    pages: bytes


class Footprint(msgspec.Struct, frozen=True):
    """The memory that a start writes to: that of the monitor, and that of the container's first process. It is the same
    each time, as all are copies of the launcher and do the same things in the same order."""

    monitor: bytes = b""
    first: bytes = b""


Request = Attach | Exec | Resize | Connect | Disconnect | Status
Answer = Reply | Failed | Started | ExecStarted | ExecExited | OutOfMemory | Warned | Exited
Order = Begin | Go | Connected
Word = Separated | Notice | Console | LeftToInit | Written | Failed

encode = msgspec.json.Encoder().encode
decode_start = msgspec.json.Decoder(Start).decode
decode_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
decode_answer: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
decode_order: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
decode_word: msgspec.json.Decoder[Word] = msgspec.json.Decoder(Word)
decode_footprint = msgspec.json.Decoder(Footprint).decode


def send(connection: socket.socket, message: msgspec.Struct, descriptors: tuple[int, ...] = ()) -> None:
    """One packet. BlockingIOError or BrokenPipeError when the other side does not read, or is gone."""
    packet = encode(message)
    if descriptors:
        socket.send_fds(connection, [packet], descriptors)
    else:
        connection.send(packet)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and its descriptors, which are close-on-exec; b"" when the other side is gone."""
    packet, ancillary, _, _ = connection.recvmsg(_PACKET_AT_MOST, _ANCILLARY_SPACE, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, descriptors.tolist()


def is_open(connection: socket.socket) -> bool:
    """Whether the other side is still there."""
    try:
        return connection.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True


def is_readable(sock: socket.socket) -> bool:
    """Whether there is something to be read, or on a listening socket somebody who connects."""
    return bool(select.select([sock], [], [], 0)[0])


def to_memfd(name: str, content: bytes) -> int:
    """A descriptor of a file in memory with this content."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.close(fd)
        raise
    return fd


def from_memfd(fd: int) -> bytes:
    """The content of such a file, which is closed."""
    try:
        size = os.fstat(fd).st_size
        content = os.pread(fd, size, 0)
        while len(content) < size:
            content += os.pread(fd, size - len(content), len(content))
        return content
    finally:
        os.close(fd)


# Why a process could not be started, in Docker's words.

NOT_FOUND = 127
NOT_EXECUTABLE = 126
CANNOT_START = 125

OF_USERS = ("unable to find ", "uids and gids must be in range ")
"""How messages begin that are about who is to run: Docker looks that up itself, and says nothing before them."""


class StartError(Exception):
    """``code`` is the exit code that stands for it: 127 not found, 126 not executable, 125 anything else."""

    def __init__(self, message: str, code: int = CANNOT_START) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def reason(error: OSError) -> str:
    """The errno's text as Docker's messages have it: in lower case ("no such file or directory")."""
    text = os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]


# The line between a process that is being started and its monitor. It closes when the program is executed.


class Channel:
    """The starting process's end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def wait_to_begin(self) -> tuple[bytes, int]:
        """Waits for what it is to become: an encoded Spec or Process, and the pidfd of whom it joins, or -1.

        Puts the standard streams in their places. Raises StartError when the monitor is gone.
        """
        order, descriptors = self._wait()
        assert isinstance(order, Begin)
        content = from_memfd(descriptors.pop(0))
        joined = descriptors.pop(0) if order.joins else -1
        for number, fd in zip(order.streams, descriptors, strict=True):
            os.dup2(fd, number)
            os.close(fd)
        return content, joined

    def wait_to_go(self) -> list[int]:
        """Waits for the container's cgroup, and for what is made outside of its user namespace: descriptors of it."""
        order, descriptors = self._wait()
        assert isinstance(order, Go)
        return descriptors

    def separated(self) -> None:
        """Tells the monitor which network namespace is to get the interfaces."""
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            send(self._socket, Separated(), (namespace,))
        finally:
            os.close(namespace)

    def wait_to_be_connected(self) -> None:
        """Waits for the network interfaces."""
        order, _ = self._wait()
        assert isinstance(order, Connected)

    def notice(self, text: str) -> None:
        """Something was refused that can be done without."""
        send(self._socket, Notice(text))

    def console(self, master: int) -> None:
        """Hands over the master of the process's terminal."""
        send(self._socket, Console(), (master,))

    def left_to_init(self, program: str, failures: int, id: int | None) -> None:
        """The rest is not said here: see LeftToInit."""
        send(self._socket, LeftToInit(program, id is not None), (failures, *(() if id is None else (id,))))

    def written(self, pages: bytes) -> None:
        """The memory that the start has written to."""
        send(self._socket, Written(pages))

    def failed(self, message: str, code: int) -> None:
        send(self._socket, Failed(message, code))

    @property
    def is_open(self) -> bool:
        """Whether the monitor is still there."""
        return is_open(self._socket)

    def _wait(self) -> tuple[Order, list[int]]:
        packet, descriptors = receive(self._socket)
        if not packet:
            raise StartError("the monitor is gone")
        return decode_order.decode(packet), descriptors


# The monitor's event loop: descriptors and what to call when they are ready. asyncio would cost 4 MB a container.

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANG_UP = select.EPOLLHUP | select.EPOLLERR

Callback = Callable[[int], None]


class Loop:
    """epoll and a table. A callback gets the events; HANG_UP is told to everybody."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Begins to watch, or changes what is watched."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stops watching; call it before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, seconds: float | None = None) -> None:
        """Waits until something is ready, or no longer than ``seconds``, and calls what belongs to it."""
        ready = [(fd, events, self._callbacks[fd]) for fd, events in self._epoll.poll(seconds)]
        for fd, events, callback in ready:
            # An earlier callback of this turn may have closed the descriptor, and its number may be another's by now.
            if self._callbacks.get(fd) is callback:
                callback(events)
