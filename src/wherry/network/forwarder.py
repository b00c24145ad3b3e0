"""Forwarding in user space, for what the kernel does not translate: from IPv6 to containers that have IPv4 alone, from
::1, and everything where the kernel has no nftables. It runs in the engine's own process, one for all ports."""

import asyncio
import contextlib
import socket
from typing import Any

_CHUNK = 1 << 16
_IDLE = 90.0  # seconds after which the sender of a datagram is forgotten; Docker's figure

Address = tuple[Any, ...]
"""As recvfrom gives it."""


class Forwarder:
    """What comes to ``listening``, a bound socket that stays the caller's to close, goes to (``address``, ``port``)."""

    def __init__(self, listening: socket.socket, address: str, port: int) -> None:
        self._socket = listening
        self._target = (address, port)
        self._loop = asyncio.get_running_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._peers: dict[Address, _Peer] = {}
        self._is_stream = listening.type == socket.SOCK_STREAM
        self._loop.add_reader(listening, self._accept if self._is_stream else self._receive)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        for task in self._connections:
            task.cancel()
        for peer in list(self._peers.values()):
            peer.close()
        self._peers.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._socket.accept()
            client.setblocking(False)
            task = self._loop.create_task(self._relay(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _relay(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(client)
            try:
                reader, writer = await asyncio.open_connection(*self._target)
                own_reader, own_writer = await asyncio.open_connection(sock=client)
            except OSError:
                return
            stack.callback(writer.close)
            stack.callback(own_writer.close)
            await asyncio.gather(_pump(own_reader, writer), _pump(reader, own_writer))

    def _receive(self) -> None:
        while True:
            try:
                data, sender = self._socket.recvfrom(_CHUNK)
            except OSError:
                return
            peer = self._peers.get(sender)
            if peer is None:
                try:
                    peer = self._peers[sender] = _Peer(self, sender, self._target)
                except OSError:
                    continue
            peer.send(data)

    def answer(self, data: bytes, peer: Address) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(data, peer)

    def forget(self, peer: Address) -> None:
        self._peers.pop(peer, None)


class _Peer:
    """One sender of datagrams, and the socket that stands for it before the container."""

    def __init__(self, forwarder: Forwarder, sender: Address, target: tuple[str, int]) -> None:
        self._forwarder, self._sender = forwarder, sender
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._receive)
        self._timer = self._loop.call_later(_IDLE, self.close)

    def send(self, data: bytes) -> None:
        self._stay()
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def close(self) -> None:
        self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        self._forwarder.forget(self._sender)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:
            return
        self._stay()
        self._forwarder.answer(data, self._sender)

    def _stay(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(_IDLE, self.close)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; the other is told, and may go on in its direction."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
