"""DNS messages, as much of them as a name service for containers needs (RFC 1035, and 6891 for the size of answers)."""

import asyncio
import contextlib
import ipaddress
import itertools
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from wherry.linux.namespaces import NetworkNamespace
from wherry.linux.sockets import Batch

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
_IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

_HEADER = struct.Struct(">HHHHHH")
_QUESTION = struct.Struct(">HH")
_RECORD = struct.Struct(">HHIH")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_POINTER = 0xC0
_NAME_OF_QUESTION = b"\xc0\x0c"  # a pointer to right behind the header
_TTL = 600  # seconds; Docker's figure
SMALL = 512
"""Bytes of an answer over UDP to who does not say that he takes more."""


class Malformed(Exception):
    pass


class Question(NamedTuple):
    """``name`` without the dot at its end, in lower case; ``size`` is how large an answer over UDP may be; ``section``
    the question as it was put, since it is repeated in the answer."""

    name: str
    kind: int
    flags: int
    size: int
    section: bytes

    @property
    def is_query(self) -> bool:
        return not self.flags & _OPCODE


def parse(packet: bytes) -> Question:
    """Raises Malformed."""
    try:
        _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
        if flags & _RESPONSE or questions != 1:
            raise Malformed
        labels, offset = [], _HEADER.size
        while length := packet[offset]:
            if length >= _POINTER:
                raise Malformed
            labels.append(packet[offset + 1 : offset + 1 + length].decode("latin-1"))
            offset += 1 + length
        kind, _ = _QUESTION.unpack_from(packet, offset + 1)
        end = offset + 1 + _QUESTION.size
        size = SMALL
        if additional and not answers and not authorities and packet[end] == 0:
            record, limit = struct.unpack_from(">HH", packet, end + 1)
            if record == OPT:
                size = max(SMALL, limit)
    except (struct.error, IndexError):
        raise Malformed from None
    return Question(".".join(labels).lower(), kind, flags, size, packet[_HEADER.size : end])


def answer(question: Question, code: int, records: list[bytes], *, limit: int) -> bytes:
    """Everything behind the first two bytes, which are the query's own. What does not fit in ``limit`` bytes is left
    out, and the asker is told to ask again by TCP."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | question.flags & (_RECURSION_DESIRED | _OPCODE) | code
    if code in (NOERROR, NXDOMAIN):
        flags |= _AUTHORITATIVE
    body = question.section + b"".join(records)
    if _HEADER.size + len(body) > limit:
        flags, records, body = flags | _TRUNCATED, [], question.section
    return _HEADER.pack(0, flags, 1, len(records), 0, 0)[2:] + body


def refusal(packet: bytes, code: int) -> bytes:
    """A whole answer to a packet that cannot be read further than its header."""
    number, flags = struct.unpack_from(">HH", packet)
    return _HEADER.pack(
        number, _RESPONSE | _RECURSION_AVAILABLE | flags & (_RECURSION_DESIRED | _OPCODE) | code, 0, 0, 0, 0
    )


def address_record(address: str) -> bytes:
    packed = ipaddress.ip_address(address).packed
    kind = A if len(packed) == 4 else AAAA
    return _NAME_OF_QUESTION + _RECORD.pack(kind, _IN, _TTL, len(packed)) + packed


def pointer_record(name: str) -> bytes:
    encoded = b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.split(".")) + b"\0"
    return _NAME_OF_QUESTION + _RECORD.pack(PTR, _IN, _TTL, len(encoded)) + encoded


def asked_address(name: str) -> str:
    """The address that a reverse look-up is for, "" when the name is not one."""
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if name.endswith(".ip6.arpa") and len(labels) == 34:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("".join(reversed(labels[:32]))))
    except ValueError:
        return ""
    return ""


def code_of(packet: bytes) -> int:
    return packet[3] & 0x0F if len(packet) > 3 else SERVFAIL


# Who is called what on which network. What the name service looks up, and the engine keeps current.


class Entry(NamedTuple):
    """One endpoint. The first of its names is what a reverse look-up gives."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]


class Directory:
    """``changes`` counts, so that who has remembered an answer sees that it may not hold any more."""

    def __init__(self) -> None:
        self.changes = 0
        self._entries: dict[tuple[str, str], Entry] = {}
        self._by_name: dict[tuple[str, str], dict[str, None]] = {}
        self._by_address: dict[tuple[str, str], str] = {}

    def add(self, network: str, endpoint: str, names: Iterable[str], addresses: Iterable[str]) -> None:
        """Adds the endpoint's names in place of those it had."""
        self.remove(network, endpoint)
        entry = Entry(tuple(dict.fromkeys(name.lower() for name in names)), tuple(filter(None, addresses)))
        self._entries[network, endpoint] = entry
        for name in entry.names:
            self._by_name.setdefault((network, name), {})[endpoint] = None
        for address in entry.addresses:
            self._by_address[network, address] = endpoint
        self.changes += 1

    def remove(self, network: str, endpoint: str) -> None:
        entry = self._entries.pop((network, endpoint), None)
        if entry is None:
            return
        for name in entry.names:
            found = self._by_name[network, name]
            del found[endpoint]
            if not found:
                del self._by_name[network, name]
        for address in entry.addresses:
            self._by_address.pop((network, address), None)
        self.changes += 1

    def look_up(self, networks: Sequence[str], name: str) -> list[str] | None:
        """All addresses of the first network that knows the name, which may end in the network's own name."""
        for network in networks:
            for known in (name, name.removesuffix(f".{network.lower()}")):
                endpoints = self._by_name.get((network, known))
                if endpoints:
                    return [address for each in endpoints for address in self._entries[network, each].addresses]
        return None

    def reverse(self, networks: Sequence[str], address: str) -> str | None:
        """ "web.mynet" for an address on one of the networks."""
        for network in networks:
            endpoint = self._by_address.get((network, address))
            if endpoint is not None:
                return f"{self._entries[network, endpoint].names[0]}.{network}"
        return None


