"""A container's network: interfaces made in its namespace, addresses and routes set, and its resolver's sockets.

The engine has decided everything; here it is done, by the monitor, while the container's first process builds its root.
Nothing moves between namespaces: one end of a veth pair is made on the bridge and the other in the container at once.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from wherry.linux import namespaces, rtnetlink
from wherry.linux import nft_expressions as nft
from wherry.linux.namespaces import NetworkNamespace
from wherry.linux.netlink import Request
from wherry.linux.nftables import IPV4, OUTPUT, Hook, Nftables, Table
from wherry.linux.rtnetlink import Route
from wherry.linux.syscalls import SyscallError
from wherry.runtime.ipc import StartError
from wherry.runtime.spec import Interface

RESOLVER = "127.0.0.11"
"""Where containers find the name service, as with Docker."""

_T = TypeVar("_T")

_RESOLVER_PORT = 53
_TABLE = Table(IPV4, "wherry")
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


class NetworkSetup:
    """The network namespace ``namespace`` (a descriptor, which becomes this object's), seen from that of the bridges:
    this process's own, or the one of the file ``bridges``, in which all is done then."""

    def __init__(self, namespace: int, bridges: str = "") -> None:
        self._namespace = namespace
        self._elsewhere = NetworkNamespace(bridges) if bridges else None
        self._home = os.open(bridges or "/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._made: dict[str, int] = {}  # by their names in the container, the indices of our ends
        self._resolver: tuple[socket.socket, socket.socket] | None = None

    @property
    def resolver(self) -> tuple[int, ...]:
        """The descriptors of the name service's UDP and TCP socket; none when they have not been opened."""
        return tuple(each.fileno() for each in self._resolver) if self._resolver is not None else ()

    def set_up(self, interfaces: Sequence[Interface], *, resolver: bool) -> None:
        """All that a container starts with. Raises SyscallError and StartError."""

        def make() -> None:
            for interface in interfaces:
                self._connect(interface)
            if resolver:
                self._open_resolver()

        self._at_home(make)

    def connect(self, interface: Interface) -> None:
        """Makes an interface. Raises SyscallError, and then there is nothing of it."""
        self._at_home(lambda: self._connect(interface))

    def _connect(self, interface: Interface) -> None:
        with Route() as host:
            try:
                host.execute(self._creation(host, interface))
            except SyscallError as error:
                if error.errno != errno.EEXIST or not interface.host_name:
                    raise
                # Left by a start of the same container that was cut off.
                host.execute(rtnetlink.delete_link(host.index(interface.host_name)))
                host.execute(self._creation(host, interface))
            try:
                if interface.kind == "veth":
                    _plug(host, interface)
                self._configure(interface)
            except OSError:
                self._remove(interface.name)
                raise
            if interface.host_name:
                self._made[interface.name] = host.index(interface.host_name)

    def disconnect(self, name: str, routes: Sequence[tuple[str, str]]) -> None:
        """Removes an interface; ``routes`` are the default gateways from then on, each with its interface's name."""

        def undo() -> None:
            self._remove(name)
            self._made.pop(name, None)
            with self._inside(), Route() as inner:
                for interface, gateway in routes:
                    inner.execute(_default_route(inner.index(interface), gateway))

        self._at_home(undo)

    def open_resolver(self) -> None:
        """Opens the name service's sockets at 127.0.0.11 in the container, unless they are open.

        On ports of the kernel's choice, to which port 53 is redirected: a container that runs a name server of its own
        has every port for itself. Where the kernel has no nftables they are at port 53.
        """
        if self._resolver is None:
            self._at_home(self._open_resolver)

    def _open_resolver(self) -> None:
        with self._inside():
            sockets = _bind_resolver(0)
            try:
                _redirect(*(each.getsockname()[1] for each in sockets))
            except OSError:
                sockets = _bind_resolver(_RESOLVER_PORT)
        sockets[1].listen()
        self._resolver = sockets

    def remove(self) -> None:
        """Takes our ends away at once. The kernel would do it too, some time after the last process has ended, and
        until then an address that is given to another container would be there twice."""
        if self._made:
            with contextlib.suppress(SyscallError), self._at_home(Route) as host:
                host.execute(*(rtnetlink.delete_link(index) for index in self._made.values()))
            self._made.clear()

    def _creation(self, host: Route, wanted: Interface) -> Request:
        if wanted.kind == "veth":
            return rtnetlink.veth(
                wanted.host_name,
                peer=wanted.name,
                namespace=self._namespace,
                mtu=wanted.mtu,
                peer_mac=wanted.mac,
            )
        modes = rtnetlink.MACVLAN_MODES if wanted.kind == "macvlan" else rtnetlink.IPVLAN_MODES
        return rtnetlink.child(
            wanted.kind,
            wanted.name,
            parent=host.index(wanted.parent),
            namespace=self._namespace,
            mode=modes[wanted.mode],
            mac=wanted.mac,
            mtu=wanted.mtu,
        )

    def _configure(self, wanted: Interface) -> None:
        with self._inside(), Route() as inner:
            index = inner.index(wanted.name)
            has_ipv6 = any(":" in address for address in wanted.addresses)
            # Before it is up, or it gives itself an address: a container has IPv6 when its network has.
            _write_sysctl(f"net/ipv6/conf/{wanted.name}/disable_ipv6", str(int(not has_ipv6)), optional=True)
            if has_ipv6:
                _write_sysctl(f"net/ipv6/conf/{wanted.name}/accept_ra", "0", optional=True)
                _write_sysctl(f"net/ipv6/conf/{wanted.name}/accept_dad", "0", optional=True)  # nobody has its addresses
            for name, value in wanted.sysctls.items():
                _write_sysctl(name, value, optional=False)
            inner.execute(
                rtnetlink.bring_up(index),
                *(rtnetlink.add_address(index, address) for address in wanted.addresses),
                *(rtnetlink.replace_route(to, interface=index, gateway=by) for to, by in wanted.routes),
                *(_default_route(index, gateway) for gateway in wanted.gateways),
            )

    def _remove(self, name: str) -> None:
        with self._inside(), Route() as inner:
            found = inner.link(name)
            if found is not None:
                inner.execute(rtnetlink.delete_link(found.index))

    def _at_home(self, work: Callable[[], _T]) -> _T:
        return work() if self._elsewhere is None else self._elsewhere.run(work)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Enters the container's namespace: sockets made there, and /proc/sys/net, are its own."""
        namespaces.join(self._namespace, namespaces.CLONE_NEWNET)
        try:
            yield
        finally:
            namespaces.join(self._home, namespaces.CLONE_NEWNET)


def _default_route(index: int, gateway: str) -> Request:
    """``gateway`` "" is for links on which everything is reached directly (ipvlan's l3)."""
    version = 6 if ":" in gateway else 4
    return rtnetlink.replace_route(_EVERYTHING[version], interface=index, gateway=gateway)


def _bind_resolver(port: int) -> tuple[socket.socket, socket.socket]:
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    udp.bind((RESOLVER, port))
    tcp.bind((RESOLVER, port))
    return udp, tcp


def _redirect(udp: int, tcp: int) -> None:
    """What the namespace's processes send to 127.0.0.11:53 goes to these ports."""
    address = socket.inet_aton(RESOLVER)
    requests = [_TABLE.create(), _TABLE.chain("resolver", Hook("nat", OUTPUT, -100))]
    for protocol, port in ((socket.IPPROTO_UDP, udp), (socket.IPPROTO_TCP, tcp)):
        asked = nft.load_destination(4) + nft.compare(address) + nft.is_protocol(protocol)
        asked += nft.load_destination_port() + nft.compare(nft.be(_RESOLVER_PORT, 2))
        target = nft.load_constant(address) + nft.load_constant(nft.be(port, 2), nft.FIRST + 1)
        translate = nft.translate_destination(4, nft.FIRST, nft.FIRST + 1)
        requests.append(_TABLE.rule("resolver", asked, target, translate))
    with Nftables() as firewall:
        firewall.commit(*requests)


def _plug(host: Route, wanted: Interface) -> None:
    """Makes our end a port of its bridge. Of IPv6 a port has nothing but addresses and routes, which the kernel walks
    through at every start and end of another one."""
    _write_sysctl(f"net/ipv6/conf/{wanted.host_name}/disable_ipv6", "1", optional=True)
    host.execute(
        rtnetlink.bring_up_port(wanted.host_name, host.index(wanted.parent)),
        *([rtnetlink.hairpin(wanted.host_name)] if wanted.hairpin else ()),
    )


def _write_sysctl(name: str, value: str, *, optional: bool) -> None:
    """``name`` with slashes. ``optional``: a kernel without it (IPv6 may be left out) is as well."""
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        if not optional:
            raise StartError(f"sysctl {name.replace('/', '.')} cannot be set to {value!r}: {error.strerror}") from None
