"""The line from a process that is being started back to its monitor. It closes when the program is executed."""

import socket

from wherry.runtime.protocol import Console, Failed, Notice, send


class Channel:
    """The starting process's end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def notice(self, text: str) -> None:
        """Something was refused that can be done without."""
        send(self._socket, Notice(text))

    def console(self, master: int) -> None:
        """Hands over the master of the process's terminal."""
        send(self._socket, Console(), (master,))

    def failed(self, message: str, code: int) -> None:
        send(self._socket, Failed(message, code))

    @property
    def is_open(self) -> bool:
        """Whether the monitor is still there."""
        try:
            return self._socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True

    def close(self) -> None:
        self._socket.close()