# Questions passed on to other name servers, each on a socket of its own: nobody can guess both its port and its number
# (RFC 5452).

_SECONDS = 4.0
_PORT = 53

Opener = Callable[[int, int], Awaitable[socket.socket]]
"""Makes a socket of a family and a kind."""

Way = Callable[[bytes, str, Opener], Awaitable[bytes | None]]
"""A packet, a server's address, and who opens the socket; the server's answer, None when there is none."""


async def open_here(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind)


def open_inside(pid: int) -> Opener:
    """In the network namespace of a process: for servers that a container names, which may be reached from there
    alone."""
    inside = NetworkNamespace(f"/proc/{pid}/ns/net")

    async def open_there(family: int, kind: int) -> socket.socket:
        return await asyncio.to_thread(inside.run, lambda: socket.socket(family, kind))

    return open_there


async def ask_by_udp(packet: bytes, server: str, opens: Opener) -> bytes | None:
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


async def ask_by_tcp(packet: bytes, server: str, opens: Opener) -> bytes | None:
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


# The name service: what containers on user-defined networks ask at 127.0.0.11.
#
# The sockets are in the containers' network namespaces; this process answers on all of them. Names of containers it
# knows from the directory; with any other name it goes to the upstream servers and passes on what they say, as it is.
#
# An answer is worked out once and then kept, as bytes, under the bytes of its question: until something in the
# directory changes, the same question costs a look into a dict.

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
        self.opens: Opener = open_here
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
            answered = packet[:2] + next(known) if known is not None else self._answer(packet, SMALL)
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
            question = parse(packet)
        except Malformed:
            return refusal(packet, FORMERR)
        if not question.is_query:
            return packet[:2] + answer(question, NOTIMP, [], limit=limit)
        found = self._records(question)
        if found is None:
            if self.asker.servers:
                return None
            return packet[:2] + answer(question, SERVFAIL, [], limit=limit)  # nobody here knows that there is none
        limit = max(limit, min(question.size, _PACKET))
        turns = [found[start:] + found[:start] for start in range(len(found))] or [found]
        answers = itertools.cycle([answer(question, NOERROR, turn, limit=limit) for turn in turns])
        if len(self._answers) < _REMEMBERED and limit < 1 << 16:
            self._answers[packet[2:]] = answers
        return packet[:2] + next(answers)

    def _records(self, question: Question) -> list[bytes] | None:
        """The records of a name that is known, of the kind that is asked for; None when it is not known."""
        asker = self.asker
        if question.kind == PTR:
            address = asked_address(question.name)
            name = self._directory.reverse(asker.networks, address) if address else None
            return [pointer_record(name)] if name else None
        addresses = None
        if question.name in asker.links:
            network, name = asker.links[question.name]
            addresses = self._directory.look_up((network,), name.lower())
        if addresses is None:
            addresses = self._directory.look_up(asker.networks, question.name)
        if addresses is None:
            return None
        wanted = {A: (False,), AAAA: (True,), ANY: (False, True)}.get(question.kind, ())
        return [address_record(address) for address in addresses if (":" in address) in wanted]

    async def _ask_for(self, packet: bytes, asker: tuple[Any, ...]) -> None:
        answered = await self._ask_upstream(packet, ask_by_udp)
        with contextlib.suppress(OSError):
            self._udp.sendto(answered, asker)

    async def _ask_upstream(self, packet: bytes, by: Way) -> bytes:
        """What the first server says that says something; else a failure, with the question, or glibc goes on
        waiting."""
        failed = packet[:2] + answer(parse(packet), SERVFAIL, [], limit=SMALL)
        if len(self._tasks) > _UNDER_WAY:
            return failed
        for server in self.asker.servers:
            answered = await by(packet, server, self.asker.opens)
            if answered is None:
                continue
            if code_of(answered) not in (SERVFAIL, REFUSED):
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
                        answered = await self._ask_upstream(packet, ask_by_tcp)
                    writer.write(len(answered).to_bytes(2, "big") + answered)
                    await writer.drain()
            finally:
                writer.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
