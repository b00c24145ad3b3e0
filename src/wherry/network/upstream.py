"""Questions passed on to other name servers, each on a socket of its own: nobody can guess both its port and its number
(RFC 5452)."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable

from wherry.linux import namespaces

_SECONDS = 4.0
_PORT = 53

Opener = Callable[[int, int], Awaitable[socket.socket]]
"""Makes a socket of a family and a kind."""

Way = Callable[[bytes, str, Opener], Awaitable[bytes | None]]
"""A packet, a server's address, and who opens the socket; the server's answer, None when there is none."""


async def open_here(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind)


def open_inside(pid: int) -> Opener:
    """In the network namespace of a process: for servers that a container names, which may be reached from there alone.

    Only a thread goes there, and it comes back.
    """

    def enter_and_open(family: int, kind: int) -> socket.socket:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.join_of(pid, "net")
            try:
                return socket.socket(family, kind)
            finally:
                namespaces.join(home, namespaces.CLONE_NEWNET)
        finally:
            os.close(home)

    async def open_there(family: int, kind: int) -> socket.socket:
        return await asyncio.to_thread(enter_and_open, family, kind)

    return open_there


async def by_udp(packet: bytes, server: str, opens: Opener) -> bytes | None:
    number, own = packet[:2], os.urandom(2)
    try:
        with await _connect(server, socket.SOCK_DGRAM, opens) as asking:
            asking.send(own + packet[2:])
            async with asyncio.timeout(_SECONDS):
                while True:
                    await _readable(asking)
                    answered = asking.recv(1 << 16)
                    if answered[:2] == own and len(answered) >= 12:
                        return number + answered[2:]
    except (OSError, TimeoutError):
        return None


async def by_tcp(packet: bytes, server: str, opens: Opener) -> bytes | None:
    try:
        async with asyncio.timeout(_SECONDS):
            loop = asyncio.get_running_loop()
            asking = await opens(_family(server), socket.SOCK_STREAM)
            with asking:
                asking.setblocking(False)
                await loop.sock_connect(asking, (server, _PORT))
                reader, writer = await asyncio.open_connection(sock=asking)
                with contextlib.closing(writer):
                    writer.write(len(packet).to_bytes(2, "big") + packet)
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    return await reader.readexactly(size)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None


async def _connect(server: str, kind: int, opens: Opener) -> socket.socket:
    asking = await opens(_family(server), kind)
    try:
        asking.setblocking(False)
        asking.connect((server, _PORT))
    except OSError:
        asking.close()
        raise
    return asking


def _family(server: str) -> int:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


async def _readable(waiting: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(waiting, wake)
    try:
        await ready
    finally:
        loop.remove_reader(waiting)
