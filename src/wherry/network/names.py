"""The name service: what containers on user-defined networks ask at 127.0.0.11.

The sockets are in the containers' network namespaces; this process answers on all of them. Names of containers it knows
from the directory; with any other name it goes to the upstream servers and passes on what they say, as it is.

An answer is worked out once and then kept, as bytes, under the bytes of its question: until something in the directory
changes, the same question costs a look into a dict.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

from wherry.linux.datagrams import Batch
from wherry.network import dns, upstream
from wherry.network.directory import Directory

_REMEMBERED = 512  # answers of one container
_AT_ONCE = 64  # datagrams that one container is answered before others have their turn
_PACKET = 1232  # bytes of a datagram, which every network takes: the figure of "DNS flag day"
_UNDER_WAY = 1024  # questions to upstream servers, of one container; Docker's figure
_TCP_SECONDS = 10.0


class Asker:
    """A container that asks. All of it may be changed while it is being served."""

    def __init__(self) -> None:
        self.networks: tuple[str, ...] = ()
        self.links: dict[str, tuple[str, str]] = {}
        """Names that only this container has for others: the network, and the other's name on it."""
        self.servers: tuple[str, ...] = ()
        self.opens: upstream.Opener = upstream.open_here
        """Makes the sockets to ``servers``: in this namespace, or in the container's."""


class NameService:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._batch = Batch(_AT_ONCE, _PACKET)
        self._served: dict[str, _Served] = {}

    def serve(self, container: str, asker: Asker, udp: socket.socket, tcp: socket.socket) -> None:
        """Answers on these sockets from now on, and closes them in the end."""
        self.stop(container)
        self._served[container] = _Served(self._directory, self._batch, asker, udp, tcp)

    def asker(self, container: str) -> Asker | None:
        served = self._served.get(container)
        return served.asker if served is not None else None

    def stop(self, container: str) -> None:
        served = self._served.pop(container, None)
        if served is not None:
            served.close()

    def close(self) -> None:
        for container in list(self._served):
            self.stop(container)


class _Served:
    def __init__(
        self, directory: Directory, batch: Batch, asker: Asker, udp: socket.socket, tcp: socket.socket
    ) -> None:
        self.asker = asker
        self._directory, self._batch = directory, batch
        self._udp, self._tcp = udp, tcp
        self._loop = asyncio.get_running_loop()
        self._changes = -1
        self._state: tuple[object, ...] = ()
        self._answers: dict[bytes, Iterator[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(udp, self._hear)
        self._loop.add_reader(tcp, self._accept)

    def close(self) -> None:
        for each in (self._udp, self._tcp):
            self._loop.remove_reader(each)
            each.close()
        for task in self._tasks:
            task.cancel()

    def _hear(self) -> None:
        batch = self._batch
        self._forget_what_changed()
        for index in range(batch.receive(self._udp)):
            packet = batch.packet(index)
            known = self._answers.get(packet[2:])
            answered = packet[:2] + next(known) if known is not None else self._answer(packet, dns.SMALL)
            if answered is None:
                self._spawn(self._ask_for(packet, batch.sender(index)))
            else:
                batch.answer(index, answered)
        batch.send(self._udp)

    def _forget_what_changed(self) -> None:
        asker = self.asker
        state = (asker.networks, tuple(asker.links.items()), asker.servers)
        if self._changes != self._directory.changes or state != self._state:
            self._changes, self._state = self._directory.changes, state
            self._answers.clear()

    def _answer(self, packet: bytes, limit: int) -> bytes | None:
        """What can be said without asking anybody; None when somebody has to be asked."""
        if len(packet) < 12:
            return b""
        try:
            question = dns.parse(packet)
        except dns.Malformed:
            return dns.refusal(packet, dns.FORMERR)
        if not question.is_query:
            return packet[:2] + dns.answer(question, dns.NOTIMP, [], limit=limit)
        found = self._records(question)
        if found is None:
            if self.asker.servers:
                return None
            return packet[:2] + dns.answer(question, dns.NXDOMAIN, [], limit=limit)
        limit = max(limit, min(question.size, _PACKET))
        turns = [found[start:] + found[:start] for start in range(len(found))] or [found]
        answers = itertools.cycle([dns.answer(question, dns.NOERROR, turn, limit=limit) for turn in turns])
        if len(self._answers) < _REMEMBERED and limit < 1 << 16:
            self._answers[packet[2:]] = answers
        return packet[:2] + next(answers)

    def _records(self, question: dns.Question) -> list[bytes] | None:
        """The records of a name that is known, of the kind that is asked for; None when it is not known."""
        asker = self.asker
        if question.kind == dns.PTR:
            address = dns.asked_address(question.name)
            name = self._directory.reverse(asker.networks, address) if address else None
            return [dns.pointer_record(name)] if name else None
        addresses = None
        if question.name in asker.links:
            network, name = asker.links[question.name]
            addresses = self._directory.look_up((network,), name.lower())
        if addresses is None:
            addresses = self._directory.look_up(asker.networks, question.name)
        if addresses is None:
            return None
        wanted = {dns.A: (False,), dns.AAAA: (True,), dns.ANY: (False, True)}.get(question.kind, ())
        return [dns.address_record(address) for address in addresses if (":" in address) in wanted]

    async def _ask_for(self, packet: bytes, asker: tuple[Any, ...]) -> None:
        answered = await self._ask_upstream(packet, upstream.by_udp)
        with contextlib.suppress(OSError):
            self._udp.sendto(answered, asker)

    async def _ask_upstream(self, packet: bytes, by: upstream.Way) -> bytes:
        """What the first server says that says something; else a failure, with the question, or glibc goes on
        waiting."""
        failed = packet[:2] + dns.answer(dns.parse(packet), dns.SERVFAIL, [], limit=dns.SMALL)
        if len(self._tasks) > _UNDER_WAY:
            return failed
        for server in self.asker.servers:
            answered = await by(packet, server, self.asker.opens)
            if answered is None:
                continue
            if dns.code_of(answered) not in (dns.SERVFAIL, dns.REFUSED):
                return answered
            failed = answered
        return failed

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._tcp.accept()
            client.setblocking(False)
            self._spawn(self._converse(client))

    async def _converse(self, client: socket.socket) -> None:
        """Questions over TCP, one after the other, each with its length before it."""
        with client, contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                while True:
                    size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), _TCP_SECONDS), "big")
                    packet = await asyncio.wait_for(reader.readexactly(size), _TCP_SECONDS)
                    answered = self._answer(packet, 1 << 16)
                    if answered is None:
                        answered = await self._ask_upstream(packet, upstream.by_tcp)
                    writer.write(len(answered).to_bytes(2, "big") + answered)
                    await writer.drain()
            finally:
                writer.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
