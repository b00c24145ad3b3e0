"""Datagrams under way when a port is published or withdrawn: their senders are not to go on as if it were not."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable

from wherry.linux.conntrack import Conntrack
from wherry.linux.rtnetlink import Route
from wherry.network.ruleset import Published

_VERSIONS = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = ("0.0.0.0", "::")


def decide_anew(ports: Iterable[Published]) -> None:
    """Has the kernel look at the rules again for what is sent to these ports by UDP, soon: it has to look through all
    that it remembers. Elsewhere a connection that leads nowhere ends, and the next one finds its way."""
    wanted = {(each.host_address, each.host_port) for each in ports if each.protocol == "udp" and each.host_port}
    if wanted:
        asyncio.get_running_loop().run_in_executor(None, _forget, wanted)


def _forget(ports: set[tuple[str, int]]) -> None:
    with contextlib.suppress(OSError), Conntrack() as tracking, Route() as route:  # a kernel may have none
        own = {address.partition("/")[0] for _, address in route.addresses()}
        for version in {ipaddress.ip_address(address).version for address, _ in ports}:
            any_address = _ANY[version == 6]
            tracking.forget(
                flow
                for flow in tracking.flows(_VERSIONS[version], socket.IPPROTO_UDP)
                if (flow.destination, flow.port) in ports
                or ((any_address, flow.port) in ports and flow.destination in own)
            )
