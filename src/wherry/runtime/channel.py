"""The line between a process that is being started and its monitor. It closes when the program is executed."""

import os
import socket

from wherry.runtime.errors import StartError
from wherry.runtime.protocol import (
    Begin,
    Connected,
    Console,
    Failed,
    Go,
    Notice,
    Order,
    Separated,
    Written,
    decode_order,
    from_memfd,
    is_open,
    receive,
    send,
)


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

    def wait_to_go(self) -> None:
        """Waits for the container's cgroup."""
        order, _ = self._wait()
        assert isinstance(order, Go)

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

    def written(self, pages: bytes) -> None:
        """The memory that the start has written to."""
        send(self._socket, Written(pages))

    def failed(self, message: str, code: int) -> None:
        send(self._socket, Failed(message, code))

    @property
    def is_open(self) -> bool:
        """Whether the monitor is still there."""
        return is_open(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _wait(self) -> tuple[Order, list[int]]:
        packet, descriptors = receive(self._socket)
        if not packet:
            raise StartError("the monitor is gone")
        return decode_order.decode(packet), descriptors
