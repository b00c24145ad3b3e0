"""Many datagrams in one system call each way, recvmmsg and sendmmsg; and what systemd is told by its socket.

batch = Batch(64, 1500)
for index in range(batch.receive(sock)):
    batch.answer(index, b"answer to " + batch.packet(index))
batch.send(sock)
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from ctypes import c_int, c_size_t, c_uint, c_void_p

from wherry.linux.syscalls import check, function, last_errno

_recvmmsg = function("recvmmsg", c_int, c_void_p, c_uint, c_int, c_void_p)
_sendmmsg = function("sendmmsg", c_int, c_void_p, c_uint, c_int)

_NAME = 16  # bytes of an address of IPv4
_WORD = ctypes.sizeof(c_size_t)


class _Vector(ctypes.Structure):
    _fields_ = (("base", c_void_p), ("length", c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", c_void_p),
        ("name_length", c_uint),
        ("vectors", c_void_p),
        ("vector_count", c_size_t),
        ("control", c_void_p),
        ("control_length", c_size_t),
        ("flags", c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", c_uint))


_WORDS, _INTS = ctypes.sizeof(_Message) // _WORD, ctypes.sizeof(_Message) // 4
_LENGTH = _Message.length.offset // 4


class _Half:
    """One direction: ``count`` messages of at most ``size`` bytes. The arrays are written to as numbers, which is much
    faster than field by field."""

    def __init__(self, count: int, size: int, names: int) -> None:
        self._buffer = ctypes.create_string_buffer(count * size)
        self._vectors, self._messages = (_Vector * count)(), (_Message * count)()
        self.at = ctypes.addressof(self._messages)
        for index in range(count):
            self._vectors[index] = _Vector(ctypes.addressof(self._buffer) + index * size, size)
            vector = ctypes.addressof(self._vectors) + index * ctypes.sizeof(_Vector)
            self._messages[index] = _Message(_Header(names + index * _NAME, _NAME, vector, 1))
        self.bytes = memoryview(self._buffer).cast("B")
        self.sizes = memoryview(self._vectors).cast("B").cast("P")  # each second
        self.words = memoryview(self._messages).cast("B").cast("P")  # each first is the address of a name
        self.ints = memoryview(self._messages).cast("B").cast("I")


class Batch:
    """Datagrams of IPv4 that are received together, and what is answered to them. Of ``size`` bytes at most."""

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        self._count = count
        self._names = ctypes.create_string_buffer(count * _NAME)
        self._at = ctypes.addressof(self._names)
        self._name_bytes = memoryview(self._names).cast("B")
        self._in, self._out = _Half(count, size, self._at), _Half(count, size, self._at)
        self._answers = 0

    def receive(self, sock: socket.socket) -> int:
        """How many there are, of those that are waiting: at most ``count``."""
        received = _recvmmsg(sock.fileno(), self._in.at, self._count, socket.MSG_DONTWAIT, None)
        if received < 0 and last_errno() in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
            return 0
        return check(received, "recvmmsg")

    def packet(self, index: int) -> bytes:
        start = index * self.size
        return self._in.bytes[start : start + self._in.ints[index * _INTS + _LENGTH]].tobytes()

    def sender(self, index: int) -> tuple[str, int]:
        name = self._name_bytes[index * _NAME : (index + 1) * _NAME].tobytes()
        return socket.inet_ntoa(name[4:8]), int.from_bytes(name[2:4], "big")

    def answer(self, index: int, packet: bytes) -> None:
        """Has this go to the sender of the one at ``index``."""
        position = self._answers
        start = position * self.size
        self._out.bytes[start : start + len(packet)] = packet
        self._out.sizes[position * 2 + 1] = len(packet)
        self._out.words[position * _WORDS] = self._at + index * _NAME
        self._answers += 1

    def send(self, sock: socket.socket) -> None:
        """The answers. One that the kernel does not take is lost, as datagrams are."""
        sent = 0
        while sent < self._answers:
            at = self._out.at + sent * ctypes.sizeof(_Message)
            sent += max(1, _sendmmsg(sock.fileno(), at, self._answers - sent, socket.MSG_DONTWAIT))
        self._answers = 0


# Network interfaces, as far as an ioctl is enough.

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def bring_up(name: str) -> None:
    """Sets the interface up, in this process's network namespace. OSError when there is none of that name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack("16sh14x", name.encode(), 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), flags | _IFF_UP))


# What systemd and its services say to each other: sockets that it opened, and what state the service is in.

_FIRST = 3  # the descriptor of the first socket


def take_sockets() -> list[socket.socket]:
    """The sockets that this process was started with; the second call, and programs started from here, find none."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdigit():
        return []
    found = [socket.socket(fileno=number) for number in range(_FIRST, _FIRST + int(count))]
    for each in found:
        each.set_inheritable(False)
        each.setblocking(False)
    return found


class Notifier:
    """Tells systemd of a service of the type "notify", and nobody where there is none."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        """Until ``ready`` is told again."""
        import time

        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(state.encode(), self._address)
