import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.unit.network.test_dns import question
from wherry.network import dns
from wherry.network.dns import Asker, Directory, NameService


class Client:
    """The container's side."""

    def __init__(self, directory: Directory) -> None:
        self.asker = Asker()
        self.asker.networks = ("net",)
        udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.create_server(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        tcp.setblocking(False)
        self.at, self.by_tcp = udp.getsockname(), tcp.getsockname()
        self.service = NameService(directory)
        self.service.serve("box", self.asker, udp, tcp)

    async def ask(self, name: str, kind: int = dns.A, number: int = 7) -> tuple[int, list[str]]:
        """The answer's code and the addresses in it."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.connect(self.at)
            asked = question(name, kind, number=number)
            asking.send(asked)
            packet = await asyncio.wait_for(loop.sock_recv(asking, 4096), 5)
        assert packet[:2] == number.to_bytes(2, "big")
        assert packet[12 : len(asked)] == asked[12:]  # glibc does not take an answer without its question
        return dns.code_of(packet), addresses(packet, kind)


def addresses(packet: bytes, kind: int) -> list[str]:
    count = struct.unpack_from(">H", packet, 6)[0]
    size, family = (4, socket.AF_INET) if kind == dns.A else (16, socket.AF_INET6)
    end = len(packet)
    found = [packet[end - (index + 1) * (size + 12) + 12 :][:size] for index in range(count)]
    return [socket.inet_ntop(family, each) for each in reversed(found)]


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
async def client(directory: Directory) -> Iterator[Client]:
    made = Client(directory)
    yield made
    made.service.close()


async def test_a_name_and_what_it_has_not(client: Client, directory: Directory) -> None:
    directory.add("net", "1", ["web", "alias"], ["10.0.0.2", "fd00::2"])
    assert await client.ask("WEB") == (dns.NOERROR, ["10.0.0.2"])
    assert await client.ask("alias.net", dns.AAAA) == (dns.NOERROR, ["fd00::2"])
    assert await client.ask("web", 15) == (dns.NOERROR, [])
    assert await client.ask("nobody") == (dns.SERVFAIL, [])


async def test_an_answer_that_is_remembered_is_forgotten_at_a_change(client: Client, directory: Directory) -> None:
    directory.add("net", "1", ["web"], ["10.0.0.2"])
    assert [(await client.ask("web", number=n))[1] for n in (1, 2)] == [["10.0.0.2"]] * 2
    directory.add("net", "1", ["web"], ["10.0.0.9"])
    assert await client.ask("web") == (dns.NOERROR, ["10.0.0.9"])
    directory.remove("net", "1")
    assert await client.ask("web") == (dns.SERVFAIL, [])


async def test_addresses_go_round(client: Client, directory: Directory) -> None:
    for number in range(3):
        directory.add("net", str(number), ["web"], [f"10.0.0.{number}"])
    firsts = [(await client.ask("web"))[1][0] for _ in range(6)]
    assert sorted(set(firsts)) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]


async def test_links_are_the_askers_alone(client: Client, directory: Directory) -> None:
    directory.add("net", "1", ["db"], ["10.0.0.3"])
    client.asker.links = {"database": ("net", "db")}
    assert await client.ask("database") == (dns.NOERROR, ["10.0.0.3"])


async def test_other_networks_are_not_told_of(client: Client, directory: Directory) -> None:
    directory.add("other", "1", ["web"], ["10.0.0.3"])
    assert await client.ask("web") == (dns.SERVFAIL, [])


async def test_other_names_are_asked_for_upstream(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def by_udp(packet: bytes, server: str, opens: object) -> bytes | None:
        if server == "192.0.2.1":
            return None
        code = {"192.0.2.3": dns.SERVFAIL, "192.0.2.4": dns.REFUSED}.get(server, dns.NOERROR)
        records = [dns.address_record("203.0.113.1")] if code == dns.NOERROR else []
        return packet[:2] + dns.answer(dns.parse(packet), code, records, limit=512)

    monkeypatch.setattr(dns, "ask_by_udp", by_udp)
    for failing in ("192.0.2.1", "192.0.2.3", "192.0.2.4"):
        client.asker.servers = (failing, "192.0.2.2")
        assert await client.ask("example.com") == (dns.NOERROR, ["203.0.113.1"]), failing
    client.asker.servers = ("192.0.2.1",)
    assert (await client.ask("example.com"))[0] == dns.SERVFAIL
    client.asker.servers = ("192.0.2.4", "192.0.2.1")
    assert (await client.ask("example.com"))[0] == dns.REFUSED


async def test_many_addresses_by_tcp(client: Client, directory: Directory) -> None:
    for number in range(80):
        directory.add("net", str(number), ["many"], [f"10.0.0.{number}"])
    assert await client.ask("many") == (dns.NOERROR, [])
    reader, writer = await asyncio.open_connection(*client.by_tcp)
    asked = question("many", dns.A)
    writer.write(len(asked).to_bytes(2, "big") + asked)
    size = int.from_bytes(await reader.readexactly(2), "big")
    assert len(addresses(await reader.readexactly(size), dns.A)) == 80
    writer.close()
