"""The firewall's rules in the kernel: one transaction a change. What they are is in ``ruleset``."""

import contextlib
import errno
from collections.abc import Iterable

from wherry.linux.errors import SyscallError
from wherry.linux.netlink import Request
from wherry.linux.nftables import Nftables
from wherry.network import flows
from wherry.network.ruleset import (
    BridgeRules,
    Link,
    Published,
    Ruleset,
    interfaces,
    link_element,
    published_elements,
)


class Rules:
    """The tables of one engine, both of the name ``table``."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._ruleset = Ruleset(table)
        self._firewall = Nftables()
        self._made = False

    @classmethod
    def open(cls, table: str) -> "Rules | None":
        """None where the kernel has not all that is needed: tried in a transaction that is taken back."""
        with contextlib.suppress(OSError):
            rules = cls(table)
            try:
                rules._firewall.commit(*rules._ruleset.everything(), *rules._ruleset.nothing())
            except SyscallError:
                rules.close()
                raise
            return rules
        return None

    @property
    def port(self) -> int:
        """The address of the socket by which changes are made."""
        return self._firewall.port

    @property
    def bridges(self) -> list[str]:
        return list(self._ruleset.bridges)

    def close(self) -> None:
        self._firewall.close()

    def keep_apart(self, version: int, interfaces: Iterable[str]) -> None:
        """Nothing is forwarded between these interfaces: they were not connected before this host became a router."""
        self._ruleset.apart[version] = tuple(interfaces)

    def add_bridge(self, bridge: BridgeRules) -> None:
        self._ruleset.bridges[bridge.interface] = bridge
        self.write()

    def remove_bridge(self, interface: str) -> None:
        """With the last one the tables go, too."""
        if self._ruleset.bridges.pop(interface, None) is not None:
            if self._ruleset.bridges:
                self.write()
            elif self._made:
                self._firewall.commit(*self._ruleset.nothing())
                self._made = False

    def publish(self, ports: Iterable[Published]) -> None:
        new = dict.fromkeys(ports)
        self._ruleset.published |= new
        self._change(*published_elements(new, self._ruleset.inet.add))
        flows.decide_anew(new)

    def withdraw(self, ports: Iterable[Published]) -> None:
        old = [port for port in ports if port in self._ruleset.published]
        for port in old:
            del self._ruleset.published[port]
        self._change(*published_elements(old, self._ruleset.inet.remove))
        flows.decide_anew(old)

    def isolate(self, interface: str) -> None:
        """The port ``interface`` of a bridge without communication between its containers."""
        self._ruleset.isolated[interface] = None
        self._change(*self._ruleset.bridge.add("isolated", interfaces([interface])))

    def forget_port(self, interface: str) -> None:
        if interface in self._ruleset.isolated:
            del self._ruleset.isolated[interface]
            self._change(*self._ruleset.bridge.remove("isolated", interfaces([interface])))

    def link(self, links: Iterable[Link]) -> None:
        """Each is counted: two containers may be linked twice."""
        new = [each for each in links if not self._ruleset.links.get(each)]
        for each in links:
            self._ruleset.links[each] = self._ruleset.links.get(each, 0) + 1
        self._change(
            *self._ruleset.inet.add("links", map(link_element, new)),
            *self._ruleset.bridge.add("links", map(link_element, new)),
        )

    def unlink(self, links: Iterable[Link]) -> None:
        old = []
        for each in links:
            count = self._ruleset.links.get(each, 0) - 1
            if count > 0:
                self._ruleset.links[each] = count
            elif each in self._ruleset.links:
                del self._ruleset.links[each]
                old.append(link_element(each))
        self._change(*self._ruleset.inet.remove("links", old), *self._ruleset.bridge.remove("links", old))

    def write(self) -> None:
        """Everything anew, in one transaction: there is no moment without rules. Raises SyscallError."""
        if self._ruleset.bridges:
            self._firewall.commit(*self._ruleset.everything())
            self._made = True

    def _change(self, *requests: Request) -> None:
        if not requests or not self._made:
            return
        try:
            self._firewall.commit(*requests)
        except SyscallError as error:
            if error.errno not in (errno.ENOENT, errno.EEXIST):
                raise
            self.write()  # somebody has changed our table, and is overruled
