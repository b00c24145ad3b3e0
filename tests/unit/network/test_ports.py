import errno
import socket
from collections.abc import Iterator

import pytest

from wherry.network.ports import Held, Ports, PortTaken, Wanted

LOCAL = ("127.0.0.1",)


@pytest.fixture
def ports() -> Iterator[Ports]:
    yield Ports()


def hold(ports: Ports, first: int = 0, last: int = 0, protocol: str = "tcp") -> Held:
    (held,) = ports.hold([Wanted(80, protocol, LOCAL, first, last or first)])
    return held


def test_a_port_that_is_held_is_nobody_elses(ports: Ports) -> None:
    held = hold(ports)
    with pytest.raises(PortTaken, match=f"Bind for 127.0.0.1:{held.host_port} failed: port is already allocated"):
        hold(ports, held.host_port)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError) as refused:
            other.bind(("127.0.0.1", held.host_port))
            other.listen()
        assert refused.value.errno == errno.EADDRINUSE
    ports.release([held])
    ports.release([hold(ports, held.host_port)])


def test_who_reaches_a_held_port_is_refused(ports: Ports) -> None:
    held = hold(ports)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", held.host_port), 1)
    ports.release([held])


def test_a_port_that_somebody_else_has(ports: Ports) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortTaken, match="address already in use"):
        hold(ports, other.getsockname()[1])


def test_a_range_gives_the_first_that_is_free(ports: Ports) -> None:
    first = hold(ports)
    second = hold(ports, first.host_port, first.host_port + 5)
    assert first.host_port < second.host_port <= first.host_port + 5
    with pytest.raises(PortTaken, match="already allocated"):
        hold(ports, first.host_port, first.host_port)
    ports.release([first, second])


def test_all_or_none(ports: Ports) -> None:
    taken = hold(ports)
    other = hold(ports)
    ports.release([other])
    with pytest.raises(PortTaken):
        ports.hold([Wanted(1, "tcp", LOCAL, other.host_port, other.host_port),
                    Wanted(2, "tcp", LOCAL, taken.host_port, taken.host_port)])  # fmt: skip
    ports.release([hold(ports, other.host_port), taken])


def test_protocols_do_not_meet(ports: Ports) -> None:
    tcp = hold(ports)
    udp = hold(ports, tcp.host_port, protocol="udp")
    assert udp.host_port == tcp.host_port
    ports.release([tcp, udp])


def test_all_addresses_get_the_same_port(ports: Ports) -> None:
    held = ports.hold([Wanted(80, "tcp", ("127.0.0.1", "127.0.0.2"))])
    assert len({each.host_port for each in held}) == 1
    ports.release(held)
