"""Networks of an engine on this host: a host's network for one alone, and what a killed one leaves of its own."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from wherry.linux import namespaces, rtnetlink
from wherry.linux.nftables import BRIDGE, INET, Nftables, Table
from wherry.linux.rtnetlink import Route


def instance(data_root: Path) -> str:
    """What tells the bridges and tables of this engine from those of others."""
    return hashlib.sha256(str(data_root).encode()).hexdigest()[:6]


def interfaces(data_root: Path) -> list[str]:
    """The host's interfaces that are there of this engine, by the names that it gives them."""
    own = [f"wherry network {network}" for network in _networks(data_root / "state.db")]
    veth = f"veth{instance(data_root)[:4]}"
    with Route() as route:
        return [link.name for link in route.links() if link.alias in own or link.name.startswith(veth)]


def remove_networks(data_root: Path) -> None:
    """Its interfaces and its tables."""
    with Route() as route:
        for name in interfaces(data_root):
            found = route.link(name)
            if found is not None:
                route.execute(rtnetlink.delete_link(found.index))
    with Nftables() as firewall:
        for family in (INET, BRIDGE):
            table = Table(family, f"wherry-{instance(data_root)}")
            firewall.commit(table.create(), table.delete())


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace of its own, with a loopback and nothing else: what
    becomes of its firewall is nobody else's business."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        with Route() as route:
            route.execute(rtnetlink.bring_up(route.index("lo")))
        yield
    finally:
        namespaces.join(home, namespaces.CLONE_NEWNET)
        os.close(home)


def _networks(database: Path) -> list[str]:
    if not database.exists():
        return []
    with contextlib.closing(sqlite3.connect(database)) as state, contextlib.suppress(sqlite3.Error):
        return [network for (network,) in state.execute("SELECT id FROM networks")]
    return []
