"""Datagrams under way when a port is published or withdrawn: their senders are not to go on as if it were not."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable

from wherry.linux.conntrack import Conntrack
from wherry.linux.errors import SyscallError
from wherry.linux.rtnetlink import Route
from wherry.network.ruleset import Published

_VERSIONS = {4: socket.AF_INET, 6: socket.AF_INET6}


def decide_anew(ports: Iterable[Published]) -> None:
    """Has the kernel look at the rules again for what is sent to these ports by UDP. Elsewhere a connection that leads
    nowhere ends, and the next one finds its way."""
    wanted = [port for port in ports if port.protocol == "udp" and port.host_port]
    if not wanted:
        return
    with contextlib.suppress(SyscallError), Conntrack() as tracking, Route() as route:  # a kernel may have none
        own = {address.partition("/")[0] for _, address in route.addresses()}
        for port in wanted:
            host = ipaddress.ip_address(port.host_address)
            at = own if host.is_unspecified else {str(host)}
            flows = tracking.flows_to(_VERSIONS[host.version], socket.IPPROTO_UDP, port.host_port)
            tracking.forget(flow for flow in flows if flow.destination in at)
